// Command lab-pod is what runs in the lab's pods: an HTTP server that answers
// with its name and the client address that it saw. It writes a byte to file
// descriptor 3 when it listens.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

func main() {
	name := flag.String("name", "", "the name that it answers with")
	listen := flag.String("listen", ":80", "addresses to listen on, separated by commas")
	flag.Parse()
	if err := run(*name, strings.Split(*listen, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "lab-pod:", err)
		os.Exit(1)
	}
}

func run(name string, addresses []string) error {
	server := &http.Server{Handler: whoSees(name), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, len(addresses))
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() { failed <- server.Serve(listener) }()
	}
	ready := os.NewFile(3, "ready")
	if _, err := ready.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("say that it is ready: %w", err)
	}
	return errors.Join(ready.Close(), <-failed)
}

// whoSees answers "<name> <client address>".
func whoSees(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%s %s\n", name, client.Addr().Unmap())
	})
}
