package signature

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SignedText is a layer of an attachment that is a signature.
type SignedText struct {
	Layer ocispec.Descriptor
	Text  []byte
}

func (s SignedText) signature() string { return s.Layer.Annotations[annotationSignature] }

// root is what sigstore signatures are rooted in: keys, or the CA of certificates.
type root struct {
	keys []*key
	logs []*ecdsa.PublicKey // of Rekor: one of them has an entry of each signature; nil: none need have
	ca   *authority         // instead of keys
}

// newRoot reads keys in PEM. Without a CA there is a key, and a Fulcio's certificates, which are valid for
// minutes, need a log that knows when a signature was made.
func newRoot(keys, logs [][]byte, ca *authority) (*root, error) {
	r := &root{ca: ca}
	for _, text := range keys {
		k, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, k)
	}
	for _, text := range logs {
		k, err := parseKey(text)
		if err != nil {
			return nil, fmt.Errorf("of Rekor: %w", err)
		}
		public, ok := k.public.(*ecdsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("the key of Rekor is of type %T, and only ECDSA is built", k.public)
		}
		r.logs = append(r.logs, public)
	}
	switch {
	case len(r.keys) == 0 && ca == nil, len(r.keys) > 0 && ca != nil:
		return nil, errors.New("exactly one of a public key, Fulcio and a PKI is wanted")
	case ca != nil && ca.issuer != "" && r.logs == nil:
		return nil, errors.New("a public key of Rekor is wanted beside Fulcio's CA")
	case ca != nil && ca.issuer == "" && r.logs != nil:
		return nil, errors.New("the certificates of a PKI go without a public key of Rekor")
	}
	return r, nil
}

// verify returns nil if a text is signed as the root asks for. The content of the text is not checked.
func (r *root) verify(s SignedText) error {
	if r.ca == nil {
		return r.verifyKeys(s)
	}
	leaf, err := r.ca.leaf(s)
	if err != nil {
		return err
	}
	at := time.Now()
	if r.ca.issuer != "" {
		if at, err = logged(r.logs, s, leaf.Raw); err != nil {
			return err
		}
	}
	if err := r.ca.verify(leaf, s, at); err != nil {
		return err
	}
	k, err := newKey(leaf.PublicKey)
	if err == nil && !k.verify(s.Text, s.signature()) {
		err = errors.New("it is not a signature by the key of its certificate")
	}
	return err
}

func (r *root) verifyKeys(s SignedText) error {
	for _, k := range r.keys {
		if !k.verify(s.Text, s.signature()) {
			continue
		}
		if r.logs == nil {
			return nil
		}
		public, err := x509.MarshalPKIXPublicKey(k.public)
		if err == nil {
			_, err = logged(r.logs, s, public)
		}
		return err
	}
	return errors.New("it is not a signature by the policy's key")
}

// String names the keys or the CA.
func (r *root) String() string {
	if r.ca != nil {
		return r.ca.String()
	}
	var names []string
	for _, k := range r.keys {
		names = append(names, k.String())
	}
	return strings.Join(names, ", ")
}

// decodePEM returns the one block of a text.
func decodePEM(text []byte) ([]byte, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		return nil, errors.New("it is not one block of PEM")
	}
	return block.Bytes, nil
}
