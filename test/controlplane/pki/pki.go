// Package pki makes the certificates, keys and kubeconfigs of a control plane
// for tests. The certificate authority and the key that signs the tokens of
// ServiceAccounts are kept for the life of the cluster; everything below them
// is issued anew at each start, so that a changed address needs no care.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Config says where the API server is reached.
type Config struct {
	Address  netip.AddrPort
	Services []netip.Prefix // the API server's own Service has the first address
}

// Files are the absolute or relative paths (as the directory was) of all that
// the programs read.
type Files struct {
	CA                          string
	ServerCert, ServerKey       string
	ServiceAccountKey           string
	ServiceAccountPublicKey     string
	AdminKubeconfig             string
	KubeProxyKubeconfig         string
	ControllerManagerKubeconfig string
}

// The authority outlives any cluster for tests, the rest any run of one.
const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime      = 365 * 24 * time.Hour
	// clockSkew lets hosts with a clock behind ours accept a new certificate.
	clockSkew = time.Hour
)

// Ensure makes what is missing in dir and dir/pki, renews what depends on the
// configuration, and returns the paths. Files are replaced in one step, so a
// reader never sees half of one; those with a private key are for the owner only.
func Ensure(dir string, config Config, now time.Time) (Files, error) {
	sub := filepath.Join(dir, "pki")
	files := Files{
		CA:                          filepath.Join(sub, "ca.crt"),
		ServerCert:                  filepath.Join(sub, "apiserver.crt"),
		ServerKey:                   filepath.Join(sub, "apiserver.key"),
		ServiceAccountKey:           filepath.Join(sub, "service-account.key"),
		ServiceAccountPublicKey:     filepath.Join(sub, "service-account.pub"),
		AdminKubeconfig:             filepath.Join(dir, "admin.kubeconfig"),
		KubeProxyKubeconfig:         filepath.Join(dir, "kube-proxy.kubeconfig"),
		ControllerManagerKubeconfig: filepath.Join(sub, "kube-controller-manager.kubeconfig"),
	}
	if err := os.MkdirAll(sub, 0o700); err != nil {
		return Files{}, fmt.Errorf("make the directory of the certificates: %w", err)
	}
	ca, err := ensureAuthority(files.CA, filepath.Join(sub, "ca.key"), now)
	if err != nil {
		return Files{}, err
	}
	if err := ensureServiceAccountKey(files.ServiceAccountKey, files.ServiceAccountPublicKey); err != nil {
		return Files{}, err
	}

	server, err := ca.issue(serverTemplate(config), now)
	if err != nil {
		return Files{}, err
	}
	if err := server.write(files.ServerCert, files.ServerKey); err != nil {
		return Files{}, err
	}
	for _, user := range []struct {
		path, name, group string
	}{
		{files.AdminKubeconfig, "admin", "system:masters"},
		{files.KubeProxyKubeconfig, "system:kube-proxy", "system:node-proxier"},
		{files.ControllerManagerKubeconfig, "system:kube-controller-manager", ""},
	} {
		client, err := ca.issue(clientTemplate(user.name, user.group), now)
		if err != nil {
			return Files{}, err
		}
		kubeconfig, err := kubeconfig("https://"+config.Address.String(), ca.pair, client)
		if err != nil {
			return Files{}, fmt.Errorf("make the kubeconfig of %s: %w", user.name, err)
		}
		if err := writeFile(user.path, kubeconfig, 0o600); err != nil {
			return Files{}, err
		}
	}
	return files, nil
}

// authority signs certificates.
type authority struct {
	pair
	cert *x509.Certificate
	key  crypto.Signer
}

// pair is a certificate and its private key as PEM.
type pair struct{ cert, key []byte }

func ensureAuthority(certPath, keyPath string, now time.Time) (*authority, error) {
	cert, certErr := os.ReadFile(certPath)
	key, keyErr := os.ReadFile(keyPath)
	if certErr == nil && keyErr == nil {
		ca, err := parseAuthority(pair{cert, key}, now)
		if err != nil {
			return nil, fmt.Errorf("use the certificate authority %s: %w: remove the directory to begin with a new cluster", certPath, err)
		}
		return ca, nil
	}
	for _, err := range []error{certErr, keyErr} {
		// Half an authority comes from a first start that was interrupted.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the certificate authority: %w", err)
		}
	}
	made, err := makeAuthority(now)
	if err != nil {
		return nil, err
	}
	if err := made.write(certPath, keyPath); err != nil {
		return nil, err
	}
	return parseAuthority(made, now)
}

func makeAuthority(now time.Time) (pair, error) {
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "test cluster CA"},
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	return sign(template, template, key, key, now)
}

func parseAuthority(p pair, now time.Time) (*authority, error) {
	certBlock, _ := pem.Decode(p.cert)
	keyBlock, _ := pem.Decode(p.key)
	if certBlock == nil || keyBlock == nil {
		return nil, errors.New("the certificate or its key is not PEM")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || !signer.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the key does not belong to the certificate")
	}
	if now.After(cert.NotAfter) {
		return nil, fmt.Errorf("it expired on %s", cert.NotAfter.Format(time.DateOnly))
	}
	return &authority{pair: p, cert: cert, key: signer}, nil
}

func (ca *authority) issue(template *x509.Certificate, now time.Time) (pair, error) {
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	template.NotAfter = now.Add(leafLifetime)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	return sign(template, ca.cert, key, ca.key, now)
}

// serverTemplate has every name that a client may use for the API server,
// from outside, on the same host, and from a pod.
func serverTemplate(config Config) *x509.Certificate {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{config.Address.Addr().AsSlice(), net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
	}
	for _, services := range config.Services {
		t.IPAddresses = append(t.IPAddresses, services.Masked().Addr().Next().AsSlice())
	}
	return t
}

func clientTemplate(user, group string) *x509.Certificate {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: user},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if group != "" {
		t.Subject.Organization = []string{group}
	}
	return t
}

func sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey, parentKey crypto.Signer, now time.Time) (pair, error) {
	name := template.Subject.CommonName
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return pair{}, fmt.Errorf("make a serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore = now.Add(-clockSkew)
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return pair{}, fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return pair{}, err
	}
	return pair{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), key: keyPEM}, nil
}

// ensureServiceAccountKey keeps the key, because tokens in use depend on it.
func ensureServiceAccountKey(keyPath, publicPath string) error {
	_, keyErr := os.Stat(keyPath)
	_, publicErr := os.Stat(publicPath)
	if keyErr == nil && publicErr == nil {
		return nil
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode the public key for ServiceAccounts: %w", err)
	}
	if err := writeFile(keyPath, private, 0o600); err != nil {
		return err
	}
	return writeFile(publicPath, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644)
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// write puts the key first: a certificate without its key would be of no use.
func (p pair) write(certPath, keyPath string) error {
	if err := writeFile(keyPath, p.key, 0o600); err != nil {
		return err
	}
	return writeFile(certPath, p.cert, 0o644)
}

func writeFile(path string, content []byte, mode fs.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(temporary.Name())))
	}
	return nil
}
