package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// The network behind a router, with the router's number in it: RFC 2544's
// addresses for benchmarks, and RFC 3849's for documentation.
const (
	behindRouter = 1
	behindClient = 100
)

func behindOf(number int) [2]netip.Prefix {
	return [2]netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("198.18.%d.0/24", number)),
		netip.MustParsePrefix(fmt.Sprintf("2001:db8:18:%x::/64", number)),
	}
}

// Router is a host on the switch that forwards to a network of its own behind
// it, and speaks BGP with the help of a daemon. Its methods are safe for
// concurrent use; what ends, starts or configures the daemon happens one after
// the other.
type Router struct {
	*Host
	number int
	client *Namespace
	daemon routingDaemon // nil for NoDaemon

	mu        sync.Mutex // guards what follows
	opts      RouterOptions
	processes []*Process
}

// routingDaemon is what differs between FRR and BIRD.
type routingDaemon interface {
	// files are its configuration files by name.
	files(RouterOptions) map[string]string
	// start starts its processes and waits until they take commands.
	start(ctx context.Context) ([]*Process, error)
	// reconfigure makes the running daemon follow the options; the files are
	// written already.
	reconfigure(ctx context.Context, before, after RouterOptions) error
	show(ctx context.Context, command string) (string, error)
	session(ctx context.Context, neighbor netip.Addr) (BGPSession, error)
	route(ctx context.Context, prefix netip.Prefix) (BGPRoute, error)
	bfd(ctx context.Context, neighbor netip.Addr) (BFDSession, error)
	shutdown(ctx context.Context, neighbor netip.Addr, reason string) error
	enable(ctx context.Context, neighbor netip.Addr) error
	clear(ctx context.Context, neighbor netip.Addr) error
}

// AddRouter makes a router with a network and a client behind it, and starts its
// daemon. Every host of the lab that exists by now gets a route to the client.
// It returns when the daemon takes commands; sessions may not be up yet.
func (l *Lab) AddRouter(ctx context.Context, opts RouterOptions) (*Router, error) {
	begin := time.Now()
	r, err := l.newRouter(opts)
	if err != nil {
		return nil, fmt.Errorf("add a router: %w", err)
	}
	if err := r.awaitCable(ctx, true); err != nil {
		return nil, fmt.Errorf("add router %s: %w", r.name, err)
	}
	if err := r.Restart(ctx); err != nil {
		return nil, fmt.Errorf("add router %s: %w", r.name, err)
	}
	l.logf("lab %s: router %s (%s) is up after %s", l.ID(), r.name, r.opts.Kind, time.Since(begin).Round(time.Millisecond))
	return r, nil
}

// Routers returns the routers in the order in which they were added.
func (l *Lab) Routers() []*Router {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.routers)
}

// Router returns the router of that name ("r1"), nil if there is none.
func (l *Lab) Router(name string) *Router {
	for _, r := range l.Routers() {
		if r.name == name {
			return r
		}
	}
	return nil
}

// newRouter makes the namespaces and links, but starts nothing.
func (l *Lab) newRouter(opts RouterOptions) (*Router, error) {
	if opts.Number == 0 {
		opts.Number = l.freeRouterNumber()
	}
	if err := opts.complete(); err != nil {
		return nil, err
	}
	for _, h := range l.hosts() {
		if h.name == opts.Name || h.addr4 == lanAddr4(opts.Number) {
			return nil, fmt.Errorf("%s with number %d: there is %s at %s already", opts.Name, opts.Number, h.name, h.Addr4())
		}
	}
	host, err := l.addHost(opts.Name, "eth0", opts.Number)
	if err != nil {
		return nil, err
	}
	r := &Router{Host: host, number: opts.Number, opts: opts}
	if err := r.forward(); err != nil {
		return nil, err
	}
	if err := r.addNetworkBehind(); err != nil {
		return nil, fmt.Errorf("network behind router %s: %w", r.name, err)
	}
	for _, h := range l.hosts() {
		if err := h.addRouteBehind(r); err != nil {
			return nil, fmt.Errorf("route of %s to the network behind router %s: %w", h.name, r.name, err)
		}
	}
	if err := os.MkdirAll(r.dir(), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of router %s: %w", r.name, err)
	}
	switch opts.Kind {
	case FRR:
		r.daemon = &frr{router: r}
	case BIRD:
		r.daemon = &bird{router: r}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routers = append(l.routers, r)
	return r, nil
}

func (l *Lab) freeRouterNumber() int {
	number := firstRouter
	for slices.ContainsFunc(l.Routers(), func(r *Router) bool { return r.number == number }) {
		number++
	}
	return number
}

// forward makes a router of the host's kernel.
func (r *Router) forward() error {
	err := r.Do(func() error {
		return setSysctls(map[string]string{
			"net.ipv4.ip_forward":          "1",
			"net.ipv6.conf.all.forwarding": "1",
			// A client on the switch reaches an address through the router, not
			// past it. The kernel takes the stricter of all and the link's own.
			"net.ipv4.conf.all.send_redirects":            "0",
			"net.ipv4.conf.default.send_redirects":        "0",
			"net.ipv4.conf." + r.link + ".send_redirects": "0",
			"net.ipv4.fib_multipath_hash_policy":          "1", // by connection
			"net.ipv6.fib_multipath_hash_policy":          "1",
		})
	})
	if err != nil {
		return fmt.Errorf("make host %s a router: %w", r.name, err)
	}
	return nil
}

// behindLink is the router's link to the network behind it.
const behindLink = "eth1"

func (r *Router) addNetworkBehind() (err error) {
	if r.client, err = r.lab.newNamespace(r.name + "client"); err != nil {
		return err
	}
	if err := r.client.Do(func() error { return setSysctls(hostDefaults()) }); err != nil {
		return err
	}
	nets := behindOf(r.number)
	at := func(number int) []netip.Prefix {
		return []netip.Prefix{
			netip.PrefixFrom(nth(nets[0], number), nets[0].Bits()),
			netip.PrefixFrom(nth(nets[1], number), nets[1].Bits()),
		}
	}
	err = r.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = behindLink
		attrs.Index = 1000 // different from the other end's; see plug
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(r.client.handle))}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add link %s: %w", behindLink, err)
		}
		_, err := bringUp(behindLink, at(behindRouter)...)
		return err
	})
	if err != nil {
		return err
	}
	return r.client.Do(func() error {
		link, err := bringUp("eth0", at(behindClient)...)
		if err != nil {
			return err
		}
		return errors.Join(
			addRoute(link, netip.MustParsePrefix("0.0.0.0/0"), nth(nets[0], behindRouter)),
			addRoute(link, netip.MustParsePrefix("::/0"), nth(nets[1], behindRouter)),
		)
	})
}

