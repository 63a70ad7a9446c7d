package certificate

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	corev1 "k8s.io/api/core/v1"
)

// Fields of the Secret, named as cert-controller does.
const (
	caCertField = "ca.crt"
	caKeyField  = "ca.key"
	certField   = corev1.TLSCertKey
	keyField    = corev1.TLSPrivateKeyKey
)

// How long certificates are valid, and how long before their end they are
// renewed: a controller that is off for a month comes back to a valid one.
const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	lifetime     = 365 * 24 * time.Hour
	renewalAhead = 90 * 24 * time.Hour
	// clockSkew is how far the API server's clock may be behind.
	clockSkew = time.Hour
)

// caName is the common name of the CA.
const caName = "fairway-ca"

// renew returns the content of the Secret with what is missing or unusable
// made anew, and whether that was anything.
func renew(data map[string][]byte, dnsName string, now time.Time) (renewed map[string][]byte, changed bool, err error) {
	at := now.Add(renewalAhead)
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	maker := &rotator.CertRotator{CAName: caName, CAOrganization: "fairway", DNSName: dnsName, ExtKeyUsages: &usages}

	// An error is why it is not valid; then it is made anew.
	ca, err := readCA(data)
	if valid, invalid := rotator.ValidCert(data[caCertField], data[caCertField], data[caKeyField], caName, nil, at); err != nil || invalid != nil || !valid {
		if ca, err = maker.CreateCACert(now.Add(-clockSkew), now.Add(caLifetime)); err != nil {
			return nil, false, fmt.Errorf("making a CA: %w", err)
		}
	} else if valid, invalid := rotator.ValidCert(ca.CertPEM, data[certField], data[keyField], dnsName, &usages, at); invalid == nil && valid {
		return data, false, nil
	}
	cert, key, err := maker.CreateCertPEM(ca, now.Add(-clockSkew), now.Add(lifetime))
	if err != nil {
		return nil, false, fmt.Errorf("making a certificate: %w", err)
	}
	renewed = maps.Clone(data)
	if renewed == nil {
		renewed = map[string][]byte{}
	}
	renewed[caCertField], renewed[caKeyField] = ca.CertPEM, ca.KeyPEM
	renewed[certField], renewed[keyField] = cert, key
	return renewed, true, nil
}

// readCA reads the CA in a Secret.
func readCA(data map[string][]byte) (*rotator.KeyPairArtifacts, error) {
	certBlock, _ := pem.Decode(data[caCertField])
	keyBlock, _ := pem.Decode(data[caKeyField])
	if certBlock == nil || keyBlock == nil {
		return nil, errors.New("no PEM")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the CA's certificate: %w", err)
	}
	var key *rsa.PrivateKey
	if key, err = x509.ParsePKCS1PrivateKey(keyBlock.Bytes); err != nil {
		return nil, fmt.Errorf("reading the CA's key: %w", err)
	}
	return &rotator.KeyPairArtifacts{Cert: cert, Key: key, CertPEM: data[caCertField], KeyPEM: data[caKeyField]}, nil
}
