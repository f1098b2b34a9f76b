package signature_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/signature"
)

// newKey returns a key's public half in PEM and a function that signs as cosign does.
func newKey(t *testing.T, private crypto.Signer) (public []byte, sign func(text string) string) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), func(text string) string {
		message, of := []byte(text), crypto.Hash(0)
		if _, ok := private.(ed25519.PrivateKey); !ok {
			hash := sha256.Sum256(message)
			message, of = hash[:], crypto.SHA256
		}
		raw, err := private.Sign(rand.Reader, message, of)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
}

func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, d, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"RSA": r, "ECDSA": e, "Ed25519": d}
}

// clusterPolicy returns a policy with a key as its root of trust.
func clusterPolicy(kind, root, scopes string, key []byte) string {
	return "kind: " + kind + "\nspec:\n  scopes: " + scopes + "\n  policy:\n    rootOfTrust:\n      policyType: " + root +
		"\n      publicKey:\n        keyData: " + base64.StdEncoding.EncodeToString(key) + "\n"
}

func parsePolicy(t *testing.T, text string) *signature.Policy {
	t.Helper()
	all, err := signature.ParsePolicies([]byte(text))
	if err != nil || len(all) != 1 {
		t.Fatalf("%d policies, %v", len(all), err)
	}
	return all[0]
}

const (
	cosign     = "cosign container image signature"
	repository = "quay.io/openshift-release-dev/ocp-release"
)

func layerOf(signed string) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType:   "application/vnd.dev.cosign.simplesigning.v1+json",
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": signed},
	}
}

// Spec: signatures 2.
func TestPolicy_Verify(t *testing.T) {
	text := document(cosign, payload.String(), image)
	byDigest := document(cosign, payload.String(), repository+"@"+payload.String())
	for name, private := range keys(t) {
		t.Run(name, func(t *testing.T) {
			public, sign := newKey(t, private)
			p := parsePolicy(t, clusterPolicy("ClusterImagePolicy", "PublicKey", "["+repository+"]", public))
			for _, text := range []string{text, byDigest} {
				if err := p.Verify(signature.SignedText{Layer: layerOf(sign(text)), Text: []byte(text)}, repository, payload); err != nil {
					t.Error(err)
				}
			}
			other := document(cosign, digest.FromString("x").String(), image)
			elsewhere := document(cosign, payload.String(), "quay.io/other/ocp-release:4.15.0-x86_64")
			for what, tc := range map[string]struct{ text, signed, want string }{
				"another text":       {strings.Replace(text, "4.15.0", "4.15.1", 1), sign(text), "by the policy's key"},
				"no base64":          {text, "!", "by the policy's key"},
				"no signature":       {text, "", "by the policy's key"},
				"another image":      {other, sign(other), "it is the signature of sha256:"},
				"another repository": {elsewhere, sign(elsewhere), "the signature of quay.io/other/ocp-release"},
				"another document":   {releaseDocument(), sign(releaseDocument()), "of type"},
			} {
				err := p.Verify(signature.SignedText{Layer: layerOf(tc.signed), Text: []byte(tc.text)}, repository, payload)
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// Spec: signatures 2.
func TestParsePolicies(t *testing.T) {
	public, _ := newKey(t, keys(t)["ECDSA"])
	good := clusterPolicy("ClusterImagePolicy", "PublicKey", "[quay.io/org/rel, q.io, '*.example.com']", public)
	p := parsePolicy(t, good)
	for repository, want := range map[string]bool{
		"quay.io/org/rel": true, "quay.io/org/rel/x": true, "quay.io/org/release": false, "quay.io/org": false, "q.io/x": true,
		"q.iox": false, "a.example.com/x": true, "example.com/x": false, "a.example.comx/y": false,
	} {
		if p.Covers(repository) != want {
			t.Errorf("%s: covered %v", repository, !want)
		}
	}
	preview := "metadata:\n  annotations:\n    release.openshift.io/feature-set: DevPreviewNoUpgrade\n" + good
	several := "kind: ConfigMap\n---\n" + good + "---\n" + preview + "---\n" + strings.Replace(preview, "DevPreview", "Default,DevPreview", 1)
	if all, err := signature.ParsePolicies([]byte(several)); err != nil || len(all) != 2 {
		t.Errorf("%d of a file with several, %v", len(all), err)
	}
	for _, bad := range []string{
		clusterPolicy("ClusterImagePolicy", "FulcioCAWithRekor", "[x]", public), clusterPolicy("ClusterImagePolicy", "PublicKey", "[]", public),
		strings.Replace(good, "keyData: ", "keyData: AAAA", 1), "[",
		good + "    signedIdentity: {matchPolicy: RemapIdentity}\n",
		clusterPolicy("ClusterImagePolicy", "PublicKey", "[x]", nil),
		clusterPolicy("ClusterImagePolicy", "PublicKey", "[x]", []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")),
	} {
		if _, err := signature.ParsePolicies([]byte(bad)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

func TestSignatures_areLayersWithOne(t *testing.T) {
	m := ocispec.Manifest{Layers: []ocispec.Descriptor{{MediaType: "x"}, layerOf(""), layerOf("c2lnbmVk")}}
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := signature.Texts(body, func(ocispec.Descriptor) ([]byte, error) { return []byte("text"), nil })
	if err != nil || len(got) != 1 || got[0].Layer.Annotations["dev.cosignproject.cosign/signature"] == "" || string(got[0].Text) != "text" {
		t.Errorf("got %+v, %v", got, err)
	}
}
