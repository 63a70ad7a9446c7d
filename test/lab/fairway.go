package lab

import (
	"context"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Where Fairway's objects live, and the ServiceAccounts of its two programs.
const (
	fairwayNamespace  = "fairway-system"
	controllerAccount = "fairway-controller"
	speakerAccount    = "fairway-speaker"
)

// The Service by which the API server calls the controller, and the port that
// the controller listens on.
const (
	webhookService = "fairway-webhook"
	webhookPort    = 9443
)

// Install applies Fairway's CRDs, RBAC rules and webhooks from the repository's
// config/ and waits until the API server serves the kinds. It starts nothing.
func (l *Lab) Install(ctx context.Context) error {
	if l.opts.Uplink != "" {
		return nil // it came with the control plane
	}
	if err := l.EnsureNamespace(ctx, fairwayNamespace); err != nil {
		return err
	}
	for _, folder := range []string{"crd", "rbac", "webhook"} {
		if _, err := l.Kubectl(ctx, "", "apply", "-k", filepath.Join(l.opts.Root, "config", folder)); err != nil {
			return fmt.Errorf("install Fairway: %w", err)
		}
	}
	if err := l.addWebhookEndpoint(ctx); err != nil {
		return fmt.Errorf("install Fairway: %w", err)
	}
	if _, err := l.Kubectl(ctx, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"); err != nil {
		return fmt.Errorf("install Fairway: %w", err)
	}
	return nil
}

// addWebhookEndpoint leads the API server to the controller on the
// control-plane host, which is no pod.
func (l *Lab) addWebhookEndpoint(ctx context.Context) error {
	c, err := l.getCluster()
	if err != nil {
		return err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: webhookService + "-lab", Labels: map[string]string{
			discoveryv1.LabelServiceName: webhookService,
			discoveryv1.LabelManagedBy:   "lab",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{l.cp.Addr4().String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: new("webhook"), Port: new(int32(webhookPort))}},
	}
	_, err = c.client.DiscoveryV1().EndpointSlices(fairwayNamespace).Create(ctx, slice, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create EndpointSlice %s: %w", slice.Name, err)
	}
	return nil
}

// StartController starts fairway-controller on the control-plane host, with its
// own ServiceAccount. It does not wait until it leads. A control plane that is
// elsewhere has one already.
func (l *Lab) StartController(ctx context.Context, args ...string) (*Process, error) {
	if l.opts.Uplink != "" {
		return nil, errElsewhere
	}
	return l.startFairway(ctx, l.cp, controllerAccount, args)
}

// StartSpeaker starts fairway-speaker on a node, with its own ServiceAccount. It
// does not wait until it has joined the others.
func (l *Lab) StartSpeaker(ctx context.Context, node string, args ...string) (*Process, error) {
	host := l.Node(node)
	if host == nil {
		return nil, fmt.Errorf("start %s: there is no node %q", speakerAccount, node)
	}
	return l.startFairway(ctx, host, speakerAccount, args)
}

// startFairway starts the program that has the name of its ServiceAccount.
func (l *Lab) startFairway(ctx context.Context, host *Host, account string, args []string) (*Process, error) {
	program, err := l.Program(account)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := l.KubeconfigFor(ctx, fairwayNamespace, account)
	if err != nil {
		return nil, err
	}
	argv := append([]string{program, "--kubeconfig", kubeconfig}, args...)
	return host.Start(account, argv, []string{"NODE_NAME=" + host.name, "FAIRWAY_NAMESPACE=" + fairwayNamespace})
}

// EnsureNamespace makes a Kubernetes namespace if there is none of that name.
func (l *Lab) EnsureNamespace(ctx context.Context, name string) error {
	c, err := l.getCluster()
	if err != nil {
		return err
	}
	_, err = c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}
