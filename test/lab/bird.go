package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// bird runs BIRD 2.
type bird struct{ router *Router }

func (b *bird) files(o RouterOptions) map[string]string {
	return map[string]string{"bird.conf": birdConfig(o)}
}

func (b *bird) path(name string) string { return filepath.Join(b.router.dir(), name) }

func (b *bird) start(ctx context.Context) ([]*Process, error) {
	// A killed daemon leaves its socket behind.
	if err := os.Remove(b.path("bird.ctl")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	p, err := b.router.Start("bird", []string{"/usr/sbin/bird", "-f", "-c", b.path("bird.conf"), "-s", b.path("bird.ctl"), "-P", b.path("bird.pid")}, nil)
	if err != nil {
		return nil, err
	}
	err = b.router.awaitCommands(ctx, p, func(ctx context.Context) error {
		_, err := b.show(ctx, "show status")
		return err
	})
	return []*Process{p}, err
}

func (b *bird) show(ctx context.Context, command string) (string, error) {
	return b.router.run(ctx, "birdc", "-s", b.path("bird.ctl"), command)
}

// birdRefusal is an answer with a code for errors of the command or its meaning.
var birdRefusal = regexp.MustCompile(`(?m)^[89]\d{3}[- ](.*)$`)

// do runs a command that has an effect.
func (b *bird) do(ctx context.Context, command string) error {
	out, err := b.router.run(ctx, "birdc", "-v", "-s", b.path("bird.ctl"), command)
	if err != nil {
		return err
	}
	if refusal := birdRefusal.FindStringSubmatch(out); refusal != nil {
		return fmt.Errorf("%s: %s", command, refusal[1])
	}
	return nil
}

func (b *bird) reconfigure(ctx context.Context, _, _ RouterOptions) error {
	return b.do(ctx, "configure")
}

func (b *bird) shutdown(ctx context.Context, neighbor netip.Addr, reason string) error {
	return b.toProtocol(ctx, "disable", neighbor, reason)
}

func (b *bird) enable(ctx context.Context, neighbor netip.Addr) error {
	return b.toProtocol(ctx, "enable", neighbor, "")
}

func (b *bird) clear(ctx context.Context, neighbor netip.Addr) error {
	return b.toProtocol(ctx, "restart", neighbor, "")
}

func (b *bird) toProtocol(ctx context.Context, verb string, neighbor netip.Addr, reason string) error {
	protocols, err := b.protocols(ctx)
	if err != nil {
		return err
	}
	for name, p := range protocols {
		if p.session.Neighbor == neighbor.WithZone("") {
			command := verb + " " + name
			if reason != "" {
				command += fmt.Sprintf(" %q", strings.ReplaceAll(reason, `"`, `'`))
			}
			return b.do(ctx, command)
		}
	}
	return errNoNeighbor
}
