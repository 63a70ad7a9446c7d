package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/vishvananda/netlink"
)

// ControlPlane is a cluster without nodes: a switch with nothing but the
// control-plane host, and a tap device for the cable to another switch. That is
// one of a lab on another kernel (Options.Uplink), which has the nodes. Fairway is
// installed and its controller runs, and kubectl runs here for that lab: what is
// not of a node does not burden a slow kernel.
type ControlPlane struct {
	lab    *Lab
	server *http.Server
}

// tapName is what the tap device on the switch is called.
const tapName = "tap0"

// StartControlPlane makes one. Of the options those of nodes say nothing. The
// caller must [ControlPlane.Close] it.
func StartControlPlane(ctx context.Context, opts Options) (_ *ControlPlane, err error) {
	l, err := newEmpty(opts)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{lab: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := l.net.addTap(); err != nil {
		return nil, err
	}
	if err := l.cp.awaitCable(ctx, true); err != nil {
		return nil, err
	}
	if err := l.StartCluster(ctx); err != nil {
		return nil, err
	}
	if err := l.Install(ctx); err != nil {
		return nil, err
	}
	if _, err := l.StartController(ctx); err != nil {
		return nil, err
	}
	return c, c.serve()
}

// addTap adds the tap device.
func (n *network) addTap() error {
	err := n.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = tapName
		attrs.MasterIndex = n.bridge.Index
		tap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP}
		if err := netlink.LinkAdd(tap); err != nil {
			return err
		}
		return netlink.LinkSetUp(tap)
	})
	if err != nil {
		return fmt.Errorf("add a tap device to the switch: %w", err)
	}
	return nil
}

// Switch is the file of the network namespace with the tap device.
func (c *ControlPlane) Switch() string { return namespacePath(c.lab.net.Netns()) }

// Tap is the tap device's name.
func (c *ControlPlane) Tap() string { return tapName }

// Root is the repository.
func (c *ControlPlane) Root() string { return c.lab.opts.Root }

// Dir does as [Lab.Dir].
func (c *ControlPlane) Dir() string { return c.lab.Dir() }

// WriteLogs does as [Lab.WriteLogs].
func (c *ControlPlane) WriteLogs(w io.Writer, lines int) error { return c.lab.WriteLogs(w, lines) }

// Close ends the processes and removes namespaces and files.
func (c *ControlPlane) Close() error {
	var err error
	if c.server != nil {
		err = c.server.Close()
	}
	return errors.Join(err, c.lab.Close())
}

// The administrator's port on the control-plane host, and what it serves.
const (
	administratorPort = 8080
	kubeconfigPath    = "/kubeconfig"
	kubectlPath       = "/kubectl"
)

// kubectlRequest is a command for kubectl, and kubectlAnswer what came of it.
type (
	kubectlRequest struct {
		Args  []string
		Stdin string
	}
	kubectlAnswer struct{ Output, Error string }
)

// serve serves the administrator, who is on the same switch.
func (c *ControlPlane) serve() error {
	listener, err := c.lab.cp.Listen("tcp", fmt.Sprintf("%s:%d", c.lab.cp.Addr4(), administratorPort))
	if err != nil {
		return fmt.Errorf("serve the administrator: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+kubeconfigPath, func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, c.lab.Kubeconfig())
	})
	mux.HandleFunc("POST "+kubectlPath, func(w http.ResponseWriter, r *http.Request) {
		var request kubectlRequest
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var answer kubectlAnswer
		var err error
		if answer.Output, err = c.lab.Kubectl(r.Context(), request.Stdin, request.Args...); err != nil {
			answer.Error = err.Error()
		}
		_ = json.NewEncoder(w).Encode(answer) // a client that has gone does not want it
	})
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = c.server.Serve(listener) }() // until it is closed
	return nil
}
