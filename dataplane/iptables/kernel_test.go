package iptables

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

var counters = regexp.MustCompile(`\[\d+:\d+\]`)

// foreign is all that there is but ours and the time.
func foreign(t *testing.T, f Flavour) string {
	t.Helper()
	var lines []string
	for _, family := range families {
		text, err := saved(f, family)
		must(t, err)
		for line := range strings.Lines(text) {
			if !strings.Contains(line, prefix) && !strings.HasPrefix(line, "#") {
				lines = append(lines, counters.ReplaceAllString(line, ""))
			}
		}
	}
	return strings.Join(lines, "")
}

// Rules of others stay as they are, byte for byte, and are no change of ours.
func TestForeignRules(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) {
		for _, rule := range []string{"nat PREROUTING", "nat OTHERS", "filter INPUT", "filter OTHERS", "mangle OTHERS"} {
			table, chain, _ := strings.Cut(rule, " ")
			if chain == "OTHERS" {
				iptables(t, f, "-t", table, "-N", chain)
			}
			iptables(t, f, "-t", table, "-A", chain, "-s", "203.0.113.0/24", "-m", "comment", "--comment", "a \"quoted\" one", "-j", "RETURN")
		}
		iptables(t, f, "-t", "filter", "-P", "FORWARD", "ACCEPT")
		t.Cleanup(func() {
			for _, table := range []string{"nat", "filter", "mangle"} {
				iptables(t, f, "-t", table, "-F")
				iptables(t, f, "-t", table, "-X")
			}
		})
		c := subjectOf(f).NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
		want := foreign(t, f)
		c.Set(dataplanetest.OnPod2(c.Lab))
		c.Set()
		must(t, c.Backend.Apply(nil))
		if got := foreign(t, f); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}

		iptables(t, f, "-t", "nat", "-A", "OTHERS", "-j", "RETURN")
		iptables(t, f, "-t", "nat", "-A", "PREROUTING", "-s", "203.0.113.1", "-j", "OTHERS")
		want = foreign(t, f)
		b := c.Backend.(*tracked)
		for _, s := range b.sides {
			b.watcher.look(s, true, false)
		}
		select {
		case <-b.Changed():
			t.Error("rules of others were taken for ours")
		default:
		}
		must(t, Cleanup())
		if got := foreign(t, f); got != want {
			t.Errorf("after Cleanup: got\n%swant\n%s", got, want)
		}
	})
}

// A rule in place of another leaves the size of a table as it is. Only who
// reads the rules notices.
func TestSameSize(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) {
		c := subjectOf(f).NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
		b := c.Backend.(*tracked)
		bucket := servicesTree.ofAddr(c.VIP()[0]).name()
		iptables(t, f, "-t", "nat", "-R", bucket, "1", "-d", "198.18.0.77/32", "-p", "tcp", "-m", "tcp", "--dport", "80", "-j", markChain)
		if f == Legacy {
			b.watcher.look(b.sides[0], false, false)
			if len(b.Changed()) > 0 {
				t.Error("what was not looked at was seen")
			}
			b.watcher.look(b.sides[0], false, true)
		}
		dataplanetest.AwaitChange(t, b)
		must(t, b.Apply(nil))
		c.Ask("mended", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1")
	})
}

// Without someone's lock, what worked goes on, and the next Apply makes up for
// it.
func TestLocked(t *testing.T) {
	c := subjectOf(Legacy).NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	path := filepath.Join(t.TempDir(), "lock")
	t.Setenv("XTABLES_LOCKFILE", path)
	lock, err := os.Create(path)
	must(t, err)
	defer lock.Close()
	must(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	dataplanetest.SetEndpoints(c.State, c.Frontends, dataplanetest.OnPod2(c.Lab))
	err = c.Backend.Apply(c.State.Changes().Ports)
	if !errors.Is(err, errLocked) || !strings.Contains(err.Error(), "/run/xtables.lock") {
		t.Errorf("got %v, want that the lock is held", err)
	}
	c.Ask("as before", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1")
	must(t, unix.Flock(int(lock.Fd()), unix.LOCK_UN))
	must(t, c.Backend.Apply(nil))
	c.Ask("made up for", c.Client, c.ExternalIP(), 80, dataplanetest.Translated, "pod2")
}

// While endpoints come and go altogether, connections are answered or refused:
// none gets through to elsewhere, where it would hang.
func TestNothingGetsAway(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) {
		c := subjectOf(f).NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
		stop := c.Probers("pod1", dataplanetest.Reject)
		for range 12 {
			c.Set()
			c.Set(dataplanetest.OnPod1(c.Lab))
		}
		stop()
	})
}

// only has PATH contain programs of those names, and what they run.
func only(t *testing.T, names ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		must(t, err)
		must(t, os.Symlink(path, filepath.Join(dir, name)))
	}
	t.Setenv("PATH", dir)
}

