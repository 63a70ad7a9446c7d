package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controllermanageroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"

	"github.com/fairway-lb/fairway/test/controlplane/pki"
)

// startControllerManager starts kube-controller-manager with the controllers
// that tests of a load balancer need.
func startControllerManager(parts *parts, files pki.Files) error {
	controllers := []string{
		names.ServiceAccountController,
		names.ServiceAccountTokenController,
		names.RootCACertificatePublisherController,
		names.EndpointsController,
		names.EndpointSliceController,
		names.EndpointSliceMirroringController,
		names.ServiceCIDRController,
		names.NamespaceController,
		names.GarbageCollectorController,
		names.ClusterRoleAggregationController,
		// None that make pods: there is no scheduler and no kubelet. Not node-lifecycle-controller: nobody renews the leases of the
		// tests' nodes, and it would make them NotReady after 40 s.
	}
	config, err := controllermanageroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return fmt.Errorf("make the options of kube-controller-manager: %w", err)
	}
	known, disabled, aliases := controllermanager.KnownControllers(), controllermanager.ControllersDisabledByDefault(), controllermanager.ControllerAliases()
	flags := config.Flags(known, disabled, aliases)
	config.ParsedFlags = &flags
	err = parseFlags("kube-controller-manager", flags, []string{
		"--kubeconfig=" + files.ControllerManagerKubeconfig,
		"--controllers=" + strings.Join(controllers, ","),
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + files.ServiceAccountKey,
		"--root-ca-file=" + files.CA,
		// The default of 20 requests a second would be what a test of many
		// Services measures.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--controller-shutdown-timeout=500ms",
	})
	if err != nil {
		return err
	}
	complete, err := config.Config(parts.running, known, disabled, aliases)
	if err != nil {
		return fmt.Errorf("options of kube-controller-manager: %w", err)
	}
	parts.launch("kube-controller-manager", time.Second, func(ctx context.Context) error {
		return controllermanager.Run(ctx, complete.Complete())
	})
	return nil
}

// waitDefaultServiceAccount returns when pods can be created in the namespace
// "default", which shows that controllers work.
func waitDefaultServiceAccount(ctx context.Context, client kubernetes.Interface) error {
	watch, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, "default").String(),
	})
	if err != nil {
		return fmt.Errorf("watch the default ServiceAccount: %w", err)
	}
	defer watch.Stop()
	// A watch from no version begins with what exists.
	if _, open := <-watch.ResultChan(); !open {
		return errors.New("wait for the default ServiceAccount: the watch ended")
	}
	return nil
}
