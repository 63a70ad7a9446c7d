package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

const testName = "fairway-webhook.fairway-system.svc"

// The Secret lives through: nothing, years of renewals, and damage.
func TestRenew(t *testing.T) {
	now := time.Now()
	made := mustRenew(t, nil, now, true)
	trustedBy(t, made, made[caCertField], now)

	for days, changes := range map[int]bool{1: false, 274: false, 276: true} {
		at := now.Add(time.Duration(days) * 24 * time.Hour)
		renewed := mustRenew(t, made, at, changes)
		trustedBy(t, renewed, made[caCertField], at) // what trusted the first trusts it still
	}
	lastYear := now.Add(caLifetime - renewalAhead + time.Hour)
	renewed := mustRenew(t, made, lastYear, true)
	if bytes.Equal(renewed[caCertField], made[caCertField]) {
		t.Error("the CA was not renewed in its last days")
	}
	trustedBy(t, renewed, renewed[caCertField], lastYear)
}

func TestRenewRepairs(t *testing.T) {
	now := time.Now()
	good, other := mustRenew(t, nil, now, true), mustRenew(t, nil, now, true)
	for name, damage := range map[string]func(map[string][]byte){
		"no certificate": func(d map[string][]byte) { delete(d, certField) },
		"no key":         func(d map[string][]byte) { delete(d, keyField) },
		"no CA key":      func(d map[string][]byte) { delete(d, caKeyField) },
		"no CA":          func(d map[string][]byte) { delete(d, caCertField) },
		"junk":           func(d map[string][]byte) { d[caCertField] = []byte("junk") },
		"junk in PEM": func(d map[string][]byte) {
			d[caKeyField] = []byte("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n")
		},
		"empty":                func(d map[string][]byte) { d[keyField] = nil },
		"another CA":           func(d map[string][]byte) { d[caCertField], d[caKeyField] = other[caCertField], other[caKeyField] },
		"another CA's key":     func(d map[string][]byte) { d[caKeyField] = other[caKeyField] },
		"another server's key": func(d map[string][]byte) { d[keyField] = other[keyField] },
	} {
		t.Run(name, func(t *testing.T) {
			data := map[string][]byte{"kept": []byte("kept")}
			for field, value := range good {
				data[field] = value
			}
			damage(data)
			renewed := mustRenew(t, data, now, true)
			trustedBy(t, renewed, renewed[caCertField], now)
			if string(renewed["kept"]) != "kept" {
				t.Error("a field that is not ours is gone")
			}
			mustRenew(t, renewed, now, false)
		})
	}
	t.Run("another name", func(t *testing.T) {
		if _, changed, err := renew(good, "fairway-webhook.elsewhere.svc", now); !changed || err != nil {
			t.Errorf("changed %v, %v", changed, err)
		}
	})
}

func mustRenew(t *testing.T, data map[string][]byte, now time.Time, changes bool) map[string][]byte {
	t.Helper()
	renewed, changed, err := renew(data, testName, now)
	if err != nil {
		t.Fatal(err)
	}
	if changed != changes {
		t.Fatalf("changed: %v, want %v", changed, changes)
	}
	return renewed
}

// trustedBy fails the test unless a client that trusts the CA takes the
// certificate.
func trustedBy(t *testing.T, data map[string][]byte, ca []byte, now time.Time) {
	t.Helper()
	pair, err := tls.X509KeyPair(data[certField], data[keyField])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no CA")
	}
	options := x509.VerifyOptions{Roots: roots, DNSName: testName, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if _, err := pair.Leaf.Verify(options); err != nil {
		t.Error(err)
	}
}
