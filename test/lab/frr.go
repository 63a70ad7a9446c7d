package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Where Debian has FRR's daemons. They drop to a user of their own, who must be
// able to write sockets.
const (
	frrPrograms = "/usr/lib/frr"
	frrUser     = "frr"
)

// frr runs FRRouting: zebra owns the kernel's routes, bgpd and bfdd speak.
type frr struct{ router *Router }

func (f *frr) files(o RouterOptions) map[string]string {
	return map[string]string{
		"zebra.conf": f.preamble(),
		"bfdd.conf":  f.preamble() + frrBFD(o),
		"bgpd.conf":  f.preamble() + frrBGP(o),
		"vtysh.conf": "", // vtysh complains where there is none
	}
}

func (f *frr) preamble() string {
	return fmt.Sprintf("hostname %s\nlog stdout informational\n", f.router.name)
}

func (f *frr) start(ctx context.Context) (processes []*Process, err error) {
	if err := f.giveAway(); err != nil {
		return nil, err
	}
	port := strconv.Itoa(int(f.router.opts.ListenPort))
	for _, daemon := range []struct {
		name string
		args []string
	}{
		// The others look for zebra once and then every few seconds.
		{"zebra", []string{"-s", "90000000"}},
		{"bfdd", []string{"--bfdctl", f.path("bfdd.sock")}},
		{"bgpd", []string{"-p", port, "-e", "64"}},
	} {
		// A killed daemon leaves its socket behind. Nobody may take it for the new one's.
		if err := os.Remove(f.path(daemon.name + ".vty")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return processes, err
		}
		argv := append([]string{filepath.Join(frrPrograms, daemon.name),
			"-f", f.path(daemon.name + ".conf"), "-i", f.path(daemon.name + ".pid"),
			"-z", f.path("zserv.api"), "--vty_socket", f.router.dir(), "-P", "0"}, daemon.args...)
		p, err := f.router.Start(daemon.name, argv, nil)
		if err != nil {
			return processes, err
		}
		processes = append(processes, p)
		if err := f.router.awaitCommands(ctx, p, func(ctx context.Context) error { return f.ready(ctx, daemon.name) }); err != nil {
			return processes, err
		}
	}
	return processes, nil
}

// ownAddress counts the addresses that bgpd knows of the router.
var ownAddress = regexp.MustCompile(`(?m)^BGP own address\s*:\s*(\d+)`)

// ready tells whether a daemon answers. bgpd resets connections until zebra has
// told it the addresses: one of each family on both links.
func (f *frr) ready(ctx context.Context, daemon string) error {
	memory, err := f.ask(ctx, daemon, "show memory")
	if err != nil || daemon != "bgpd" {
		return err
	}
	if count := ownAddress.FindStringSubmatch(memory); count == nil || number(count[1]) < 4 {
		return errors.New("it does not know the router's addresses yet")
	}
	return nil
}

// giveAway gives the router's folder to the daemons' user.
func (f *frr) giveAway() error {
	u, err := user.Lookup(frrUser)
	if err != nil {
		return fmt.Errorf("FRR is not installed: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	return os.Chown(f.router.dir(), uid, gid)
}

func (f *frr) path(name string) string { return filepath.Join(f.router.dir(), name) }

func (f *frr) vtysh(ctx context.Context, args ...string) (string, error) {
	return f.router.run(ctx, "vtysh", append([]string{"--vty_socket", f.router.dir(), "--config_dir", f.router.dir()}, args...)...)
}

func (f *frr) show(ctx context.Context, command string) (string, error) {
	return f.vtysh(ctx, "-c", command)
}

// ask gives a command to one daemon, as vtysh does but without the 50 ms that it
// takes to start.
func (f *frr) ask(ctx context.Context, daemon, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	answer, err := askVTY(ctx, f.path(daemon+".vty"), command)
	if err != nil {
		return "", fmt.Errorf("ask %s %q: %w", daemon, command, err)
	}
	return answer, nil
}

// askVTY asks in the mode that allows all of "show". ctx must have a deadline.
func askVTY(ctx context.Context, path, command string) (answer string, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	for _, c := range []string{"enable", command} {
		if _, err := conn.Write(append([]byte(c), 0)); err != nil {
			return "", err
		}
		if answer, err = readVTY(conn); err != nil {
			return "", err
		}
	}
	return answer, nil
}

// readVTY reads an answer: the text, three zero bytes and the status.
func readVTY(conn net.Conn) (string, error) {
	var text []byte
	buffer := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buffer)
		text = append(text, buffer[:n]...)
		if end := len(text) - 4; end >= 0 && bytes.Equal(text[end:end+3], []byte{0, 0, 0}) {
			if status := text[end+3]; status != 0 {
				return "", fmt.Errorf("status %d: %s", status, text[:end])
			}
			return string(text[:end]), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// configure runs commands in the configuration mode.
func (f *frr) configure(ctx context.Context, lines ...string) error {
	args := []string{"-c", "configure terminal"}
	for _, line := range lines {
		args = append(args, "-c", line)
	}
	_, err := f.vtysh(ctx, args...)
	return err
}

func (f *frr) reconfigure(ctx context.Context, before, after RouterOptions) error {
	lines := append(frrChanges(frrBFD(before), frrBFD(after)), frrChanges(frrBGP(before), frrBGP(after))...)
	if len(lines) == 0 {
		return nil
	}
	return f.configure(ctx, lines...)
}

func (f *frr) shutdown(ctx context.Context, neighbor netip.Addr, reason string) error {
	return f.configure(ctx, f.block(), fmt.Sprintf("neighbor %s shutdown message %s", neighbor, reason))
}

func (f *frr) enable(ctx context.Context, neighbor netip.Addr) error {
	return f.configure(ctx, f.block(), fmt.Sprintf("no neighbor %s shutdown", neighbor))
}

func (f *frr) clear(ctx context.Context, neighbor netip.Addr) error {
	out, err := f.vtysh(ctx, "-c", "clear bgp "+neighbor.String())
	if err == nil && strings.TrimSpace(out) != "" {
		err = errors.New(strings.TrimSpace(out))
	}
	return err
}

func (f *frr) block() string { return frrBlock(f.router.Options().AS) }

func frrBlock(as uint32) string { return fmt.Sprintf("router bgp %d", as) }
