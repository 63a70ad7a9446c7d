package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
)

const (
	// listenRetry is how soon a port is tried again that is taken: by a
	// kube-proxy that is about to be removed, most of the time.
	listenRetry = time.Second
	// requestTimeout bounds how long a client may take to ask.
	requestTimeout = 10 * time.Second
	maxHeader      = 64 << 10 // bytes
)

// healthServer serves the dataplane's /healthz and /livez as soon as the port
// is free. It is a manager's Runnable.
type healthServer struct {
	address string
	handler http.Handler
	log     logr.Logger
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every speaker
// runs this.
func (h *healthServer) NeedLeaderElection() bool { return false }

// Start serves until ctx is done.
func (h *healthServer) Start(ctx context.Context) error {
	listener := h.listen(ctx)
	if listener == nil {
		return nil
	}
	server := &http.Server{Handler: h.handler, ReadHeaderTimeout: requestTimeout, MaxHeaderBytes: maxHeader}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serving the dataplane's health on %s: %w", h.address, err)
	case <-ctx.Done():
	}
	err := server.Close()
	if served := <-stopped; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// listen returns nil when ctx is done.
func (h *healthServer) listen(ctx context.Context) net.Listener {
	var config net.ListenConfig
	ticker := time.NewTicker(listenRetry)
	defer ticker.Stop()
	for said := ""; ; {
		listener, err := config.Listen(ctx, "tcp", h.address)
		if err == nil {
			return listener
		}
		if ctx.Err() != nil {
			return nil
		}
		if text := err.Error(); text != said {
			h.log.Error(err, "The dataplane's health is not served, until this works. A kube-proxy listens on port 10256; --proxy-healthz-addr sets another")
			said = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
