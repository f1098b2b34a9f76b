// Package signature verifies the signatures of images: OpenPGP signatures of releases, which a
// cluster's version operator checks before an update, and sigstore signatures, which a node checks
// at each pull.
//
// Use Client.Fetch for the signature of a release, Keyring.Verify for one that exists already,
// ParsePolicies for the rules by which the nodes of a cluster pull, and ParseTrust for those of a host.
// Both kinds of rules are rooted in keys, in Fulcio with Rekor, or in a PKI (root.go); no service is
// asked, since certificates and entries of logs are attached to signatures.
//
// A signature counts only when its whole text is signed by a key of the ring and names the digest
// that was asked for. oc-mirror checks neither: it looks at the result before the text is read.
//
// Refused: golang.org/x/crypto/openpgp, which is frozen. github.com/ProtonMail/go-crypto is its
// maintained successor. Also refused: go.podman.io/image/v5/signature, by which CRI-O judges. It takes
// sigstore signatures from its own transports only, so that each image would have to be written to
// a directory first, and every build with cgo would link gpgme. make olmcheck compares its verdicts
// with those of this package.
package signature

import (
	"bytes"
	"context"
	_ "embed" // the vendor's keys
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
)

// redHat is the address of the signatures of OpenShift releases.
const redHat = "https://mirror.openshift.com/pub/openshift-v4/signatures/openshift/release/"

// Bounds of one signature, a real one has 900 bytes, and of the signatures of one release.
const (
	maxSignature  = 1 << 20
	maxSignatures = 32
)

// vendorKeys are Red Hat's release key 2 and beta key 2, from
// https://github.com/openshift/cluster-update-keys.
//
//go:embed keys/redhat.asc
var vendorKeys []byte

// Errors of signatures.
var (
	ErrNone    = errors.New("there is no signature")
	ErrInvalid = errors.New("the signature is not valid") // it exists and does not count
)

// ForeignKeyError is the reason that a signature does not count whose key the ring does not have: it may be
// one of another vendor.
type ForeignKeyError struct{ ID uint64 }

func (e *ForeignKeyError) Error() string {
	return fmt.Sprintf("it is signed by key %016X, which is not trusted", e.ID)
}

// Keyring has the public keys that releases may be signed with.
type Keyring struct{ keys openpgp.EntityList }

// VendorKeys returns the keys of OpenShift releases.
func VendorKeys() (*Keyring, error) { return ParseKeys(vendorKeys) }

// ParseKeys reads armored public keys, one block after the other. Text between blocks is ignored.
func ParseKeys(armored []byte) (*Keyring, error) {
	const begin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	k := &Keyring{}
	for block := range strings.SplitSeq(string(armored), begin) {
		if !strings.Contains(block, "-----END PGP PUBLIC KEY BLOCK-----") {
			continue
		}
		keys, err := openpgp.ReadArmoredKeyRing(strings.NewReader(begin + block))
		if err != nil {
			return nil, fmt.Errorf("read the public keys: %w", err)
		}
		k.keys = append(k.keys, keys...)
	}
	if len(k.keys) == 0 {
		return nil, errors.New("read the public keys: there is no armored public key block")
	}
	return k, nil
}

// Release is a verified signature of a release.
type Release struct {
	Digest digest.Digest
	// Image is the reference that was signed, such as
	// quay.io/openshift-release-dev/ocp-release:4.18.2-x86_64.
	Image string
	Raw   []byte // as it was fetched, for the cluster
	// Signer names the key that signed it, and its owner.
	Signer string
}

// Verify returns the document that a signature signs. The error is ErrInvalid unless all of it is
// signed by a key of the ring and it is about d.
func (k *Keyring) Verify(raw []byte, d digest.Digest) (*Release, error) {
	text, signer, err := k.read(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	image, err := parseDocument(text, "atomic container signature", d)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &Release{Digest: d, Image: image, Raw: raw, Signer: signer}, nil
}

// read returns the text of a message that a key of the ring signs, and that key.
func (k *Keyring) read(raw []byte) (text []byte, signer string, err error) {
	message, err := openpgp.ReadMessage(bytes.NewReader(raw), k.keys, nil, nil)
	if err != nil {
		return nil, "", fmt.Errorf("read the signature: %w", err)
	}
	// The end of the text is where its signature is verified.
	text, err = io.ReadAll(io.LimitReader(message.UnverifiedBody, maxSignature+1))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("verify the signature: %w", err)
	case len(text) > maxSignature:
		return nil, "", fmt.Errorf("the signed text has more than %d bytes", maxSignature)
	case !message.IsSigned:
		return nil, "", errors.New("the message is not signed")
	case message.SignedBy == nil:
		return nil, "", &ForeignKeyError{message.SignedByKeyId}
	case message.SignatureError != nil:
		return nil, "", fmt.Errorf("verify the signature: %w", message.SignatureError)
	}
	signer = fmt.Sprintf("key %016X", message.SignedByKeyId)
	if owner := message.SignedBy.Entity.PrimaryIdentity(); owner != nil {
		signer += " of " + owner.Name
	}
	return text, signer, nil
}

// Client gets signatures of releases.
type Client struct {
	URL  string // "" is Red Hat's
	Get  fetch.Client
	Keys *Keyring
}

// Fetch returns the first signature of a release that can be verified. A release without any is an
// error with ErrNone, one with signatures none of which is valid ErrInvalid. Any other error says
// that it is not known, since the address did not answer.
func (c *Client) Fetch(ctx context.Context, d digest.Digest) (*Release, error) {
	base := c.URL
	if base == "" {
		base = redHat
	}
	var bad []error
	for n := 1; n <= maxSignatures; n++ {
		at := fmt.Sprintf("%s/%s=%s/signature-%d", strings.TrimSuffix(base, "/"), d.Algorithm(), d.Encoded(), n)
		raw, err := c.Get.Get(ctx, at, "application/json", maxSignature)
		var answer *fetch.StatusError
		if errors.As(err, &answer) && answer.Status == http.StatusNotFound {
			break
		}
		if err != nil {
			return nil, hint.New(fmt.Errorf("get the signature %s: %w", plain.Address(at), err),
				"check that this host reaches it (HTTPS_PROXY is honoured), or name another address with OCP_SIGNATURE_URL")
		}
		release, err := c.Keys.Verify(raw, d)
		if err == nil {
			return release, nil
		}
		bad = append(bad, fmt.Errorf("%s: %w", at, err))
	}
	if len(bad) > 0 {
		return nil, hint.New(errors.Join(bad...),
			"if another key signs these releases, name it with OCP_SIGNATURE_VERIFICATION_PK=FILE")
	}
	return nil, fmt.Errorf("%w of %s at %s", ErrNone, d, base)
}
