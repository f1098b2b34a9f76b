package signature_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/signature"
)

// parts of policies.
const (
	anything  = `[{"type":"insecureAcceptAnything"}]`
	rejecting = `[{"type":"reject"}]`
)

func trust(t *testing.T, byDefault, scopes string) *signature.Trust {
	t.Helper()
	p, err := signature.ParseTrust([]byte(`{"default":` + byDefault + `,"transports":{"docker":{` + scopes + `},"docker-daemon":{"":[{"type":"x"}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nothing is the evidence of an image that is not signed.
func nothing() signature.Evidence {
	return signature.Evidence{
		Sigstore: func() ([]signature.SignedText, error) { return nil, nil },
		OpenPGP:  func() ([][]byte, error) { return nil, nil },
	}
}

// Spec: oc-mirror 3.8.
func TestTrust_scopes(t *testing.T) {
	p := trust(t, rejecting, `"quay.io/a":`+anything+`,"quay.io/a/b":`+rejecting+`,"quay.io/a/b:v1":`+anything+`,"*.example.com":`+anything+
		`,"x.example.com":`+rejecting+`,"quay.io/c@`+string(payload)+`":`+anything)
	for image, want := range map[signature.Image]bool{
		{Repository: "quay.io/a"}:                true,
		{Repository: "quay.io/a/c", Tag: "v1"}:   true,
		{Repository: "quay.io/ab"}:               false,
		{Repository: "quay.io/a/b", Tag: "v2"}:   false,
		{Repository: "quay.io/a/b", Tag: "v1"}:   true,
		{Repository: "quay.io/c"}:                true,
		{Repository: "quay.io/c", Tag: "v1"}:     false,
		{Repository: "a.b.example.com/x"}:        true,
		{Repository: "x.example.com/x"}:          false,
		{Repository: "example.com/x", Tag: "v1"}: false,
		{Repository: "docker.io/library/x"}:      false,
	} {
		image.Manifest = payload
		if err := p.Judge(image, nothing()); (err == nil) != want {
			t.Errorf("%+v: %v", image, err)
		}
	}
	if err := trust(t, rejecting, `"":`+anything).Judge(signature.Image{Repository: "q.io/x", Manifest: payload}, nothing()); err != nil {
		t.Errorf("the transport's default: %v", err)
	}
}

func TestTrust_sigstoreSigned(t *testing.T) {
	public, sign := newKey(t, keys(t)["ECDSA"])
	other, _ := newKey(t, keys(t)["RSA"])
	key := base64.StdEncoding.EncodeToString(public)
	evidence := func(text, signed string) signature.Evidence {
		e := nothing()
		e.Sigstore = func() ([]signature.SignedText, error) {
			return []signature.SignedText{{Layer: layerOf("AAAA"), Text: []byte("x")}, {Layer: layerOf(signed), Text: []byte(text)}}, nil
		}
		return e
	}
	text := document(cosign, payload.String(), repository+":4.15.0-x86_64")
	tagged, byDigest := signature.Image{Repository: repository, Tag: "4.15.0-x86_64", Manifest: payload}, signature.Image{Repository: repository, Manifest: payload}
	retagged, moved := tagged, signature.Image{Repository: "mirror.io/ns/ocp-release", Manifest: payload}
	retagged.Tag = "latest"
	for _, tc := range []struct {
		name, identity string
		image          signature.Image
		evidence       signature.Evidence
		want           string
	}{
		{"by tag", "", tagged, evidence(text, sign(text)), ""},
		{"by digest", "", byDigest, evidence(text, sign(text)), ""},
		{"another tag", "", retagged, evidence(text, sign(text)), "it is the signature of " + repository},
		{"another tag of the repository", `{"type":"matchRepository"}`, retagged, evidence(text, sign(text)), ""},
		{"another repository", `{"type":"matchRepository"}`, moved, evidence(text, sign(text)), "it is the signature of"},
		{"a repository that is meant", `{"type":"exactRepository","dockerRepository":"` + repository + `"}`, moved, evidence(text, sign(text)), ""},
		{"a reference that is meant", `{"type":"exactReference","dockerReference":"` + repository + `:4.15.0-x86_64"}`, moved, evidence(text, sign(text)), ""},
		{"a prefix that is another", `{"type":"remapIdentity","prefix":"mirror.io/ns","signedPrefix":"quay.io/openshift-release-dev"}`, moved, evidence(text, sign(text)), ""},
		{"a prefix that is not whole", `{"type":"remapIdentity","prefix":"mirror.io/n","signedPrefix":"quay.io/openshift-release-de"}`, moved, evidence(text, sign(text)), "it is the signature of"},
		{"exactly", `{"type":"matchExact"}`, byDigest, evidence(text, sign(text)), "it is the signature of"},
		{"none", "", tagged, nothing(), "there is no signature"},
		{"a changed text", "", tagged, evidence(text+" ", sign(text)), "not a signature by the policy's key"},
	} {
		requirement := `[{"type":"sigstoreSigned","keyDatas":["` + base64.StdEncoding.EncodeToString(other) + `","` + key + `"]`
		if tc.identity != "" {
			requirement += `,"signedIdentity":` + tc.identity
		}
		err := trust(t, requirement+"}]", "").Judge(tc.image, tc.evidence)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestTrust_signedBy(t *testing.T) {
	s := newSigner(t)
	file := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(file, s.armored(t), 0o600); err != nil {
		t.Fatal(err)
	}
	p := trust(t, `[{"type":"signedBy","keyType":"GPGKeys","keyPath":"`+file+`"}]`, "")
	i := signature.Image{Repository: repository, Tag: "4.15.0-x86_64", Manifest: payload}
	for name, tc := range map[string]struct {
		signed [][]byte
		good   bool
	}{
		"one of two":  {[][]byte{newSigner(t).sign(t, releaseDocument()), s.sign(t, releaseDocument())}, true},
		"none":        {nil, false},
		"another key": {[][]byte{newSigner(t).sign(t, releaseDocument())}, false},
		"another tag": {[][]byte{s.sign(t, document("atomic container signature", payload.String(), repository+":x"))}, false},
	} {
		e := nothing()
		e.OpenPGP = func() ([][]byte, error) { return tc.signed, nil }
		if err := p.Judge(i, e); (err == nil) != tc.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := nothing()
	e.OpenPGP = func() ([][]byte, error) { return nil, errors.New("out of reach") }
	if err := p.Judge(i, e); err == nil || !strings.Contains(err.Error(), "out of reach") {
		t.Errorf("signatures that cannot be read: %v", err)
	}
}

func TestParseTrust_refuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":              `x`,
		"no default":           `{}`,
		"an unknown type":      `{"default":[{"type":"x"}]}`,
		"an unknown key":       `{"default":[{"type":"reject","but":1}]}`,
		"keyless":              `{"default":[{"type":"sigstoreSigned","fulcio":{}}]}`,
		"no key":               `{"default":[{"type":"sigstoreSigned"}]}`,
		"two ways to keys":     `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","keyData":"AAAA"}]}`,
		"an absent file":       `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nonexistent"}]}`,
		"another type of keys": `{"default":[{"type":"signedBy","keyType":"X509","keyData":"AAAA"}]}`,
		"a key that is none":   `{"default":[{"type":"sigstoreSigned","keyData":"AAAA"}]}`,
		"an unknown identity":  `{"default":[{"type":"sigstoreSigned","keyData":"AAAA","signedIdentity":{"type":"x"}}]}`,
		"an identity of none":  `{"default":[{"type":"sigstoreSigned","keyData":"AAAA","signedIdentity":{"type":"remapIdentity"}}]}`,
		"an empty scope":       `{"default":[{"type":"reject"}],"transports":{"docker":{"x":[]}}}`,
	} {
		if _, err := signature.ParseTrust([]byte(text)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

func TestLookaside_Signatures(t *testing.T) {
	dir := t.TempDir()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/s/org/app@sha256=" + payload.Encoded() + "/signature-1", "/s/org/app@sha256=" + payload.Encoded() + "/signature-2":
			_, _ = w.Write([]byte(r.URL.Path[len(r.URL.Path)-1:]))
		case "/broken/org/x@sha256=" + payload.Encoded() + "/signature-1":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	kept := filepath.Join(dir, "kept", "deep", "app@sha256="+payload.Encoded())
	if err := os.MkdirAll(kept, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(kept, "signature-1"): "kept",
		filepath.Join(dir, "a.yaml"): "docker:\n  q.io/org:\n    sigstore: " + server.URL + "/s/\n  q.io/org/x:\n    lookaside: " + server.URL + "/broken\n" +
			"  other.io:\n    use-sigstore-attachments: false\n  other.io/deep/mine:\n    use-sigstore-attachments: true\n", // as a cluster has it, without an address
		filepath.Join(dir, "b.yaml"): "default-docker:\n  lookaside: file://" + filepath.Join(dir, "kept") + "\n  use-sigstore-attachments: true\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := signature.ReadLookaside(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Get = client("", nil).Get
	for repository, want := range map[string]string{"q.io/org/app": "12", "q.io/org/other": "", "other.io/deep/app": "kept"} {
		all, err := l.Signatures(t.Context(), signature.Image{Repository: repository, Tag: "v1", Manifest: payload})
		got := ""
		for _, raw := range all {
			got += string(raw)
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", repository, got, err, want)
		}
	}
	for repository, want := range map[string]bool{"q.io/org/app": true, "other.io/deep/app": false, "other.io/deep/mine": true} {
		if got := l.Attachments(signature.Image{Repository: repository, Tag: "v1", Manifest: payload}); got != want {
			t.Errorf("%s: attachments count: %v", repository, got)
		}
	}
	if _, err := l.Signatures(t.Context(), signature.Image{Repository: "q.io/org/x", Manifest: payload}); err == nil {
		t.Error("an address that fails has no signatures")
	}
	if none, err := signature.ReadLookaside(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	} else if all, err := none.Signatures(t.Context(), signature.Image{Repository: "q.io/x", Manifest: payload}); err != nil || all != nil {
		t.Errorf("no address: %v, %v", all, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signature.ReadLookaside(dir); err == nil {
		t.Error("a damaged file is read")
	}
}
