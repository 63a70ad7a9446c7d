package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestCluster is one cluster's life: starting one for each part would take most
// of the time.
func TestCluster(t *testing.T) {
	l := newLab(t, 3)
	ctx := testContext(t, 3*time.Minute)
	if _, err := l.Kubectl(ctx, "", "version"); err == nil {
		t.Error("kubectl ran without a cluster")
	}
	if err := l.StartCluster(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		_, err := l.AddPod(ctx, Pod{
			Namespace: "dev", Name: fmt.Sprintf("web-%d", i+1), Node: fmt.Sprintf("n%d", i+1),
			Labels: map[string]string{"app": "web"}, Ports: []int{80, 8080},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []struct {
		name string
		test func(context.Context, *testing.T, *Lab)
	}{
		{"nodes are ready", nodesAreReady},
		{"pods see each other's addresses", podsReachEachOther},
		{"a load balancer's traffic reaches all pods", clusterPolicy},
		{"policy Local keeps the client's address", localPolicy},
		{"readiness and deletion of pods", podsComeAndGo},
		{"programs have their ServiceAccount's rights", serviceAccounts},
		{"Fairway's kinds and accounts are installed", install},
		{"the API server stops and starts", apiServerRestarts},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(testContext(t, time.Minute), t, l) })
	}
}

func nodesAreReady(ctx context.Context, t *testing.T, l *Lab) {
	out, err := l.Kubectl(ctx, "", "get", "nodes", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.addresses[?(@.type=="InternalIP")].address} {.spec.podCIDRs} {.status.conditions[?(@.type=="Ready")].status} {.spec.taints}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	want := `n1 192.168.93.11 fd93::11 ["10.244.1.0/24","fd00:10:244:1::/64"] True 
n2 192.168.93.12 fd93::12 ["10.244.2.0/24","fd00:10:244:2::/64"] True 
n3 192.168.93.13 fd93::13 ["10.244.3.0/24","fd00:10:244:3::/64"] True 
`
	if out != want {
		t.Errorf("nodes are\n%s\nwant\n%s", out, want)
	}
}

func podsReachEachOther(ctx context.Context, t *testing.T, l *Lab) {
	for i := range 3 {
		from := l.Pod("dev", fmt.Sprintf("web-%d", i+1))
		for j := range 3 {
			to := l.Pod("dev", fmt.Sprintf("web-%d", j+1))
			for _, pair := range [][2]netip.Addr{{from.Addr4(), to.Addr4()}, {from.Addr6(), to.Addr6()}} {
				got, err := from.Get(ctx, url(pair[1], 8080))
				if want := fmt.Sprintf("%s %s", to.PodName(), pair[0]); err != nil || got != want {
					t.Errorf("from %s: %q (%v), want %q", from.PodName(), got, err, want)
				}
			}
		}
	}
}

func clusterPolicy(ctx context.Context, t *testing.T, l *Lab) {
	for _, vip := range exposeWeb(ctx, t, l, corev1.ServiceExternalTrafficPolicyCluster) {
		seen := map[string]bool{}
		err := poll(ctx, "all pods have answered at "+vip.String(), func() error {
			answer, err := l.Get(ctx, url(vip, 80))
			if err != nil {
				return err
			}
			pod, _, _ := strings.Cut(answer, " ")
			seen[pod] = true
			if len(seen) < 3 {
				return fmt.Errorf("only %v", seen)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func localPolicy(ctx context.Context, t *testing.T, l *Lab) {
	client := map[bool]netip.Addr{true: l.Client().Addr4(), false: l.Client().Addr6()}
	for _, vip := range exposeWeb(ctx, t, l, corev1.ServiceExternalTrafficPolicyLocal) {
		want := fmt.Sprintf("web-1 %s", client[vip.Is4()]) // n1's pod, as the client's frames go to n1
		var answer string
		err := poll(ctx, "n1's pod has answered at "+vip.String(), func() (err error) {
			if answer, err = l.Get(ctx, url(vip, 80)); err == nil && answer != want {
				err = fmt.Errorf("the answer is %q, want %q", answer, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
			continue
		}
		for range 10 {
			if answer, err := l.Get(ctx, url(vip, 80)); err != nil || answer != want {
				t.Errorf("%q (%v), want %q", answer, err, want)
			}
		}
	}
}

func podsComeAndGo(ctx context.Context, t *testing.T, l *Lab) {
	pod, err := l.AddPod(ctx, Pod{Namespace: "dev", Name: "extra", Node: "n2", Labels: map[string]string{"app": "web"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AddPod(ctx, Pod{Namespace: "dev", Name: "extra", Node: "n2"}); err == nil {
		t.Error("a second pod of the same name was added")
	}
	for _, step := range []struct {
		do   func() error
		want string // readiness of the pod's endpoint in both families, "" if it has none
	}{
		{func() error { return nil }, "true true"},
		{func() error { return pod.SetReady(ctx, false) }, "false false"},
		{func() error { return pod.SetReady(ctx, true) }, "true true"},
		{func() error { return pod.Delete(ctx) }, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if err := poll(ctx, "the endpoints are "+step.want, func() error {
			got, err := l.Kubectl(ctx, "", "get", "endpointslices", "-n", "dev", "-l", "kubernetes.io/service-name=web",
				"-o", `jsonpath={.items[*].endpoints[?(@.targetRef.name=="extra")].conditions.ready}`)
			if err == nil && got != step.want {
				err = fmt.Errorf("they are %q", got)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if l.Pod("dev", "extra") != nil || pod.Server().Running() {
		t.Error("the deleted pod is still there")
	}
	if _, err := os.Stat(namespacePath(pod.Netns())); err == nil {
		t.Error("the deleted pod's namespace is still there")
	}
}

func serviceAccounts(ctx context.Context, t *testing.T, l *Lab) {
	path, err := l.KubeconfigFor(ctx, "dev", "default")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	config.Dial = l.Node("n1").DialContext
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err == nil || !strings.Contains(err.Error(), "system:serviceaccount:dev:default") {
		t.Errorf("listing nodes: %v, want that this ServiceAccount may not", err)
	}
}

func install(ctx context.Context, t *testing.T, l *Lab) {
	for range 2 { // installing again changes nothing
		if err := l.Install(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := l.Kubectl(ctx, "", "get", "eips"); err != nil {
		t.Errorf("no Eips: %q, %v", out, err)
	}
	for _, account := range []string{controllerAccount, speakerAccount} {
		if _, err := l.KubeconfigFor(ctx, fairwayNamespace, account); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.StartSpeaker(ctx, "n9"); err == nil {
		t.Error("a speaker started on a node that does not exist")
	}
}

func apiServerRestarts(ctx context.Context, t *testing.T, l *Lab) {
	if err := l.StopAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kubectl(ctx, "", "get", "nodes", "--request-timeout=1s"); err == nil {
		t.Error("it answers though it was stopped")
	}
	if answer, err := l.Get(ctx, url(vips()[0], 80)); err != nil || !strings.HasPrefix(answer, "web-1 ") {
		t.Errorf("without the API server: %q, %v", answer, err)
	}
	if err := l.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := l.Kubectl(ctx, "", "get", "service", "web", "-n", "dev"); err != nil {
		t.Errorf("the Service is gone: %q, %v", out, err)
	}
}

// exposeWeb makes the Service "web" of both families with the VIPs in its
// status, and sends the client's traffic for them to n1.
func exposeWeb(ctx context.Context, t *testing.T, l *Lab, policy corev1.ServiceExternalTrafficPolicy) []netip.Addr {
	t.Helper()
	client, err := l.Clientset()
	if err != nil {
		t.Fatal(err)
	}
	dual := corev1.IPFamilyPolicyRequireDualStack
	services := client.CoreV1().Services("dev")
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeLoadBalancer,
			Selector:              map[string]string{"app": "web"},
			Ports:                 []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(80)}},
			IPFamilyPolicy:        &dual,
			ExternalTrafficPolicy: policy,
		},
	}
	created, err := services.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		created, err = services.Create(ctx, service, metav1.CreateOptions{})
	} else {
		created.Spec.ExternalTrafficPolicy = policy
		created, err = services.Update(ctx, created, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	created.Status.LoadBalancer.Ingress = nil
	for _, vip := range vips() {
		created.Status.LoadBalancer.Ingress = append(created.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: vip.String()})
	}
	if _, err := services.UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	err = l.Client().Do(func() error {
		link, err := netlink.LinkByName(l.Client().Link())
		if err != nil {
			return err
		}
		for _, vip := range vips() {
			neighbour := &netlink.Neigh{LinkIndex: link.Attrs().Index, IP: vip.AsSlice(), HardwareAddr: l.Node("n1").MAC(), State: netlink.NUD_PERMANENT}
			if err := netlink.NeighSet(neighbour); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return vips()
}

func url(addr netip.Addr, port uint16) string {
	return fmt.Sprintf("http://%s/", netip.AddrPortFrom(addr, port))
}
