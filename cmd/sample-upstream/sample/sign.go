package sample

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SignaturesPath is where the signatures of releases are, and SignatureKeyPath the key that made
// them.
const (
	SignaturesPath   = "/signatures/openshift/release/"
	SignatureKeyPath = "/signatures/key.asc"
)

// ReleaseKey returns the armored public key that signs the releases.
func (c *Content) ReleaseKey() []byte { return c.files[SignatureKeyPath].data }

// SignaturePath returns where the OpenPGP signature of a manifest is.
func SignaturePath(d digest.Digest) string {
	return fmt.Sprintf("%ssha256=%s/signature-1", SignaturesPath, d.Encoded())
}

// SignRelease returns an OpenPGP signature of a document, made with the key of the releases.
func SignRelease(document []byte) ([]byte, error) {
	key, config, err := releaseKey()
	if err != nil {
		return nil, err
	}
	var signed bytes.Buffer
	w, err := openpgp.Sign(&signed, key, nil, config)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(document); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return signed.Bytes(), nil
}

// releaseKey returns the same key on every run, as everything that the sample has.
func releaseKey() (*openpgp.Entity, *packet.Config, error) {
	config := &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: created,
		Rand: rand.NewChaCha8(sha256.Sum256([]byte("sample-upstream 1 release key"))),
	}
	key, err := openpgp.NewEntity("sample release key", "", "sample@example.com", config)
	return key, config, err
}

// document returns what a signature of an image signs, see containers-signature(5).
func (b *builder) document(kind, reference string, d digest.Digest) []byte {
	return b.json(map[string]any{
		"critical": map[string]any{
			"identity": map[string]any{"docker-reference": reference},
			"image":    map[string]any{"docker-manifest-digest": d},
			"type":     kind,
		},
		"optional": nil,
	})
}

// signRelease stores the OpenPGP signature of a payload.
func (b *builder) signRelease(tag string, payload ocispec.Descriptor) {
	reference := b.content.host + "/" + ReleaseRepository + ":" + tag
	signed, err := SignRelease(b.document("atomic container signature", reference, payload.Digest))
	if err != nil {
		b.fail(err)
	}
	b.file(SignaturePath(payload.Digest), "application/octet-stream", signed)
}

// releaseKeyFile stores the public key of the releases.
func (b *builder) releaseKeyFile() {
	key, _, err := releaseKey()
	if err != nil {
		b.fail(err)
		return
	}
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err == nil {
		err = key.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		_, err = io.WriteString(&text, "\n")
	}
	if err != nil {
		b.fail(err)
	}
	b.file(SignatureKeyPath, "text/plain", text.Bytes())
}
