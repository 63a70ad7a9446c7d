// Command demo shows Fairway at work in a lab of network namespaces: a pool, a
// Service that gets an address, a client that reaches its pods, the fail-over
// when the owner of the address dies, and an address that all nodes announce to
// a router by BGP. It needs root and the programs in the folder that FAIRWAY_BIN
// names; `make demo` builds them.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/fairway-lb/fairway/test/lab"
)

const (
	// labName is fixed so that -down finds what -keep left.
	labName = "demo"
	// address is the first of the pool in config/samples/layer2.yaml.
	address = "192.168.93.231"
	// probeInterval is how exactly the fail-over is measured.
	probeInterval = 2 * time.Millisecond
	// patience bounds each wait; everything waited for takes milliseconds.
	patience = 30 * time.Second
)

func main() {
	keep := flag.Bool("keep", false, "leave everything running at the end")
	down := flag.Bool("down", false, "remove what -keep left running")
	flag.Parse()
	if os.Getuid() != 0 {
		fail(fmt.Errorf("the demo makes network namespaces: run it as root"))
	}
	if *down {
		if err := lab.Remove(labName); err != nil {
			fail(err)
		}
		fmt.Println("Removed.")
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *keep); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "demo:", err)
	os.Exit(1)
}

// run makes the lab, shows everything in it, and removes it.
func run(ctx context.Context, keep bool) (err error) {
	began := time.Now()
	if err := notKept(); err != nil {
		return err
	}
	d := &demo{ctx: ctx, speakers: map[string]*lab.Process{}}
	d.title("Three nodes on a switch, a client beside them, a real API server")
	d.Lab, err = lab.New(ctx, lab.Options{Name: labName, Nodes: 3, Log: func(format string, args ...any) {
		fmt.Printf("   %5.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}})
	if err != nil {
		return fmt.Errorf("making the lab: %w", err)
	}
	defer func() {
		if closeErr := d.Close(); closeErr != nil && err == nil {
			err = fmt.Errorf("removing the lab: %w", closeErr)
		}
		if err == nil && !keep {
			fmt.Printf("\nEverything is removed. %.0f s in all.\n", time.Since(began).Seconds())
		}
	}()
	for _, step := range []func() error{d.start, d.walkthrough, d.addresses, d.owner, d.curls, d.failover, d.bgp} {
		if err := step(); err != nil {
			return err
		}
	}
	if keep {
		if err := d.Keep(); err != nil {
			return fmt.Errorf("keeping the lab: %w", err)
		}
		d.usage()
	}
	return nil
}

// notKept returns an error if an earlier demo was kept.
func notKept() error {
	labs, err := lab.List()
	if err != nil {
		return fmt.Errorf("listing labs: %w", err)
	}
	for _, l := range labs {
		if l.Name == labName && l.Kept {
			return fmt.Errorf("an earlier demo was left running: remove it with make demo-down")
		}
	}
	return nil
}

// demo is the lab and what runs in it.
type demo struct {
	*lab.Lab
	ctx      context.Context
	speakers map[string]*lab.Process
}

// start starts the cluster with Fairway in it.
func (d *demo) start() error {
	if err := d.StartCluster(d.ctx); err != nil {
		return fmt.Errorf("starting the cluster: %w", err)
	}
	d.title("Fairway: the kinds, the controller, a speaker on every node")
	if err := d.Install(d.ctx); err != nil {
		return fmt.Errorf("installing Fairway: %w", err)
	}
	if _, err := d.StartController(d.ctx); err != nil {
		return fmt.Errorf("starting the controller: %w", err)
	}
	for _, node := range d.Nodes() {
		if err := d.startSpeaker(node.Name()); err != nil {
			return err
		}
	}
	if err := d.show("get", "nodes"); err != nil {
		return err
	}
	d.title("Three pods, one on each node")
	if _, err := d.Kubectl(d.ctx, "", "create", "namespace", "dev"); err != nil {
		return err
	}
	for _, node := range d.Nodes() {
		pod := lab.Pod{Namespace: "dev", Name: "nginx-" + node.Name(), Labels: map[string]string{"app": "nginx"}, Node: node.Name()}
		if _, err := d.AddPod(d.ctx, pod); err != nil {
			return fmt.Errorf("adding pod %s: %w", pod.Name, err)
		}
	}
	return d.show("get", "pods", "-n", "dev", "-o", "wide")
}

// walkthrough applies the pool and the Service and shows the address.
func (d *demo) walkthrough() error {
	d.title("A pool and a Service, as OpenELB's users write them")
	began := time.Now()
	if err := d.show("apply", "-f", "config/samples/layer2.yaml"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	jsonpath := "jsonpath={.status.loadBalancer.ingress[0].ip}=" + address
	if _, err := d.Kubectl(ctx, "", "wait", "-n", "dev", "svc/svc-lb", "--for="+jsonpath, "--timeout=30s"); err != nil {
		return err
	}
	fmt.Printf("   assigned within %d ms of kubectl apply\n", time.Since(began).Milliseconds())
	if _, err := d.Kubectl(ctx, "", "wait", "eip/eip-pool", "--for=jsonpath={.status.usage}=1", "--timeout=30s"); err != nil {
		return err
	}
	if err := d.show("get", "eip"); err != nil {
		return err
	}
	return d.show("get", "svc", "svc-lb", "-n", "dev")
}

// addresses shows a Service with an address of each family, two with one
// address, and what one is told that asks for an address that is taken.
func (d *demo) addresses() error {
	d.title("Two families for one Service, one address for two, and a reason for one that gets none")
	for _, sample := range []string{"dual-stack", "sharing"} {
		if _, err := d.Kubectl(d.ctx, "", "apply", "-f", "config/samples/"+sample+".yaml"); err != nil {
			return err
		}
	}
	if _, err := d.Kubectl(d.ctx, taken, "apply", "-f", "-"); err != nil {
		return err
	}
	const allocated = "condition=network.kubesphere.io/AddressAllocated"
	for service, condition := range map[string]string{"svc-lb-dual-stack": allocated, "dns-udp": allocated, "dns-tcp": allocated, "svc-taken": allocated + "=False"} {
		if _, err := d.Kubectl(d.ctx, "", "wait", "-n", "dev", "svc/"+service, "--for="+condition, "--timeout=30s"); err != nil {
			return err
		}
	}
	if err := d.show("get", "svc", "-n", "dev", "-o", "custom-columns=NAME:.metadata.name,EXTERNAL-IP:.status.loadBalancer.ingress[*].ip"); err != nil {
		return err
	}
	return d.show("get", "svc", "svc-taken", "-n", "dev", "-o", "jsonpath={.status.conditions[0].reason}: {.status.conditions[0].message}{'\\n'}")
}

// taken is a Service that asks for the address of svc-lb.
const taken = `
apiVersion: v1
kind: Service
metadata:
  name: svc-taken
  namespace: dev
  annotations:
    lb.kubesphere.io/v1alpha1: openelb
    eip.openelb.kubesphere.io/v1alpha1: ` + address + `
spec:
  type: LoadBalancer
  ports:
  - port: 443
`

// owner shows who answers for the address.
func (d *demo) owner() error {
	d.title("Who answers for the address")
	owner, err := d.waitForOwner("")
	if err != nil {
		return err
	}
	fmt.Printf("   %s answers ARP for %s; its MAC is %s\n", owner, address, d.Node(owner).MAC())
	if _, err := d.Get(d.ctx, "http://"+address+"/"); err != nil {
		return err
	}
	return d.neighbour()
}

// curls asks the Service nine times from outside the cluster.
func (d *demo) curls() error {
	d.title("Nine requests from the client outside the cluster")
	for i := range 9 {
		body, err := d.Get(d.ctx, "http://"+address+"/")
		if err != nil {
			return fmt.Errorf("request %d: %w", i+1, err)
		}
		pod, client, _ := strings.Cut(body, " ")
		fmt.Printf("   %d  %s answered; it saw the client as %s\n", i+1, pod, client)
	}
	return nil
}

// failover kills the owner's speaker and measures how long nobody answers.
func (d *demo) failover() error {
	owner, err := d.waitForOwner("")
	if err != nil {
		return err
	}
	d.title("The owner's speaker is killed with SIGKILL")
	prober, err := d.Probe(netip.MustParseAddr(address), probeInterval)
	if err != nil {
		return fmt.Errorf("watching the wire: %w", err)
	}
	if err := d.waitForAnswer(prober, time.Now(), owner); err != nil {
		return err
	}
	if err := d.speakers[owner].Kill(); err != nil {
		return err
	}
	fmt.Printf("   killed the speaker of %s (SIGKILL)\n", owner)
	next, err := d.waitForOwner(owner)
	if err != nil {
		return err
	}
	if err := d.waitForAnswer(prober, time.Now(), next); err != nil {
		return err
	}
	seen, err := prober.Stop()
	if err != nil {
		return fmt.Errorf("watching the wire: %w", err)
	}
	for _, handover := range seen.Handovers() {
		fmt.Printf("   %s answers %d ms after the last answer of %s\n", handover.To, handover.Gap.Milliseconds(), handover.From)
	}
	if err := d.neighbour(); err != nil {
		return err
	}
	body, err := d.Get(d.ctx, "http://"+address+"/")
	if err != nil {
		return err
	}
	fmt.Printf("   the client is served: %s\n", strings.TrimSpace(body))

	d.title("The speaker comes back, and its address with it")
	back := time.Now()
	if prober, err = d.Probe(netip.MustParseAddr(address), probeInterval); err != nil {
		return fmt.Errorf("watching the wire: %w", err)
	}
	if err := d.startSpeaker(owner); err != nil {
		return err
	}
	if err := d.waitForAnswer(prober, back, owner); err != nil {
		return err
	}
	if seen, err = prober.Stop(); err != nil {
		return fmt.Errorf("watching the wire: %w", err)
	}
	for _, handover := range seen.Handovers() {
		fmt.Printf("   %s took it over from %s, %d ms between their answers\n", handover.To, handover.From, handover.Gap.Milliseconds())
	}
	if conflicts := seen.Conflicts(time.Second); len(conflicts) > 0 {
		return fmt.Errorf("two nodes answered at a time: %v", conflicts)
	}
	fmt.Println("   at no time did two nodes answer")
	return d.show("get", "events", "-n", "dev", "--field-selector", "involvedObject.name=svc-lb",
		"-o", "custom-columns=REASON:.reason,MESSAGE:.message")
}

func (d *demo) startSpeaker(node string) error {
	process, err := d.StartSpeaker(d.ctx, node)
	if err != nil {
		return fmt.Errorf("starting the speaker of %s: %w", node, err)
	}
	d.speakers[node] = process
	return nil
}

// waitForOwner waits until one node other than the given one answers.
func (d *demo) waitForOwner(not string) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	for {
		owners, err := d.Owner(ctx, netip.MustParseAddr(address))
		if err != nil {
			return "", fmt.Errorf("nobody but %q answers for %s: %w", not, address, err)
		}
		if len(owners) == 1 && owners[0] != not {
			return owners[0], nil
		}
	}
}

func (d *demo) waitForAnswer(prober *lab.Prober, after time.Time, from string) error {
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	_, err := prober.Wait(ctx, func(seen lab.Observations) bool {
		for _, reply := range seen.After(after).Replies() {
			if reply.Host == from {
				return true
			}
		}
		return false
	})
	if err != nil {
		return fmt.Errorf("waiting for an answer of %s: %w", from, err)
	}
	return nil
}

// neighbour shows the client's own neighbour table.
func (d *demo) neighbour() error {
	out, err := d.Client().Command(d.ctx, "ip", "neigh", "show", address).Output()
	if err != nil {
		return fmt.Errorf("reading the client's neighbour table: %w", err)
	}
	fmt.Printf("   the client's neighbour table: %s\n", strings.TrimSpace(string(out)))
	return nil
}

// show runs kubectl and prints the command and its output.
func (d *demo) show(args ...string) error {
	out, err := d.Kubectl(d.ctx, "", args...)
	if err != nil {
		return err
	}
	fmt.Printf("   $ kubectl %s\n", strings.Join(args, " "))
	for line := range strings.Lines(out) {
		fmt.Print("   ", line)
	}
	return nil
}

func (d *demo) title(text string) {
	fmt.Printf("\n== %s\n", text)
}

// usage says how to use what keeps running.
func (d *demo) usage() {
	fmt.Printf(`
== It keeps running

   kubectl, on the control-plane host:
     alias k='ip netns exec %s env KUBECONFIG=%s %s'
     k get svc -A
   the client outside the cluster:
     ip netns exec %s curl -s http://%s/
   the nodes:
     ip netns exec %s nft list ruleset
   logs: %s/logs
   remove it all:
     make demo-down
`, d.ControlPlane().Netns(), d.Kubeconfig(), kubectlPath(), d.Client().Netns(), address, d.Nodes()[0].Netns(), d.Dir())
}

func kubectlPath() string {
	if bin := os.Getenv("FAIRWAY_BIN"); bin != "" {
		return bin + "/kubectl"
	}
	return "bin/kubectl"
}
