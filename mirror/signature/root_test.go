package signature_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/mirror/signature/signaturetest"
)

// Each signature is judged by the policy of a host, and by that of a cluster. make olmcheck asks CRI-O's
// library as well.
//
// Spec: oc-mirror 3.8.
func TestRoots(t *testing.T) {
	d := digest.FromString(signaturetest.Manifest)
	for _, c := range signaturetest.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			signed := signature.SignedText{Text: []byte(c.Text), Layer: ocispec.Descriptor{
				MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Annotations: c.Annotations}}
			e := nothing()
			e.Sigstore = func() ([]signature.SignedText, error) { return []signature.SignedText{signed}, nil }
			for by, err := range map[string]error{
				"host":    trust(t, "["+c.Requirement+"]", "").Judge(signature.Image{Repository: signaturetest.Repository, Manifest: d}, e),
				"cluster": parsePolicy(t, c.Policy).Verify(signed, signaturetest.Repository, d),
			} {
				if (err == nil) != (c.Want == "") || err != nil && !strings.Contains(err.Error(), c.Want) {
					t.Errorf("by the policy of the %s: %v, want %q", by, err, c.Want)
				}
			}
		})
	}
}

func b64(text []byte) string { return base64.StdEncoding.EncodeToString(text) }

// Spec: oc-mirror 3.8.
func TestParseTrust_roots(t *testing.T) {
	all := keys(t)
	rekor, _ := newKey(t, all["ECDSA"])
	rsa, _ := newKey(t, all["RSA"])
	key, ca := b64(rekor), signaturetest.Certificate(t)
	file := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	logFile := filepath.Join(t.TempDir(), "log.pem")
	if err := os.WriteFile(logFile, rekor, 0o600); err != nil {
		t.Fatal(err)
	}
	fulcio := `"fulcio":{"caPath":"` + file + `","oidcIssuer":"x","subjectEmail":"y"}`
	pki := `"pki":{"caRootsPath":"` + file + `","caIntermediatesPath":"` + file + `","subjectHostname":"h"}`
	for text, good := range map[string]bool{
		fulcio + `,"rekorPublicKeyPath":"` + logFile + `"`:              true,
		fulcio + `,"rekorPublicKeyPaths":["` + logFile + `"]`:           true,
		fulcio + `,"rekorPublicKeyDatas":["` + key + `","` + key + `"]`: true,
		pki:                            true,
		`"keyData":"` + b64(rsa) + `"`: true,
		fulcio:                         false,
		pki + `,"rekorPublicKeyData":"` + key + `"`:                                                                             false,
		fulcio + `,"rekorPublicKeyData":"` + b64(rsa) + `"`:                                                                     false,
		fulcio + `,"rekorPublicKeyDatas":[]`:                                                                                    false,
		`"keyData":"` + key + `","rekorPublicKeyDatas":[]`:                                                                      false,
		`"keyData":"` + key + `","rekorPublicKeyData":"` + key + `","rekorPublicKeyPath":"` + logFile + `"`:                     false,
		`"keyData":"` + key + `",` + pki:                                                                                        false,
		fulcio + `,` + pki + `,"rekorPublicKeyData":"` + key + `"`:                                                              false,
		`"fulcio":{"caData":"` + b64(ca) + `","subjectEmail":"y"},"rekorPublicKeyData":"` + key + `"`:                           false,
		`"fulcio":{"caData":"` + b64(ca) + `","oidcIssuer":"x"},"rekorPublicKeyData":"` + key + `"`:                             false,
		`"fulcio":{"oidcIssuer":"x","subjectEmail":"y"},"rekorPublicKeyData":"` + key + `"`:                                     false,
		`"fulcio":{"caData":"` + b64(ca) + `","oidcIssuer":"x","subjectEmail":"y","more":1},"rekorPublicKeyData":"` + key + `"`: false,
		`"pki":{"caRootsData":"` + b64(ca) + `"}`:                                                                               false,
		`"pki":{"caRootsData":"` + key + `","subjectEmail":"y"}`:                                                                false,
		`"pki":{"subjectEmail":"y"}`:                                                                                            false,
		`"pki":{"caRootsData":"` + b64(ca) + `","caRootsPath":"` + file + `","subjectEmail":"y"}`:                               false,
	} {
		requirement := `{"default":[{"type":"sigstoreSigned",` + text + `}]}`
		if _, err := signature.ParseTrust([]byte(requirement)); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}
