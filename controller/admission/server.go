package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

const (
	// stopTimeout is for what is being answered when the controller stops.
	// The Lease is given up after it.
	stopTimeout = time.Second
	// readTimeout is for a request to come in; the API server gives up on an
	// answer after 30 seconds at most.
	readTimeout = 30 * time.Second
	// idleTimeout is longer than the API server's pauses, which would cost a
	// new connection.
	idleTimeout = 5 * time.Minute
)

// server is a webhook.Server that goes on trying, and that stops at once. The
// manager starts those before its cache: an object that is stored in v1alpha1
// cannot be cached until it can be converted.
type server struct {
	webhook.Server // knows the handlers; it is not started itself
	port           int
	source         certificateSource
	log            logr.Logger
}

// certificateSource has the certificates of a server.
type certificateSource interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Run works until ctx is done.
	Run(ctx context.Context)
}

// Start returns when ctx is done. It never fails: Fairway works without it.
func (s *server) Start(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.source.Run(ctx) })
	for {
		err := s.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.log.Error(err, "Admission and conversion are not served, trying again")
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return nil
		}
	}
}

// serve answers until ctx is done.
func (s *server) serve(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(s.port)))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	httpServer := &http.Server{
		Handler:           s.WebhookMux(),
		TLSConfig:         &tls.Config{GetCertificate: s.source.GetCertificate, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		// A client that does not trust the certificate yet is no trouble.
		ErrorLog: slog.NewLogLogger(logr.ToSlogHandler(s.log), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(stopped)
		// A connection that was never used counts as busy for 5 seconds.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if httpServer.Shutdown(stopping) != nil {
			if err := httpServer.Close(); err != nil {
				s.log.Error(err, "Closing the connections of admission and conversion")
			}
		}
	})
	s.log.Info("Serving admission and conversion", "port", s.port)
	err = httpServer.ServeTLS(listener, "", "")
	if !cancel() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving: %w", err)
}
