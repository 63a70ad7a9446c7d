package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// maxSocketPath is the length that the kernel allows for the path of a Unix
// socket (unix(7): 108 bytes with the final zero).
const maxSocketPath = 107

// startEtcd starts etcd on a Unix socket in dir, where only our user reaches
// it without TLS and no port can be in use, and returns the URL for clients.
func startEtcd(parts *parts, dir string) (endpoint string, err error) {
	client := url.URL{Scheme: "unix", Path: filepath.Join(dir, "etcd.sock")}
	if n := len(client.Path); n > maxSocketPath {
		return "", fmt.Errorf("the path of --dir is %d characters too long for a socket in it: choose a shorter one", n-maxSocketPath)
	}
	config := embed.NewConfig()
	config.Dir = filepath.Join(dir, "etcd")
	config.LogLevel = "warn"
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls = nil // a single member has no peers
	// Data survive the end of the process but not a power cut: right for tests.
	config.UnsafeNoFsync = true

	ready := make(chan struct{})
	parts.launch("etcd", time.Second, func(ctx context.Context) error {
		etcd, err := embed.StartEtcd(config)
		if err != nil {
			return fmt.Errorf("start with data in %s: %w", config.Dir, err)
		}
		defer etcd.Close()
		select {
		case <-etcd.Server.ReadyNotify():
			close(ready)
		case err := <-etcd.Err():
			return err
		case <-ctx.Done():
			return nil
		}
		select {
		case err := <-etcd.Err():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	select {
	case <-ready:
		return client.String(), nil
	case <-parts.running.Done():
		return "", context.Cause(parts.running)
	}
}
