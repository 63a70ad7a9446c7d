package admission

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/controller-runtime/pkg/webhook/conversion"

	"github.com/fairway-lb/fairway/api/v1alpha1"
	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/admission/certificate"
)

// Names that config/ uses, too.
const (
	serviceName       = "fairway-webhook"
	secretName        = "fairway-webhook-cert"
	configurationName = "fairway-admission"

	eipPath        = "/validate-network-kubesphere-io-v1alpha2-eip"
	servicePath    = "/validate-v1-service"
	conversionPath = "/convert"
)

// maxConversionBytes bounds what one request can make the controller hold in
// memory. The largest is a list of all objects of a kind; an Eip whose 10,000
// addresses are in use takes half a megabyte.
const maxConversionBytes = 16 << 20

// Options are the settings of admission.
type Options struct {
	// Namespace is where Fairway's Service and Secret for admission are.
	Namespace string
	// Port is the TCP port to serve on.
	Port int
	// CertDir holds tls.crt and tls.key, if they and the trust in them are
	// not Fairway's affair; otherwise it is empty.
	CertDir string
	// DefaultLoadBalancer says that Services of no class are Fairway's.
	DefaultLoadBalancer bool
}

// Setup has the manager serve admission and conversion.
func Setup(mgr manager.Manager, o Options) error {
	log := mgr.GetLogger().WithName("admission")
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("registering the kinds for admission: %w", err)
		}
	}
	s := &server{log: log}
	serving := webhook.Options{Port: o.Port, CertDir: o.CertDir}
	if o.CertDir == "" {
		keeper, err := certificate.NewKeeper(mgr.GetConfig(), certificate.Options{
			Namespace:     o.Namespace,
			Secret:        secretName,
			Service:       serviceName,
			Configuration: configurationName,
			CRDs:          []string{"eips.network.kubesphere.io", "bgpconfs.network.kubesphere.io", "bgppeers.network.kubesphere.io"},
			Log:           log,
		})
		if err != nil {
			return err
		}
		s.keeper = keeper
		serving.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.GetCertificate = keeper.GetCertificate }}
	}
	reader := &caches{cache: mgr.GetCache(), log: log}
	h := &handlers{decoder: admission.NewDecoder(scheme), byDefault: o.DefaultLoadBalancer, cluster: reader.cluster, log: log}
	s.Server = webhook.NewServer(serving)
	s.Register(eipPath, &admission.Webhook{Handler: admission.HandlerFunc(h.eip)})
	s.Register(servicePath, &admission.Webhook{Handler: admission.HandlerFunc(h.service)})
	s.Register(conversionPath, http.MaxBytesHandler(conversion.NewWebhookHandler(scheme, conversion.NewRegistry()), maxConversionBytes))
	if err := mgr.Add(s); err != nil {
		return fmt.Errorf("adding the server of admission: %w", err)
	}
	if err := mgr.Add(reader); err != nil {
		return fmt.Errorf("adding the cache of admission: %w", err)
	}
	return nil
}

// server is a webhook.Server that goes on trying. The manager starts those
// before its cache: an object that is stored in v1alpha1 cannot be cached until
// it can be converted.
type server struct {
	webhook.Server
	keeper *certificate.Keeper // nil if the certificate is not ours
	log    logr.Logger
}

// Start returns when ctx is done. It never fails: Fairway works without it.
func (s *server) Start(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	if s.keeper != nil {
		running.Go(func() { s.keeper.Run(ctx) })
	}
	for {
		err := s.Server.Start(ctx)
		if ctx.Err() != nil {
			if err != nil {
				s.log.Error(err, "Stopping the server of admission and conversion")
			}
			return nil
		}
		s.log.Error(err, "Admission and conversion are not served, trying again")
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return nil
		}
	}
}
