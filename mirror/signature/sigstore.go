package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names of a sigstore attachment, see cosign's specs/SIGNATURE_SPEC.md.
const (
	mediaTypeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	annotationSignature    = "dev.cosignproject.cosign/signature"
	sigstoreDocument       = "cosign container image signature" // the type of what is signed
)

// key is a public key that images are signed with.
type key struct{ public crypto.PublicKey }

// parseKey reads a public key in PEM.
func parseKey(text []byte) (*key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("read the public key: it is not PEM")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	return newKey(public)
}

func newKey(public crypto.PublicKey) (*key, error) {
	switch public.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return &key{public}, nil
	}
	return nil, fmt.Errorf("read the public key: keys of type %T sign no images", public)
}

// String names the key by its fingerprint.
func (k *key) String() string {
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return fmt.Sprintf("key of type %T", k.public)
	}
	return fmt.Sprintf("key SHA256:%x", sha256.Sum256(der))
}

// verify reports whether a text has a signature, in base64, by the key.
func (k *key) verify(text []byte, signed string) bool {
	raw, err := base64.StdEncoding.DecodeString(signed)
	if err != nil {
		return false
	}
	hash := sha256.Sum256(text)
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], raw) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, hash[:], raw)
	case ed25519.PublicKey:
		return ed25519.Verify(public, text, raw)
	}
	return false
}

// signatures returns the layers of an attachment that are signatures.
func signatures(attachment ocispec.Manifest) []ocispec.Descriptor {
	var all []ocispec.Descriptor
	for _, l := range attachment.Layers {
		if l.MediaType == mediaTypeSimpleSigning && l.Annotations[annotationSignature] != "" {
			all = append(all, l)
		}
	}
	return all
}

// Bounds of a signed text, and of the signatures of one manifest.
const (
	maxSigned = 64 << 10
	maxTexts  = 100
)

// Texts returns the signatures of an attachment, whose manifest is given, with what they sign.
func Texts(attachment []byte, read func(ocispec.Descriptor) ([]byte, error)) ([]SignedText, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(attachment, &m); err != nil {
		return nil, err
	}
	var all []SignedText
	for _, l := range signatures(m) {
		if len(all) == maxTexts {
			break
		}
		text, err := read(l)
		if err != nil {
			return nil, err
		}
		all = append(all, SignedText{Layer: l, Text: text})
	}
	return all, nil
}

// ReadText reads what a signature signs.
func ReadText(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSigned+1))
	if err == nil && len(text) > maxSigned {
		err = fmt.Errorf("it signs more than %d bytes", maxSigned)
	}
	return text, err
}

// repositoryOf cuts the tag or the digest off a reference.
func repositoryOf(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	if i := strings.LastIndexByte(reference, ':'); i > strings.LastIndexByte(reference, '/') {
		return reference[:i]
	}
	return reference
}
