package signature

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Annotations of a signature with the certificate of its key, and with those above it, the root last.
const (
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationChain       = "dev.sigstore.cosign/chain"
)

// Fulcio's extensions with the provider that the signer has logged in at: as it is, and as ASN.1.
var (
	issuerExtension   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}
	issuerExtension2  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
	alternativeNameID = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// authority is a CA whose certificates sign images: Fulcio, or one of an organization.
type authority struct {
	roots         *x509.CertPool
	intermediates []*x509.Certificate
	email         string
	hostname      string
	issuer        string // OIDC; of Fulcio only
}

// String names the subject that its certificates must have.
func (a *authority) String() string {
	subject := strings.Trim(a.email+" "+a.hostname, " ")
	if a.issuer != "" {
		return fmt.Sprintf("Fulcio's certificate of %s by %s", subject, a.issuer)
	}
	return "certificate of " + subject
}

// newFulcio returns Fulcio as an authority. roots are in PEM.
func newFulcio(roots []byte, issuer, email string) (*authority, error) {
	if issuer == "" || email == "" {
		return nil, errors.New("an OIDC issuer and an email address are wanted beside Fulcio's CA")
	}
	return newAuthority(authority{issuer: issuer, email: email}, roots, nil)
}

// newPKI returns the authority of an organization. roots and intermediates are in PEM.
func newPKI(roots, intermediates []byte, email, hostname string) (*authority, error) {
	if email == "" && hostname == "" {
		return nil, errors.New("the PKI needs an email address or a host name of the subject")
	}
	return newAuthority(authority{email: email, hostname: hostname}, roots, intermediates)
}

func newAuthority(a authority, roots, intermediates []byte) (*authority, error) {
	a.roots = x509.NewCertPool()
	if !a.roots.AppendCertsFromPEM(roots) {
		return nil, errors.New("read the certificates of the CA: there is none in PEM")
	}
	var err error
	a.intermediates, err = parseCertificates(intermediates)
	return &a, err
}

func parseCertificates(text []byte) (all []*x509.Certificate, err error) {
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("read the certificates: it is not PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the certificates: %w", err)
		}
		all = append(all, c)
	}
	return all, nil
}

// leaf returns the certificate of a signature's key, which is not verified.
func (a *authority) leaf(s SignedText) (*x509.Certificate, error) {
	all, err := parseCertificates([]byte(s.Layer.Annotations[annotationCertificate]))
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("it has %d certificates of its key, not one", len(all))
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// verify returns nil if the authority has issued a certificate for the subject that is wanted, and it
// was valid at a time.
func (a *authority) verify(leaf *x509.Certificate, s SignedText, at time.Time) error {
	chain, err := parseCertificates([]byte(s.Layer.Annotations[annotationChain]))
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, c := range a.intermediates {
		between.AddCert(c)
	}
	for _, c := range chain[:max(len(chain)-1, 0)] {
		between.AddCert(c)
	}
	if a.issuer != "" { // whose subjects may be URIs alone, which package x509 leaves to this package
		leaf.UnhandledCriticalExtensions = slices.DeleteFunc(leaf.UnhandledCriticalExtensions,
			func(id asn1.ObjectIdentifier) bool { return id.Equal(alternativeNameID) })
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}); err != nil {
		return fmt.Errorf("its certificate: %w", err)
	}
	return a.names(leaf)
}

// names checks the subject of a certificate, and its issuer.
func (a *authority) names(leaf *x509.Certificate) error {
	if a.issuer != "" {
		switch issuer, err := issuerOf(leaf); {
		case err != nil:
			return err
		case issuer != a.issuer:
			return fmt.Errorf("its certificate is for a login at %q", issuer)
		}
	}
	if a.email != "" && !slices.Contains(leaf.EmailAddresses, a.email) {
		return fmt.Errorf("its certificate is for %q, not for %s", leaf.EmailAddresses, a.email)
	}
	if a.hostname != "" {
		if err := leaf.VerifyHostname(a.hostname); err != nil {
			return fmt.Errorf("its certificate: %w", err)
		}
	}
	return nil
}

// issuerOf returns the provider in a certificate of Fulcio. Two extensions may name it; they
// must agree.
func issuerOf(leaf *x509.Certificate) (issuer string, err error) {
	var all []string
	for _, e := range leaf.Extensions {
		switch {
		case e.Id.Equal(issuerExtension):
			all = append(all, string(e.Value))
		case e.Id.Equal(issuerExtension2):
			var text string
			if rest, err := asn1.Unmarshal(e.Value, &text); err != nil || len(rest) > 0 {
				return "", errors.New("the issuer in its certificate cannot be read")
			}
			all = append(all, text)
		}
	}
	if len(all) == 0 || len(slices.Compact(all)) != 1 {
		return "", fmt.Errorf("its certificate names the issuers %q, not one", all)
	}
	return all[0], nil
}