// addRouteBehind leads a host's answers back through the router that asked.
func (h *Host) addRouteBehind(r *Router) error {
	nets := behindOf(r.number)
	return h.Do(func() error {
		link, err := netlink.LinkByName(h.link)
		if err != nil {
			return err
		}
		return errors.Join(addRoute(link, nets[0], r.Addr4()), addRoute(link, nets[1], r.Addr6()))
	})
}

// Client is the host behind the router: what it asks for goes where the
// router's kernel sends it.
func (r *Router) Client() *Namespace { return r.client }

// ClientAddr4 is the IPv4 address of the client behind the router.
func (r *Router) ClientAddr4() netip.Addr { return nth(behindOf(r.number)[0], behindClient) }

// ClientAddr6 is the IPv6 address of the client behind the router.
func (r *Router) ClientAddr6() netip.Addr { return nth(behindOf(r.number)[1], behindClient) }

// Options returns what the router is configured as, with the defaults.
func (r *Router) Options() RouterOptions {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opts
}

// dir has the daemon's configuration and sockets; it disappears with the lab.
func (r *Router) dir() string {
	return filepath.Join(r.lab.state.dir, "router-"+r.name)
}

// startLocked writes the configuration and starts the daemon, which does not run.
func (r *Router) startLocked(ctx context.Context) error {
	if r.daemon == nil {
		return nil
	}
	if err := r.writeFiles(); err != nil {
		return err
	}
	processes, err := r.daemon.start(ctx)
	r.processes = processes
	if err != nil {
		return errors.Join(fmt.Errorf("start %s of router %s: %w", r.opts.Kind, r.name, err), r.killLocked())
	}
	return nil
}

func (r *Router) writeFiles() error {
	for name, text := range r.daemon.files(r.opts) {
		if err := os.WriteFile(filepath.Join(r.dir(), name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("configure router %s: %w", r.name, err)
		}
	}
	return nil
}

// Kill ends all processes of the daemon with SIGKILL. The kernel closes their
// connections; the routes that they installed stay.
func (r *Router) Kill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.killLocked()
}

func (r *Router) killLocked() error {
	var errs []error
	for _, p := range r.processes {
		errs = append(errs, p.Kill())
	}
	r.processes = nil
	return errors.Join(errs...)
}

// Restart kills the daemon, if it runs, and starts it again. It returns when the
// daemon takes commands.
func (r *Router) Restart(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.killLocked(); err != nil {
		return err
	}
	return r.startLocked(ctx)
}

// Reconfigure gives the router other options, but not another name, number or
// kind. Sessions that the change is not about stay up; a change of AS or
// ListenPort restarts the daemon.
func (r *Router) Reconfigure(ctx context.Context, opts RouterOptions) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.opts
	opts.Name, opts.Number, opts.Kind = before.Name, before.Number, before.Kind
	if err := opts.complete(); err != nil {
		return fmt.Errorf("reconfigure router %s: %w", r.name, err)
	}
	r.opts = opts
	if r.daemon == nil {
		return nil
	}
	if opts.AS != before.AS || opts.ListenPort != before.ListenPort {
		return errors.Join(r.killLocked(), r.startLocked(ctx))
	}
	if err := r.writeFiles(); err != nil {
		return err
	}
	if err := r.daemon.reconfigure(ctx, before, opts); err != nil {
		return fmt.Errorf("reconfigure router %s: %w", r.name, err)
	}
	return nil
}

// awaitCommands waits until a daemon answers, and not longer than it runs.
func (r *Router) awaitCommands(ctx context.Context, p *Process, ask func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.Done():
			cancel(errors.New("it ended"))
		case <-ctx.Done():
		}
	}()
	err := poll(ctx, p.name+" of router "+r.name+" takes commands", func() error { return ask(ctx) })
	if err != nil {
		err = errors.Join(err, p.Err())
	}
	return err
}

// run runs a program that talks to a daemon and returns what it printed.
func (r *Router) run(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	out, err := r.Command(ctx, program, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// commandTimeout is far more than a daemon needs to answer with 100,000 routes.
const commandTimeout = 30 * time.Second
