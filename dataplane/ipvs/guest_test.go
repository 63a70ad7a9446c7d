package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/ipvs"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/internal/netnstest"
	"github.com/fairway-lb/fairway/internal/uml"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// TestInGuest is all that takes IPVS in the kernel, which that of the tests'
// machine lacks.
func TestInGuest(t *testing.T) {
	if !uml.Inside() {
		uml.Guest{Env: []string{dataplanetest.ChurnVariable + "=" + os.Getenv(dataplanetest.ChurnVariable)}}.Test(t)
		return
	}
	t.Run("WithoutIPv6", func(t *testing.T) { dataplanetest.WithoutIPv6(t, subject) })
	subject = subject.InOneLab(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Schedulers", testSchedulers},
		{"LackingScheduler", testLackingScheduler},
		{"Weights", testWeights},
		{"Hash", testHash},
		{"GracefulRemoval", testGracefulRemoval},
		{"WithinRemoval", testWithinRemoval},
		{"UDPRemoval", testUDPRemoval},
		{"AffinityTimeout", testAffinityTimeout},
		{"Others", testOthers},
		{"TakeOver", testTakeOver},
		{"TakeOverNodePort", testTakeOverNodePort},
		{"Retire", testRetire},
		{"Addresses", testAddresses},
		{"AddressesOfServices", testAddressesOfServices},
		{"DestinationHash", testDestinationHash},
		{"SchedulerChange", testSchedulerChange},
		{"IPv4Only", testIPv4Only},
		{"ColdStart", testColdStart},
		{"FirstPacket", testFirstPacket},
		{"Backend", func(t *testing.T) { dataplanetest.Run(t, subject) }},
	} {
		t.Run(test.name, test.run)
	}
}

// looks are what backends of tests look at. Nothing happens by time: a guest on
// a busy machine would do nothing else.
var looks []chan time.Time

func newLook() <-chan time.Time {
	c := make(chan time.Time, 1)
	looks = append(looks, c)
	return c
}

// lookNow has all backends look.
func lookNow() {
	for _, c := range looks {
		select {
		case c <- time.Time{}:
		default: // it is to look anyway, or closed
		}
	}
}

// subject has the sysctls set that package sysctl sets on a node.
var subject = dataplanetest.Subject{
	AnswersByClient:      true,
	HashLags:             true,
	UDPGrace:             10 * time.Second,
	AffinityByFrontend:   true,
	OwnAffinityTimeout:   true,
	NoLocalhostNodePorts: true,
	New: func(config dataplane.Config) (dataplane.Backend, error) {
		return open(config, Options{Look: newLook()})
	},
	Cleanup: Cleanup,
	Content: listing,
	Damage: []dataplanetest.Damage{
		{Name: "flush IPVS", Do: func() error {
			h, err := ipvs.New("")
			if err != nil {
				return err
			}
			defer h.Close()
			defer lookNow()
			return h.Flush()
		}},
		damage("ip", "link", "delete", linkName),
		damage("ip", "address", "delete", dataplanetest.Frontends{Number: 1}.VIP()[0].String()+"/32", "dev", linkName),
		damage("ipset", "flush", setName(masqueradeSet, 0)),
		damage("ipset", "add", setName(dropSet, 1), dataplanetest.Frontends{Number: 1}.VIP()[1].String()+",tcp:80"),
		damage("iptables-legacy", "-t", "mangle", "-F", inputChain),
		damage("iptables-legacy", "-t", "nat", "-D", "POSTROUTING", "-j", postroutingChain),
		damage("ip6tables-legacy", "-I", refuseChain, "-j", "DROP"),
	},
}

func open(config dataplane.Config, options Options) (dataplane.Backend, error) {
	for _, name := range []string{"conntrack", "expire_nodest_conn", "expire_quiescent_template"} {
		path := "/proc/sys/net/ipv4/vs/" + name
		if _, err := os.Stat(path); err != nil {
			if _, err := openIPVS(); err != nil {
				return nil, err
			}
		}
		if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
			return nil, err
		}
	}
	b, err := New(config, options)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func damage(args ...string) dataplanetest.Damage {
	return dataplanetest.Damage{Name: strings.Join(args, " "), Do: func() error {
		defer lookNow()
		return command(args...)
	}}
}

func command(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

// listing is all that is ours in the kernel. A mark is as good as another: it
// is listed as what leads to it.
func listing() ([]string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	lines, err := list(k)
	// Flows that others made keep endpoints for a while, and virtual services
	// with them.
	const leaving = " weight 0"
	used := map[string]bool{}
	for _, line := range lines {
		if name, _, is := strings.Cut(line, " endpoint "); is && !strings.HasSuffix(line, leaving) {
			used[name] = true
		}
	}
	return slices.DeleteFunc(lines, func(line string) bool {
		name, _, is := strings.Cut(line, " {{")
		return strings.HasSuffix(line, leaving) || is && !used[name]
	}), err
}

func list(k *kernel) (lines []string, err error) {
	defer func() { err = errors.Join(err, k.close()) }()
	all := func(virtualKey) bool { return true }
	c, err := k.read(newMarkTable(0), all)
	if err != nil {
		return nil, err
	}
	for _, rules := range c.rules {
		lines = append(lines, rules...)
	}
	names := map[string]string{}
	for e, mark := range c.entries {
		lines = append(lines, fmt.Sprintf("set %s: %v %v %d %v", sets[e.set].name, e.addr, e.protocol, e.port, e.source))
		if name := fmt.Sprintf("%v %v", e.family(), mark); mark != 0 {
			from := netip.AddrPortFrom(e.addr, e.port).String() + "/" + e.protocol.String()
			if names[name] == "" || from < names[name] {
				names[name] = from
			}
		}
	}
	for key, v := range c.virtuals {
		name := fmt.Sprintf("%v/%v", key.address, key.protocol)
		if key.orphan != 0 {
			name = "within " + names[fmt.Sprintf("%v %v", key.family(), key.orphan)]
		}
		lines = append(lines, fmt.Sprintf("virtual %s %v", name, v.spec))
		for e, weight := range v.weights {
			lines = append(lines, fmt.Sprintf("virtual %s endpoint %v weight %d", name, e, weight))
		}
	}
	if c.addresses.exists {
		lines = append(lines, "link")
	}
	for a := range c.addresses.own {
		lines = append(lines, "address "+a.String())
	}
	slices.Sort(lines)
	return lines, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
