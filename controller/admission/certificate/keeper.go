package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// What fails is tried again soon, then ever less often, up to once a minute.
const (
	minRetryDelay = time.Second
	maxRetryDelay = time.Minute
)

// writeInterval is the least time between two writes of the Secret: two
// controllers whose clocks differ by months find each other's certificate
// invalid.
const writeInterval = time.Minute

// checkInterval is how often the certificate's age is looked at.
const checkInterval = 12 * time.Hour

// writeTimeout bounds a call of the API server.
const writeTimeout = 30 * time.Second

// fieldManager owns what a Keeper writes.
const fieldManager = "fairway-controller"

// errNoCertificate is what clients meet before there is a certificate.
var errNoCertificate = errors.New("there is no certificate yet")

// Options name the objects that a Keeper is about.
type Options struct {
	Namespace string
	Secret    string
	// Service is what the API server calls, by the name that the certificate
	// is for.
	Service string
	// Configuration is a ValidatingWebhookConfiguration, CRDs are
	// CustomResourceDefinitions; those that do not exist are left out.
	Configuration string
	CRDs          []string
	Log           logr.Logger
}

// Keeper keeps a certificate that the API server trusts. It does not use
// cert-controller's own loop, which caches every CRD and every Secret of the
// cluster's and its namespace's, needs the right to list them, and ends the
// process when it cannot go on.
type Keeper struct {
	options Options
	client  dynamic.Interface
	secret  watched
	trusted []watched
	queue   workqueue.TypedRateLimitingInterface[string]
	now     func() time.Time
	serving atomic.Pointer[tls.Certificate]
	wrote   time.Time // when the Secret was written last
}

// watched is an object that a Keeper sees by itself, so that no right is
// needed to any other.
type watched struct {
	kind     string
	name     string
	informer cache.SharedIndexInformer
	client   dynamic.ResourceInterface
}

// NewKeeper makes a Keeper that calls the API server of a configuration.
func NewKeeper(config *rest.Config, o Options) (*Keeper, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for the certificate: %w", err)
	}
	k := &Keeper{
		options: o,
		client:  client,
		queue:   workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](minRetryDelay, maxRetryDelay)),
		now:     time.Now,
	}
	if k.secret, err = k.watch("Secret", schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, o.Namespace, o.Secret); err != nil {
		return nil, err
	}
	configurations := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	configuration, err := k.watch("ValidatingWebhookConfiguration", configurations, "", o.Configuration)
	if err != nil {
		return nil, err
	}
	k.trusted = []watched{configuration}
	for _, name := range o.CRDs {
		crd, err := k.watch("CustomResourceDefinition", crds, "", name)
		if err != nil {
			return nil, err
		}
		k.trusted = append(k.trusted, crd)
	}
	return k, nil
}

// GetCertificate is for a tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := k.serving.Load(); cert != nil {
		return cert, nil
	}
	return nil, errNoCertificate
}

// Run works until ctx is done. It goes on after any failure.
func (k *Keeper) Run(ctx context.Context) {
	for _, w := range append([]watched{k.secret}, k.trusted...) {
		go w.informer.RunWithContext(ctx)
	}
	context.AfterFunc(ctx, k.queue.ShutDown)
	go func() {
		// No event says that there is no Secret.
		if cache.WaitForCacheSync(ctx.Done(), k.secret.informer.HasSynced) {
			k.look()
		}
	}()
	for k.step(ctx) {
	}
}

// look has the loop look at everything again.
func (k *Keeper) look() { k.queue.Add(k.options.Secret) }

// step waits for something to happen and follows it; false at the end.
func (k *Keeper) step(ctx context.Context) bool {
	item, shutdown := k.queue.Get()
	if shutdown {
		return false
	}
	defer k.queue.Done(item)
	if err := k.reconcile(ctx); err != nil && ctx.Err() == nil {
		k.options.Log.Error(err, "Keeping the certificate of admission and conversion, trying again")
		k.queue.AddRateLimited(item)
		return true
	}
	k.queue.Forget(item)
	k.queue.AddAfter(item, checkInterval)
	return true
}