func TestMissingPrograms(t *testing.T) {
	netnstest.Need(t)
	t.Run("all", func(t *testing.T) {
		only(t)
		for _, f := range []Flavour{Auto, Legacy, NFT} {
			_, err := New(dataplane.Config{}, f)
			if !errors.Is(err, errMissing) || !strings.Contains(err.Error(), "-restore") || !strings.Contains(err.Error(), "--dataplane=nftables") {
				t.Errorf("%s: got %v", f, err)
			}
		}
		must(t, Cleanup())
	})
	t.Run("IPv6", func(t *testing.T) {
		only(t, "iptables-nft-restore", "iptables-nft-save")
		b, err := New(dataplane.Config{}, Auto)
		must(t, err)
		defer b.Close()
		defer Cleanup()
		if err := b.Unserved(service.IPv6); err == nil || !strings.Contains(err.Error(), "ip6tables-nft-restore") {
			t.Errorf("unserved: %v", err)
		}
		four := service.PortChange{Name: named("a", service.IPv4), After: &service.Port{Cluster: all("10.0.0.1:80"), NeedsCluster: true, Usable: true,
			Frontends: []service.Frontend{{Kind: service.ClusterIP, Address: at("10.96.0.1:80")}}}}
		must(t, b.Apply([]service.PortChange{four}))
		six := four
		six.Name.Family = service.IPv6
		must(t, b.Apply([]service.PortChange{six}))
		if err := b.Unserved(service.IPv4); err != nil {
			t.Errorf("IPv4 unserved: %v", err)
		}
		if text, err := saved(NFT, service.IPv4); err != nil || !strings.Contains(text, clusterChain+digest(four.Name.String())) {
			t.Errorf("IPv4 is not served: %v", err)
		}
		must(t, b.Apply([]service.PortChange{{Name: six.Name, Before: six.After}}))
	})
	t.Run("another name", func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{"-restore", "-save"} {
			path, err := exec.LookPath("iptables-legacy" + name)
			must(t, err)
			must(t, os.Symlink(path, filepath.Join(dir, "iptables"+name)))
		}
		t.Setenv("PATH", dir)
		if _, err := findTool(Legacy, service.IPv4); err != nil {
			t.Error(err)
		}
		if _, err := findTool(NFT, service.IPv4); err == nil {
			t.Error("a program of flavour legacy was taken for one of flavour nft")
		}
	})
}

// What the kernel lacks is found by asking it.
func TestMissingFeature(t *testing.T) {
	netnstest.Need(t)
	each(t, func(t *testing.T, f Flavour) {
		for _, family := range families {
			tool, counted, err := prepare(f, family, 0x4000)
			must(t, err)
			if counted {
				t.Errorf("%s prints rules otherwise than they are written", tool.savePath)
			}
			err = tool.try([]feature{{"something", nat, "-m statistic --mode unheard-of -j RETURN\n"}}, nil)
			if err == nil || !strings.Contains(err.Error(), `is "-A FAIRWAY-PROBE -m statistic --mode unheard-of -j RETURN"`) {
				t.Errorf("got %v, want the line", err)
			}
		}
		if lines, err := contentOf(f); err != nil || len(lines) > 0 {
			t.Errorf("a probe left %v, %v", lines, err)
		}
	})
}

func TestAuto(t *testing.T) {
	netnstest.Need(t)
	expect := func(what string, want Flavour) {
		t.Helper()
		got, err := detect()
		must(t, err)
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	usual, err := flavourOf("iptables-restore")
	must(t, err)
	for _, f := range flavours {
		for _, table := range []string{"nat", "filter", "mangle"} {
			iptables(t, f, "-t", table, "-F")
			iptables(t, f, "-t", table, "-X")
		}
	}
	expect("no rules", usual)
	for i, f := range flavours {
		other := flavours[1-i]
		iptables(t, f, "-t", "nat", "-A", "PREROUTING", "-j", "RETURN")
		expect("a rule", f)
		iptables(t, other, "-t", "mangle", "-N", "KUBE-KUBELET-CANARY")
		expect("the kubelet's chain", other)
		iptables(t, other, "-t", "mangle", "-X")
		iptables(t, f, "-t", "nat", "-F")
		expect("none again", usual)
	}
}

// Whoever goes over to the other flavour leaves nothing behind, and Cleanup
// removes both.
func TestBothFlavours(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) {
		c := subjectOf(f).NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
		other := flavours[1-slices.Index(flavours, f)]
		b, err := New(dataplanetest.WithPods, other)
		must(t, err)
		defer b.Close()
		if b.Flavour() != other {
			t.Errorf("is %s", b.Flavour())
		}
		var all []service.PortChange
		for name, p := range c.State.Ports() {
			all = append(all, service.PortChange{Name: name, After: p})
		}
		must(t, b.Apply(all))
		if lines, err := contentOf(f); err != nil || len(lines) > 0 {
			t.Errorf("%s still has %d lines (%v)", f, len(lines), err)
		}
		c.Ask("by the other flavour", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1")
		must(t, c.Backend.Apply(nil))
		c.Ask("by both", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1")
		must(t, Cleanup())
		for _, f := range flavours {
			if lines, err := contentOf(f); err != nil || len(lines) > 0 {
				t.Errorf("Cleanup left %d lines of %s (%v)", len(lines), f, err)
			}
		}
	})
}

// injector sends packets as a neighbor of the node would.
type injector struct {
	t        *testing.T
	fd       int
	from, to netlink.Link
}

func newInjector(t *testing.T) *injector {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "near"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}))
	i := &injector{t: t}
	var err error
	i.to, err = netlink.LinkByName("near")
	must(t, err)
	i.from, err = netlink.LinkByName("far")
	must(t, err)
	t.Cleanup(func() { must(t, netlink.LinkDel(i.to)) })
	for _, l := range []netlink.Link{i.to, i.from} {
		must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+l.Attrs().Name+"/rp_filter", []byte("0"), 0o644))
		must(t, netlink.LinkSetUp(l))
	}
	i.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(i.fd) })
	return i
}

