package certificate

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Files is a certificate that somebody else keeps in files.
type Files struct {
	cert, key string
	log       logr.Logger
	watcher   atomic.Pointer[certwatcher.CertWatcher]
}

// NewFiles reads a certificate and its key (PEM), also when they change.
func NewFiles(cert, key string, log logr.Logger) *Files {
	return &Files{cert: cert, key: key, log: log}
}

// GetCertificate is for a tls.Config.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if watcher := f.watcher.Load(); watcher != nil {
		return watcher.GetCertificate(hello)
	}
	return nil, errNoCertificate
}

// Run watches the files until ctx is done, and for them to come into being.
func (f *Files) Run(ctx context.Context) {
	for ctx.Err() == nil {
		watcher, err := certwatcher.New(f.cert, f.key)
		if err == nil {
			f.watcher.Store(watcher)
			err = watcher.Start(ctx)
		}
		if err != nil && ctx.Err() == nil {
			f.log.Error(err, "Reading the certificate of admission and conversion, trying again", "file", f.cert)
		}
		select {
		case <-time.After(maxRetryDelay / 10):
		case <-ctx.Done():
		}
	}
}
