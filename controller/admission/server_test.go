package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// testSource has the certificate of net/http/httptest.
type testSource struct{ cert tls.Certificate }

func (s testSource) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &s.cert, nil
}
func (s testSource) Run(ctx context.Context) { <-ctx.Done() }

func newTestServer(t *testing.T, port int) (*server, *http.Client) {
	t.Helper()
	borrowed := httptest.NewTLSServer(http.NotFoundHandler())
	defer borrowed.Close()
	s := &server{Server: webhook.NewServer(webhook.Options{}), port: port, source: testSource{borrowed.TLS.Certificates[0]}, log: logr.Discard()}
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	s.Register(conversionPath, newConversion(scheme))
	client := borrowed.Client()
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
	return s, client
}

// freePort returns a port and a listener that holds it.
func freePort(t *testing.T) (int, net.Listener) {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	return listener.Addr().(*net.TCPAddr).Port, listener
}

// The server waits for its port, answers, and stops though a connection was
// opened that nobody uses.
func TestServer(t *testing.T) {
	port, listener := freePort(t)
	s, client := newTestServer(t, port)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("https://127.0.0.1:%d%s", port, conversionPath)
	body := `{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"1","desiredAPIVersion":"network.kubesphere.io/v1alpha1","objects":[
		{"apiVersion":"network.kubesphere.io/v1alpha2","kind":"Eip","metadata":{"name":"pool"},"spec":{"address":"10.0.0.1","interface":"eth0"}}]}}`
	var answer *http.Response
	deadline := time.After(time.Minute)
	for ticker := time.NewTicker(10 * time.Millisecond); answer == nil; {
		var err error
		if answer, err = client.Post(url, "application/json", strings.NewReader(body)); err == nil {
			break
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(text), `{\"interface\":\"eth0\"}`) {
		t.Errorf("converted to %s", text)
	}
	idle, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServerStopsWithoutItsPort(t *testing.T) {
	port, listener := freePort(t)
	defer listener.Close()
	s, _ := newTestServer(t, port)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Start(ctx); err != nil {
		t.Error(err)
	}
}

// What the API server would never send gets an answer, and no memory.
func TestConversionOfJunk(t *testing.T) {
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	handler := newConversion(scheme)
	review := func(objects string) string {
		return `{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"1","desiredAPIVersion":"network.kubesphere.io/v1alpha1","objects":[` + objects + `]}}`
	}
	for name, body := range map[string]string{
		"nothing":      "",
		"no JSON":      "{",
		"no request":   "{}",
		"no objects":   review(""),
		"null":         review("null"),
		"no kind":      review("{}"),
		"another kind": review(`{"apiVersion":"v1","kind":"Pod"}`),
		"no version":   review(`{"apiVersion":"network.kubesphere.io/v1alpha9","kind":"Eip"}`),
		"wrong types":  review(`{"apiVersion":"network.kubesphere.io/v1alpha2","kind":"Eip","spec":{"address":[]}}`),
		"same version": review(`{"apiVersion":"network.kubesphere.io/v1alpha1","kind":"Eip"}`),
		"too large":    review(`{"apiVersion":"network.kubesphere.io/v1alpha2","kind":"Eip","spec":{"address":"` + strings.Repeat("x", maxConversionBytes) + `"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodPost, conversionPath, bytes.NewBufferString(body)))
			if recorder.Code == http.StatusBadRequest {
				return
			}
			var answer apiextensionsv1.ConversionReview
			if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || answer.Response == nil {
				t.Fatalf("status %d, %s (%v)", recorder.Code, recorder.Body, err)
			}
			if name != "no objects" && answer.Response.Result.Status != "Failure" {
				t.Errorf("converted: %s", recorder.Body)
			}
		})
	}
}