// send sends a packet of 20 bytes of zeros: no protocol has such.
func (i *injector) send(protocol byte, to netip.Addr) {
	i.t.Helper()
	ip := []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0, 203, 0, 113, 5}
	ip = append(ip, to.AsSlice()...)
	var sum uint32
	for n := 0; n < len(ip); n += 2 {
		sum += uint32(ip[n])<<8 | uint32(ip[n+1])
	}
	sum = sum&0xffff + sum>>16
	sum = ^(sum + sum>>16)
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	frame := slices.Concat(i.to.Attrs().HardwareAddr, i.from.Attrs().HardwareAddr, []byte{8, 0}, ip, make([]byte, 20))
	must(i.t, unix.Sendto(i.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.from.Attrs().Index, Halen: 6}))
}

// awaitCount waits until a rule has seen a packet.
func awaitCount(t *testing.T, f Flavour, rule string) {
	t.Helper()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	deadline := time.After(10 * time.Second)
	var out []byte
	for {
		var err error
		out, err = exec.Command(program(f, service.IPv4, "-save"), "-c").Output()
		must(t, err)
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, rule) && !strings.HasPrefix(line, "[0:") {
				return
			}
		}
		select {
		case <-ticks.C:
		case <-deadline:
			t.Fatalf("no packet met %q:\n%s", rule, out)
		}
	}
}

// A packet that conntrack cannot place would pass untranslated.
func TestInvalid(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) {
		const rule = "-A " + forwardChain + " -m conntrack --ctstate INVALID -j DROP"
		l := dataplanetest.NewLab(t)
		b := start(t, f)
		must(t, b.Apply(nil))
		newInjector(t).send(unix.IPPROTO_TCP, l.Pod1.Addrs[0])
		awaitCount(t, f, rule)

		const liberal = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"
		must(t, os.WriteFile(liberal, []byte("1"), 0o644))
		defer os.WriteFile(liberal, []byte("0"), 0o644)
		b = start(t, f)
		must(t, b.Apply(nil))
		if text, err := saved(f, service.IPv4); err != nil || strings.Contains(text, rule) {
			t.Errorf("dropped although conntrack is liberal (%v)", err)
		}
	})
}

// NodePorts at the loopback are for processes of the node only.
func TestLocalhostNodePorts(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) {
		config := dataplanetest.WithPods
		config.LocalhostNodePorts = true
		c := subjectOf(f).NewScene(t, config, nil, dataplanetest.OnPod1)
		const routed = "/proc/sys/net/ipv4/conf/all/route_localnet"
		must(t, os.WriteFile(routed, []byte("1"), 0o644))
		defer os.WriteFile(routed, []byte("0"), 0o644)
		loopback := netip.MustParseAddr("127.0.0.1")
		here := [2]netip.Addr{loopback, loopback}
		c.Ask("at the loopback", c.Node, here, c.NodePort(), dataplanetest.Translated, "pod1")
		c.Set(dataplanetest.OnRemote(c.Lab))
		c.Ask("from the loopback to elsewhere", c.Node, here, c.NodePort(), dataplanetest.Translated, "remote")
		c.Set()
		c.Ask("without endpoints", c.Node, here, c.NodePort(), "", dataplanetest.Reject)
		c.Ask("IPv6", c.Node, [2]netip.Addr{netip.IPv6Loopback(), netip.IPv6Loopback()}, c.NodePort(), "", dataplanetest.Reject)
		newInjector(t).send(unix.IPPROTO_UDP, loopback)
		awaitCount(t, f, "-A "+localhostChain+" -d 127.0.0.0/8 ! -i lo")
	})
}
