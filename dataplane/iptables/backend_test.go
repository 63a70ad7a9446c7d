package iptables

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var flavours = []Flavour{NFT, Legacy}

// each runs a test for both flavours.
func each(t *testing.T, test func(*testing.T, Flavour)) {
	for _, f := range flavours {
		t.Run(f.String(), func(t *testing.T) { test(t, f) })
	}
}

func TestBackend(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) { dataplanetest.Run(t, subjectOf(f)) })
}

func TestIPv6Disabled(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) { dataplanetest.WithoutIPv6(t, subjectOf(f)) })
}

func subjectOf(f Flavour) dataplanetest.Subject {
	var open openBackends
	own := dataplanetest.Frontends{Number: 1}
	bucketName := servicesTree.ofAddr(own.ClusterIP()[0]).name()
	one := service.PortName{Protocol: service.TCP}
	one.Namespace, one.Name, one.Port = "default", own.Name(), "TCP"
	damage := func(family service.Family, args ...string) dataplanetest.Damage {
		return dataplanetest.Damage{Name: strings.Join(args, " "), Do: func() error { return run(f, family, args...) }}
	}
	return dataplanetest.Subject{
		NoHash:          true,
		AffinityForgets: true,
		New: func(config dataplane.Config) (dataplane.Backend, error) {
			b, err := New(config, f)
			if err != nil {
				return nil, err
			}
			return open.add(b), nil
		},
		Cleanup: func() error {
			if err := Cleanup(); err != nil {
				return err
			}
			// A test has the same made again by another, which is not to be
			// noticed: what was not there in between is.
			open.lookNow()
			return nil
		},
		Content: func() ([]string, error) { return contentOf(f) },
		Damage: []dataplanetest.Damage{
			damage(service.IPv4, "-t", "nat", "-F"),
			damage(service.IPv4, "-t", "filter", "-F"),
			damage(service.IPv6, "-t", "nat", "-F", servicesChain),
			damage(service.IPv4, "-t", "nat", "-F", clusterChain+digest(one.String())),
			damage(service.IPv4, "-t", "nat", "-D", bucketName, "1"),
			damage(service.IPv6, "-t", "nat", "-I", servicesChain, "-j", "ACCEPT"),
			damage(service.IPv4, "-t", "nat", "-D", "PREROUTING", "-j", servicesChain),
			damage(service.IPv4, "-t", "filter", "-A", "INPUT", "-j", verdictsChain),
			damage(service.IPv6, "-t", "filter", "-N", prefix+"FOREIGN"),
		},
	}
}

// openBackends are those of a test that are not closed.
type openBackends struct {
	mu  sync.Mutex
	all map[*tracked]bool
}

type tracked struct {
	*Backend
	open *openBackends
}

func (o *openBackends) add(b *Backend) *tracked {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = map[*tracked]bool{}
	}
	t := &tracked{b, o}
	o.all[t] = true
	return t
}

func (t *tracked) Close() error {
	t.open.mu.Lock()
	delete(t.open.all, t)
	t.open.mu.Unlock()
	return t.Backend.Close()
}

// lookNow does what the watcher does in its time.
func (o *openBackends) lookNow() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for t := range o.all {
		for _, s := range t.sides {
			t.watcher.look(s, true, true)
		}
	}
}

func program(f Flavour, family service.Family, suffix string) string {
	return map[service.Family]string{service.IPv4: "iptables-", service.IPv6: "ip6tables-"}[family] + f.String() + suffix
}

func run(f Flavour, family service.Family, args ...string) error {
	if out, err := exec.Command(program(f, family, ""), append([]string{"-w"}, args...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", program(f, family, ""), args, err, out)
	}
	return nil
}

func iptables(t testing.TB, f Flavour, args ...string) {
	t.Helper()
	must(t, run(f, service.IPv4, args...))
}

// saved is all that there is of a flavour and family.
func saved(f Flavour, family service.Family) (string, error) {
	out, err := exec.Command(program(f, family, "-save")).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", program(f, family, "-save"), err)
	}
	return string(out), nil
}

func contentOf(f Flavour) ([]string, error) {
	var lines []string
	for _, family := range families {
		text, err := saved(f, family)
		if err != nil {
			return nil, err
		}
		all := newListings()
		if err := parse(strings.NewReader(text), all); err != nil {
			return nil, err
		}
		for i, l := range all {
			place := family.String() + " " + tableNames[i] + " "
			for name, rules := range l.chains {
				lines = append(lines, place+name)
				for n, rule := range bytes.Split([]byte(rules), []byte("\n")) {
					lines = append(lines, fmt.Sprintf("%s%s %d %s", place, name, n, rule))
				}
			}
			for _, h := range l.hooks {
				lines = append(lines, place+h.chain+" "+h.rule)
			}
		}
	}
	return lines, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A speaker that may not change the kernel is told what it lacks.
func TestWithoutCapability(t *testing.T) {
	netnstest.Need(t)
	each(t, func(t *testing.T, f Flavour) {
		err := netnstest.Without(unix.CAP_NET_ADMIN, func() error {
			_, err := New(dataplanetest.WithPods, f)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "the iptables backend needs CAP_NET_ADMIN and CAP_NET_RAW") {
			t.Errorf("the error is %v", err)
		}
	})
}
