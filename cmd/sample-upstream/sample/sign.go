package sample

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"sync"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SignaturesPath is where the signatures of releases are, and SignatureKeyPath the key that made
// them.
const (
	SignaturesPath   = "/signatures/openshift/release/"
	SignatureKeyPath = "/signatures/key.asc"
	imageKeyPath     = "/signatures/key.pem"
)

// ImageKey returns the public key, in PEM, that signs images.
func (c *Content) ImageKey() []byte { return c.files[imageKeyPath].data }

// ReleaseKey returns the armored public key that signs the releases.
func (c *Content) ReleaseKey() []byte { return c.files[SignatureKeyPath].data }

// SignaturePath returns where the OpenPGP signature of a manifest is.
func SignaturePath(d digest.Digest) string {
	return fmt.Sprintf("%ssha256=%s/signature-1", SignaturesPath, d.Encoded())
}

// SignRelease returns an OpenPGP signature of a document, made with the key of the releases.
func SignRelease(document []byte) ([]byte, error) {
	key, err := releaseKey()
	if err != nil {
		return nil, err
	}
	var signed bytes.Buffer
	w, err := openpgp.Sign(&signed, key, nil, releaseConfig())
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

// releaseKey returns the same key on every run, as everything that the sample has. It is an RSA
// key, as that of OpenShift's releases: oc-mirror's library reads no Ed25519 key.
var releaseKey = sync.OnceValues(func() (*openpgp.Entity, error) {
	p, q := keyPrime("p", 1874), keyPrime("q", 176)
	config := releaseConfig()
	config.Algorithm, config.RSABits = packet.PubKeyAlgoRSA, p.BitLen()+q.BitLen()
	config.RSAPrimes = []*big.Int{p, q, p, q} // the second pair is of the subkey
	return openpgp.NewEntity("sample release key", "", "sample@example.com", config)
})

func releaseConfig() *packet.Config {
	return &packet.Config{Time: created, Rand: rand.NewChaCha8(sha256.Sum256([]byte("sample-upstream 1 release key")))}
}

// keyPrime returns a prime of the release key: offset is how far above the noise of the name it
// is, since a search would take a moment on each run.
func keyPrime(name string, offset int64) *big.Int {
	b := &builder{}
	noise := b.noise("release key "+name, 128)
	noise[0] |= 0xc0 // as crypto/rand's primes: their product has all the bits
	noise[len(noise)-1] |= 1
	n := new(big.Int).SetBytes(noise)
	return n.Add(n, big.NewInt(offset))
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

// imageKey returns the key that signs images, which is the same on every run.
func (b *builder) imageKey() *ecdsa.PrivateKey {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b.noise("image key", 32))
	if err != nil {
		b.fail(err)
	}
	return key
}

// sign stores a sigstore signature of an image, as cosign does.
func (b *builder) sign(repo string, d digest.Digest) {
	text := b.document("cosign container image signature", b.content.host+"/"+repo, d)
	hash := sha256.Sum256(text)
	signed, err := b.imageKey().Sign(nil, hash[:], crypto.SHA256) // without randomness, for fixed digests
	if err != nil {
		b.fail(err)
	}
	claim := b.blob(repo, "application/vnd.dev.cosign.simplesigning.v1+json", text)
	claim.Annotations = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signed)}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config: b.blob(repo, ocispec.MediaTypeImageConfig,
			b.json(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}})),
		Layers: []ocispec.Descriptor{claim},
	}
	b.tag(repo, "sha256-"+d.Encoded()+".sig", b.manifest(repo, m.MediaType, m, m.Config, claim))
}

// imagePolicy returns the rule of a release that nodes pull what the key has signed only.
func (b *builder) imagePolicy() []byte {
	return fmt.Appendf(nil, `apiVersion: config.openshift.io/v1
kind: ClusterImagePolicy
metadata:
  name: openshift
spec:
  scopes:
  - %[1]s/%[2]s
  - %[1]s/%[3]s
  policy:
    rootOfTrust:
      policyType: PublicKey
      publicKey:
        keyData: %[4]s
`, b.content.host, ReleaseRepository, ComponentRepository, base64.StdEncoding.EncodeToString(b.content.ImageKey()))
}

// imageKeyFile stores the public key of the images.
func (b *builder) imageKeyFile() {
	der, err := x509.MarshalPKIXPublicKey(b.imageKey().Public())
	if err != nil {
		b.fail(err)
	}
	b.file(imageKeyPath, "text/plain", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// releaseKeyFile stores the public key of the releases.
func (b *builder) releaseKeyFile() {
	key, err := releaseKey()
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
