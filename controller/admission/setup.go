package admission

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
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
	bgpConfPath    = "/validate-network-kubesphere-io-v1alpha2-bgpconf"
	bgpPeerPath    = "/validate-network-kubesphere-io-v1alpha2-bgppeer"
	conversionPath = "/convert"
)

// maxConversionBytes bounds what one request can make the controller hold in
// memory, which is many times its size. The largest is a list of all objects
// of a kind; an Eip whose 10,000 addresses are in use takes half a megabyte.
const maxConversionBytes = 4 << 20

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
	// Network has the Nodes. It is apart from the manager's cache, because the
	// controller waits for all that that one watches.
	Network cache.Cache
}

// Setup has the manager serve admission and conversion.
func Setup(mgr manager.Manager, o Options) error {
	log := mgr.GetLogger().WithName("admission")
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	source, err := newCertificateSource(mgr, o)
	if err != nil {
		return err
	}
	reader := &caches{shared: mgr.GetCache(), nodes: o.Network, log: log}
	h := &handlers{
		decoder: admission.NewDecoder(scheme), byDefault: o.DefaultLoadBalancer,
		cluster: reader.cluster, services: reader.labelled,
		bgp: func(ctx context.Context) (*BGP, error) { return bgpIn(ctx, mgr.GetAPIReader()) },
		log: log,
	}
	s := &server{Server: webhook.NewServer(webhook.Options{}), port: o.Port, source: source, log: log}
	s.Register(eipPath, oneAtATime(&admission.Webhook{Handler: admission.HandlerFunc(h.eip)}))
	s.Register(servicePath, &admission.Webhook{Handler: admission.HandlerFunc(h.service)})
	s.Register(bgpConfPath, oneAtATime(&admission.Webhook{Handler: admission.HandlerFunc(h.bgpConf)}))
	s.Register(bgpPeerPath, oneAtATime(&admission.Webhook{Handler: admission.HandlerFunc(h.bgpPeer)}))
	s.Register(conversionPath, newConversion(scheme))
	if err := mgr.Add(s); err != nil {
		return fmt.Errorf("adding the server of admission: %w", err)
	}
	if err := mgr.Add(reader); err != nil {
		return fmt.Errorf("adding the watches of admission: %w", err)
	}
	return nil
}

// newScheme knows what is judged and converted.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering the kinds for admission: %w", err)
		}
	}
	return scheme, nil
}

func newConversion(scheme *runtime.Scheme) http.Handler {
	return oneAtATime(http.MaxBytesHandler(conversion.NewWebhookHandler(scheme, conversion.NewRegistry()), maxConversionBytes))
}

// oneAtATime has requests wait for each other: whoever reaches the port may
// send large ones, and the allocator is in the same process.
func oneAtATime(handler http.Handler) http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
			handler.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

func newCertificateSource(mgr manager.Manager, o Options) (certificateSource, error) {
	log := mgr.GetLogger().WithName("admission")
	if o.CertDir != "" {
		return certificate.NewFiles(filepath.Join(o.CertDir, corev1.TLSCertKey), filepath.Join(o.CertDir, corev1.TLSPrivateKeyKey), log), nil
	}
	return certificate.NewKeeper(mgr.GetConfig(), certificate.Options{
		Namespace:     o.Namespace,
		Secret:        secretName,
		Service:       serviceName,
		Configuration: configurationName,
		CRDs:          []string{"eips.network.kubesphere.io", "bgpconfs.network.kubesphere.io", "bgppeers.network.kubesphere.io"},
		Log:           log,
	})
}
