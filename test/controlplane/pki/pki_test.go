package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

var now = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)

func TestServerCertificateCoversEveryNameOfTheAPIServer(t *testing.T) {
	for _, test := range []struct {
		address  string
		services []string
		want     []string
	}{
		{"192.0.2.10:6443", []string{"10.96.0.0/16", "fd00:10:96::/112"}, []string{"192.0.2.10", "10.96.0.1", "fd00:10:96::1"}},
		{"[2001:db8::10]:443", []string{"fd00:1::/112"}, []string{"2001:db8::10", "fd00:1::1"}},
		{"127.0.0.2:6443", []string{"10.96.7.7/16"}, []string{"127.0.0.2", "10.96.0.1"}},
	} {
		t.Run(test.address, func(t *testing.T) {
			files := ensure(t, t.TempDir(), test.address, test.services...)
			names := append(test.want, "127.0.0.1", "::1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
			for _, name := range names {
				verify(t, files, readPair(t, files.ServerCert, files.ServerKey), name, x509.ExtKeyUsageServerAuth)
			}
		})
	}
}

func TestKubeconfigsLeadToTheServerAsTheirUsers(t *testing.T) {
	files := ensure(t, t.TempDir(), "[2001:db8::10]:6443", "10.96.0.0/16")
	for path, user := range map[string]struct{ name, group string }{
		files.AdminKubeconfig:             {"admin", "system:masters"},
		files.KubeProxyKubeconfig:         {"system:kube-proxy", "system:node-proxier"},
		files.ControllerManagerKubeconfig: {"system:kube-controller-manager", ""},
	} {
		t.Run(user.name, func(t *testing.T) {
			config, err := clientcmd.BuildConfigFromFlags("", path)
			if err != nil {
				t.Fatal(err)
			}
			if want := "https://[2001:db8::10]:6443"; config.Host != want {
				t.Errorf("server %s, want %s", config.Host, want)
			}
			if ca := read(t, files.CA); !bytes.Equal(config.CAData, ca) {
				t.Error("it has another authority")
			}
			cert := verify(t, files, keyPair(t, config.CertData, config.KeyData), "", x509.ExtKeyUsageClientAuth)
			if got, group := cert.Subject.CommonName, strings.Join(cert.Subject.Organization, ","); got != user.name || group != user.group {
				t.Errorf("user %q in group %q, want %q in %q", got, group, user.name, user.group)
			}
		})
	}
}

func TestRestartKeepsTheRootsOfTrustAndFollowsTheAddress(t *testing.T) {
	dir := t.TempDir()
	first := ensure(t, dir, "192.0.2.10:6443", "10.96.0.0/16")
	kept := map[string][]byte{}
	for _, path := range []string{first.CA, first.ServiceAccountKey, first.ServiceAccountPublicKey} {
		kept[path] = read(t, path)
	}
	oldClient, err := clientcmd.BuildConfigFromFlags("", first.AdminKubeconfig)
	if err != nil {
		t.Fatal(err)
	}

	second := ensure(t, dir, "192.0.2.20:7443", "10.97.0.0/16")
	for path, old := range kept {
		if !bytes.Equal(old, read(t, path)) {
			t.Errorf("%s changed", path)
		}
	}
	// What clients hold still works, and the new address is covered.
	verify(t, second, keyPair(t, oldClient.CertData, oldClient.KeyData), "", x509.ExtKeyUsageClientAuth)
	verify(t, second, readPair(t, second.ServerCert, second.ServerKey), "192.0.2.20", x509.ExtKeyUsageServerAuth)
	newClient, err := clientcmd.BuildConfigFromFlags("", second.AdminKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if want := "https://192.0.2.20:7443"; newClient.Host != want {
		t.Errorf("server %s, want %s", newClient.Host, want)
	}
}

func TestInterruptedFirstStartIsCompleted(t *testing.T) {
	complete := ensure(t, t.TempDir(), "127.0.0.1:6443")
	entries, err := os.ReadDir(filepath.Dir(complete.CA))
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range entries {
		t.Run("without "+missing.Name(), func(t *testing.T) {
			dir := t.TempDir()
			files := ensure(t, dir, "127.0.0.1:6443")
			if err := os.Remove(filepath.Join(dir, "pki", missing.Name())); err != nil {
				t.Fatal(err)
			}
			files = ensure(t, dir, "127.0.0.1:6443")
			verify(t, files, readPair(t, files.ServerCert, files.ServerKey), "127.0.0.1", x509.ExtKeyUsageServerAuth)
			if _, err := os.Stat(filepath.Join(dir, "pki", missing.Name())); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOnlyTheOwnerReadsPrivateFiles(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir, "127.0.0.1:6443")
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if secret := bytes.Contains(read(t, path), []byte("PRIVATE KEY")) || strings.HasSuffix(path, "kubeconfig"); secret && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s was left behind", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBadAuthorityIsNotReplacedSilently(t *testing.T) {
	other := ensure(t, t.TempDir(), "127.0.0.1:6443")
	for name, spoil := range map[string]func(t *testing.T, f Files){
		"not PEM":               func(t *testing.T, f Files) { overwrite(t, f.CA, []byte("garbage")) },
		"not a certificate":     func(t *testing.T, f Files) { overwrite(t, f.CA, read(t, f.ServiceAccountPublicKey)) },
		"a key of another pair": func(t *testing.T, f Files) { overwrite(t, f.CA, read(t, other.CA)) },
		"empty":                 func(t *testing.T, f Files) { overwrite(t, f.CA, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			spoil(t, ensure(t, dir, "127.0.0.1:6443"))
			_, err := Ensure(dir, config("127.0.0.1:6443"), now)
			if err == nil || !strings.Contains(err.Error(), "remove the directory to begin with a new cluster") {
				t.Errorf("got %v, want an error that says what to do", err)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		dir := t.TempDir()
		ensure(t, dir, "127.0.0.1:6443")
		if _, err := Ensure(dir, config("127.0.0.1:6443"), now.Add(authorityLifetime+time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("got %v, want an error that says so", err)
		}
	})
}

func config(address string, services ...string) Config {
	c := Config{Address: netip.MustParseAddrPort(address)}
	for _, s := range services {
		c.Services = append(c.Services, netip.MustParsePrefix(s))
	}
	return c
}

func ensure(t *testing.T, dir, address string, services ...string) Files {
	t.Helper()
	files, err := Ensure(dir, config(address, services...), now)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// verify wants the certificate to be accepted by a peer that trusts the authority.
func verify(t *testing.T, files Files, pair tls.Certificate, name string, usage x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read(t, files.CA)) {
		t.Fatalf("%s has no certificate", files.CA)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, DNSName: name, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	}); err != nil {
		t.Errorf("certificate of %s: %v", pair.Leaf.Subject, err)
	}
	return pair.Leaf
}

func readPair(t *testing.T, cert, key string) tls.Certificate {
	t.Helper()
	return keyPair(t, read(t, cert), read(t, key))
}

func keyPair(t *testing.T, cert, key []byte) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func overwrite(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
