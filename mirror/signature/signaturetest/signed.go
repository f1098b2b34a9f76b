package signaturetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// signed is how a signature is made. A case changes it.
type signed struct {
	text      string
	by        crypto.Signer // the key of the leaf
	ca        *ca
	leaf      x509.Certificate
	chain     []*ca
	issuer    string // Fulcio's extension, "" for none
	issuer2   string
	log       *ecdsa.PrivateKey
	logged    time.Time
	record    record
	entry     func(*entry)
	finally   func(annotations map[string]string)
	published string // the text that is published; "": text
}

// record is what the log's entry is about; empty fields are those of the signature.
type record struct {
	kind, text, signature string
	public                []byte
}

// entry is Rekor's payload as it is signed, in canonical order.
type entry struct {
	Body           []byte `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       int64  `json:"logIndex"`
}

// ca is a certificate that issues others.
type ca struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
	pem []byte
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newCA returns a CA below another one, or a root.
func newCA(t testing.TB, above *ca) *ca {
	t.Helper()
	c := &ca{key: newECDSA(t), Certificate: &x509.Certificate{
		Subject: pkix.Name{CommonName: rand.Text()}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	if above == nil {
		above = c
	}
	c.Certificate, c.pem = above.issue(t, *c.Certificate, c.key)
	return c
}

// Certificate returns that of a CA, in PEM.
func Certificate(t testing.TB) []byte { return newCA(t, nil).pem }

func (c *ca) issue(t testing.TB, template x509.Certificate, key crypto.Signer) (*x509.Certificate, []byte) {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, &template, c.Certificate, key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// make returns the published text and the annotations of a signature.
func (s *signed) make(t testing.TB) (string, map[string]string) {
	t.Helper()
	public, sign := newKey(t, s.by)
	signature := sign(s.text)
	annotations := map[string]string{"dev.cosignproject.cosign/signature": signature}
	if s.ca != nil {
		for oid, value := range map[int]any{1: s.issuer, 8: s.issuer2} {
			raw := []byte(fmt.Sprint(value))
			if oid == 8 {
				var err error
				if raw, err = asn1.MarshalWithParams(value, "utf8"); err != nil {
					t.Fatal(err)
				}
			}
			if value != "" {
				s.leaf.ExtraExtensions = append(s.leaf.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, oid}, Value: raw})
			}
		}
		_, public = s.ca.issue(t, s.leaf, s.by)
		annotations["dev.sigstore.cosign/certificate"] = string(public)
		for _, c := range s.chain {
			annotations["dev.sigstore.cosign/chain"] += string(c.pem)
		}
	}
	if s.log != nil {
		annotations["dev.sigstore.cosign/bundle"] = s.bundle(t, public, signature)
	}
	if s.finally != nil {
		s.finally(annotations)
	}
	maps.DeleteFunc(annotations, func(_, text string) bool { return text == "" })
	if s.published != "" {
		return s.published, annotations
	}
	return s.text, annotations
}

// bundle is the entry of a log, as cosign annotates it.
func (s *signed) bundle(t testing.TB, public []byte, signature string) string {
	t.Helper()
	r := s.record
	if r.kind == "" {
		r.kind = "hashedrekord"
	}
	if r.text == "" {
		r.text = s.text
	}
	if r.signature == "" {
		r.signature = signature
	}
	if r.public == nil {
		r.public = public
	}
	body := fmt.Sprintf(`{"apiVersion":"0.0.1","kind":%q,"spec":{"data":{"hash":{"algorithm":"sha256","value":"%x"}},"signature":{"content":%q,"publicKey":{"content":%q}}}}`,
		r.kind, sha256.Sum256([]byte(r.text)), r.signature, base64.StdEncoding.EncodeToString(r.public))
	e := entry{[]byte(body), s.logged.Unix(), "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d", 7}
	canonical, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(canonical)
	promise, err := ecdsa.SignASN1(rand.Reader, s.log, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	if s.entry != nil {
		s.entry(&e)
	}
	// Not in canonical order.
	text, err := json.MarshalIndent(map[string]any{"SignedEntryTimestamp": promise, "Payload": map[string]any{
		"logIndex": e.LogIndex, "logID": e.LogID, "integratedTime": e.IntegratedTime, "body": e.Body}}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newKey returns a key's public half in PEM and a function that signs as cosign does.
func newKey(t testing.TB, private crypto.Signer) (public []byte, sign func(text string) string) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), func(text string) string {
		hash := sha256.Sum256([]byte(text))
		raw, err := private.Sign(rand.Reader, hash[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
}

// document is what is signed of an image.
func document(d digest.Digest, reference string) string {
	return fmt.Sprintf(`{"critical":{"type":"cosign container image signature","image":{"docker-manifest-digest":%q},"identity":{"docker-reference":%q}},"optional":null}`, d, reference)
}
