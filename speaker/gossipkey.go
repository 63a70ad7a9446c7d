package speaker

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// gossipKeyField is the field of the Secret that holds the key.
const gossipKeyField = "key"

// GossipKey returns the key with which the speakers encrypt what they say to
// each other, from a Secret that the controller generates. It waits for the
// Secret as long as the context lets it.
func GossipKey(ctx context.Context, clients kubernetes.Interface, log logr.Logger, namespace, name string) ([]byte, error) {
	secrets := clients.CoreV1().Secrets(namespace)
	one := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (k8sruntime.Object, error) {
			options.FieldSelector = one
			return secrets.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = one
			return secrets.Watch(ctx, options)
		},
	}
	log.Info("Waiting for the gossip key that the controller generates", "secret", namespace+"/"+name)
	var key []byte
	_, err := watchtools.UntilWithSync(ctx, lw, &corev1.Secret{}, nil, func(e watch.Event) (bool, error) {
		secret, ok := e.Object.(*corev1.Secret)
		if !ok || e.Type == watch.Deleted {
			return false, nil
		}
		key = secret.Data[gossipKeyField]
		switch len(key) {
		case 16, 24, 32: // AES-128, AES-192, AES-256
			return true, nil
		}
		log.Info("The gossip key cannot be used: it must be 16, 24 or 32 bytes. Delete the Secret to have a new one generated",
			"secret", namespace+"/"+name, "field", "data."+gossipKeyField, "bytes", len(key))
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for Secret %s/%s: %w", namespace, name, err)
	}
	return key, nil
}