// reconcile makes or renews the certificate, serves it, and has it trusted.
func (k *Keeper) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if !k.secret.informer.HasSynced() {
		return nil // it comes back when it has
	}
	secret, err := k.readSecret()
	if err != nil {
		return err
	}
	var data map[string][]byte
	if secret != nil {
		data = secret.Data
	}
	renewed, changed, err := renew(data, fmt.Sprintf("%s.%s.svc", k.options.Service, k.options.Namespace), k.now())
	if err != nil {
		return err
	}
	if rest := k.wrote.Add(writeInterval).Sub(k.now()); changed && rest > 0 {
		k.options.Log.Info("The certificate in the Secret is not valid so soon after it was made; the clocks of the controllers may differ, or somebody else writes it", "secret", k.options.Secret)
		k.queue.AddAfter(k.options.Secret, rest)
		return nil
	}
	if changed {
		k.wrote = k.now()
		// What is in the Secret then counts, whoever wrote it: it comes back
		// with the event.
		return k.writeSecret(ctx, secret, renewed)
	}
	if err := k.serve(renewed); err != nil {
		return err
	}
	var failed []error
	for _, w := range k.trusted {
		failed = append(failed, k.haveTrusted(ctx, w, renewed[caCertField]))
	}
	return errors.Join(failed...)
}

// readSecret returns nil if there is none.
func (k *Keeper) readSecret() (*corev1.Secret, error) {
	object := k.secret.seen()
	if object == nil {
		return nil, nil
	}
	secret := &corev1.Secret{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", k.options.Namespace, k.options.Secret, err)
	}
	return secret, nil
}

// writeSecret writes the Secret unless another controller was faster.
func (k *Keeper) writeSecret(ctx context.Context, old *corev1.Secret, data map[string][]byte) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: k.options.Namespace, Name: k.options.Secret, Labels: map[string]string{"app.kubernetes.io/name": "fairway"}},
		Type:       corev1.SecretTypeTLS,
	}
	if old != nil {
		secret = old.DeepCopy()
	}
	secret.APIVersion, secret.Kind = "v1", "Secret"
	secret.Data = data
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(secret)
	if err != nil {
		return fmt.Errorf("writing Secret %s/%s: %w", k.options.Namespace, k.options.Secret, err)
	}
	object := &unstructured.Unstructured{Object: content}
	if old == nil {
		_, err = k.secret.client.Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		_, err = k.secret.client.Update(ctx, object, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("writing Secret %s/%s: %w", k.options.Namespace, k.options.Secret, err)
	}
	return nil
}

// serve serves the certificate in a Secret.
func (k *Keeper) serve(data map[string][]byte) error {
	cert, err := tls.X509KeyPair(data[certField], data[keyField])
	if err != nil {
		return fmt.Errorf("reading the certificate in Secret %s/%s: %w", k.options.Namespace, k.options.Secret, err)
	}
	if before := k.serving.Load(); before == nil || !bytes.Equal(before.Certificate[0], cert.Certificate[0]) {
		k.serving.Store(&cert)
		k.options.Log.Info("Serving admission and conversion with a new certificate", "until", cert.Leaf.NotAfter)
	}
	return nil
}

// haveTrusted has an object trust a CA, if there is such an object.
func (k *Keeper) haveTrusted(ctx context.Context, w watched, ca []byte) error {
	object := w.seen()
	if object == nil {
		return nil
	}
	trusting, changed, err := trust(object, ca)
	if err != nil {
		return fmt.Errorf("having %s %s trust the certificate: %w", w.kind, w.name, err)
	}
	if !changed {
		return nil
	}
	_, err = w.client.Update(ctx, trusting, metav1.UpdateOptions{FieldManager: fieldManager})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // the event that is on its way brings it back
	}
	if err != nil {
		return fmt.Errorf("having %s %s trust the certificate: %w", w.kind, w.name, err)
	}
	k.options.Log.Info("The API server trusts the certificate", "kind", w.kind, "name", w.name)
	return nil
}

// watch prepares to see one object.
func (k *Keeper) watch(kind string, resource schema.GroupVersionResource, namespace, name string) (watched, error) {
	one := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
	w := watched{
		kind:     kind,
		name:     name,
		informer: dynamicinformer.NewFilteredDynamicInformer(k.client, resource, namespace, 0, cache.Indexers{}, one).Informer(),
		client:   k.client.Resource(resource).Namespace(namespace),
	}
	if err := w.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		k.options.Log.V(1).Info("Watching for admission, trying again", "kind", kind, "name", name, "error", err.Error())
	}); err != nil {
		return watched{}, fmt.Errorf("watching %s %s: %w", kind, name, err)
	}
	_, err := w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { k.look() },
		UpdateFunc: func(any, any) { k.look() },
		DeleteFunc: func(any) { k.look() },
	})
	if err != nil {
		return watched{}, fmt.Errorf("watching %s %s: %w", kind, name, err)
	}
	return w, nil
}

// seen returns the object, nil if there is none.
func (w watched) seen() *unstructured.Unstructured {
	for _, object := range w.informer.GetStore().List() {
		if u, ok := object.(*unstructured.Unstructured); ok && u.GetName() == w.name {
			return u
		}
	}
	return nil
}
