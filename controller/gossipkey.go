package controller

import (
	"context"
	"crypto/rand"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// GossipSecretName is the Secret with the key that encrypts what the
	// speakers say to each other.
	GossipSecretName = "fairway-memberlist"
	// gossipKeyField is the field of the Secret that holds the key.
	gossipKeyField = "key"
	// gossipKeyBytes selects AES-256.
	gossipKeyBytes = 32
)

// ensureGossipKey generates the speakers' key if there is none. One that is
// there is never changed.
func (r *reconciler) ensureGossipKey(ctx context.Context, name types.NamespacedName) error {
	secret := &corev1.Secret{}
	if err := r.client.Get(ctx, name, secret); !apierrors.IsNotFound(err) {
		if err != nil {
			return fmt.Errorf("reading Secret %s: %w", name, err)
		}
		return nil
	}
	key := make([]byte, gossipKeyBytes)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("generating the speakers' key: %w", err)
	}
	secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Labels: map[string]string{"app.kubernetes.io/name": "fairway"}},
		Data:       map[string][]byte{gossipKeyField: key},
	}
	if err := r.client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating Secret %s: %w", name, err)
	}
	return nil
}
