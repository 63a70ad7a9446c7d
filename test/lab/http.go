package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// getTimeout bounds one request; a connection to an address that nobody answers
// for fails after about 3 s on its own.
const getTimeout = 10 * time.Second

// Get asks for a URL from the client outside the cluster. See [Namespace.Get].
func (l *Lab) Get(ctx context.Context, url string) (string, error) {
	return l.client.Get(ctx, url)
}

// Get asks for a URL from inside the namespace, on a new connection each time,
// and returns the body without the line end. The URL's host must be an IP
// address. Any status but 200 is an error.
func (n *Namespace) Get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("get %s: %w", url, err)
	}
	transport := &http.Transport{DialContext: n.DialContext, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("get %s from %s: %w", url, n.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("get %s from %s: %w", url, n.name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s from %s: %s: %s", url, n.name, resp.Status, body)
	}
	return strings.TrimRight(string(body), "\n"), nil
}
