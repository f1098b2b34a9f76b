package signature_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

const (
	payload = digest.Digest("sha256:0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363")
	image   = "quay.io/openshift-release-dev/ocp-release:4.15.0-x86_64"
)

// document is what is signed for a release.
func document(of, d, reference string) string {
	return fmt.Sprintf(`{"critical":{"type":%q,"image":{"docker-manifest-digest":%q},"identity":{"docker-reference":%q}}}`, of, d, reference)
}

func releaseDocument() string {
	return document("atomic container signature", payload.String(), image)
}

// signer has a key of its own.
type signer struct{ *openpgp.Entity }

func newSigner(t *testing.T) signer {
	t.Helper()
	e, err := openpgp.NewEntity("test", "", "test@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return signer{e}
}

func (s signer) sign(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := openpgp.Sign(&out, s.Entity, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (s signer) armored(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

func (s signer) ring(t *testing.T) *signature.Keyring {
	t.Helper()
	k, err := signature.ParseKeys(s.armored(t))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestVendorKeys_published verifies a signature that Red Hat has published.
func TestVendorKeys_published(t *testing.T) {
	raw, err := os.ReadFile("testdata/4.15.0-x86_64.signature-1")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := signature.VendorKeys()
	if err != nil {
		t.Fatal(err)
	}
	r, err := keys.Verify(raw, payload)
	if err != nil || r.Image != image || r.Digest != payload || !bytes.Equal(r.Raw, raw) {
		t.Errorf("got %+v, %v", r, err)
	}
}

// Spec: oc-mirror 3.7.
func TestKeyring_Verify_refuses(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	good := s.sign(t, releaseDocument())
	tampered := bytes.Replace(good, []byte("4.15.0"), []byte("4.15.1"), 1)
	if bytes.Equal(good, tampered) {
		t.Fatal("the signed text is compressed, so that the test changes nothing")
	}
	wrong := digest.FromString("another")
	for name, tc := range map[string]struct {
		raw  []byte
		want string
	}{
		"a text that was changed after signing": {tampered, "verify the signature"},
		"a key that is not trusted":             {other.sign(t, releaseDocument()), "not trusted"},
		"another release's":                     {s.sign(t, document("atomic container signature", wrong.String(), image)), "it is the signature of " + wrong.String()},
		"another kind of document":              {s.sign(t, document("x", payload.String(), image)), `type "x"`},
		"a document without an image":           {s.sign(t, document("atomic container signature", payload.String(), "")), "names no image"},
		"text that is not JSON":                 {s.sign(t, "hello"), "read the signed document"},
		"a cut message":                         {good[:len(good)/2], "signature"},
		"a message without its signature":       {good[:len(good)-40], "signature"},
		"an empty message":                      {nil, "read the signature"},
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := s.ring(t).Verify(tc.raw, payload); !errors.Is(err, signature.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
	if _, err := s.ring(t).Verify(good, payload); err != nil {
		t.Error("the good one:", err)
	}
}

func TestParseKeys(t *testing.T) {
	a, b := newSigner(t), newSigner(t)
	k, err := signature.ParseKeys(append(append([]byte("pub 4096R\n\n"), a.armored(t)...), b.armored(t)...))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []signer{a, b} {
		if _, err := k.Verify(s.sign(t, releaseDocument()), payload); err != nil {
			t.Error(err)
		}
	}
	for name, text := range map[string]string{
		"nothing":           "",
		"no block":          "pub 4096R",
		"a damaged block":   strings.Replace(string(a.armored(t)), "\n\n", "\n\nAAAA", 1),
		"a block that ends": "-----BEGIN PGP PUBLIC KEY BLOCK-----",
	} {
		if _, err := signature.ParseKeys([]byte(text)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// serve answers with these signatures, the first as signature-1. nil is an answer of 500.
func serve(t *testing.T, signatures ...[]byte) (url string) {
	t.Helper()
	mux := http.NewServeMux()
	for i, raw := range signatures {
		mux.HandleFunc(fmt.Sprintf("/s/sha256=%s/signature-%d", payload.Encoded(), i+1), func(w http.ResponseWriter, _ *http.Request) {
			if raw == nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
			_, _ = w.Write(raw)
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/s/"
}

func client(url string, keys *signature.Keyring) *signature.Client {
	return &signature.Client{URL: url, Keys: keys, Get: fetch.Client{
		HTTP: http.DefaultClient, Sleep: func(context.Context, time.Duration) error { return nil },
	}}
}

// Spec: oc-mirror 3.7.
func TestClient_Fetch(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	good, foreign := s.sign(t, releaseDocument()), other.sign(t, releaseDocument())
	t.Run("returns the first that can be verified", func(t *testing.T) {
		r, err := client(serve(t, foreign, good), s.ring(t)).Fetch(t.Context(), payload)
		if err != nil || !bytes.Equal(r.Raw, good) {
			t.Errorf("got %+v, %v", r, err)
		}
	})
	t.Run("a release without one is told apart", func(t *testing.T) {
		if _, err := client(serve(t), s.ring(t)).Fetch(t.Context(), payload); !errors.Is(err, signature.ErrNone) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("none that can be verified is an error that names them", func(t *testing.T) {
		_, err := client(serve(t, foreign, foreign), s.ring(t)).Fetch(t.Context(), payload)
		if !errors.Is(err, signature.ErrInvalid) || !strings.Contains(err.Error(), "signature-2") || !strings.Contains(hint.Of(err), "OCP_SIGNATURE_VERIFICATION_PK") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a store that fails is not a release without signature", func(t *testing.T) {
		_, err := client(serve(t, nil), s.ring(t)).Fetch(t.Context(), payload)
		if err == nil || errors.Is(err, signature.ErrNone) || !strings.Contains(err.Error(), "500") {
			t.Errorf("error %v", err)
		}
	})
}
