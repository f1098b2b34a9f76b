package mirror_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// signatures gets the signatures of the upstream's releases.
func (s *source) signatures(t *testing.T) *signature.Client {
	t.Helper()
	keys, err := signature.ParseKeys(s.ReleaseKey())
	if err != nil {
		t.Fatal(err)
	}
	return &signature.Client{
		URL: "http://" + s.host + sample.SignaturesPath, Keys: keys, Get: fetch.Client{HTTP: http.DefaultClient, Sleep: noSleep},
	}
}

// signatureIs makes the upstream answer for the signatures of a release.
func (s *source) signatureIs(d digest.Digest, answer func(w http.ResponseWriter)) {
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		asked := strings.Contains(r.URL.Path, "/sha256="+d.Encoded()+"/")
		if asked {
			answer(w)
		}
		return asked
	})
}

func absent(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }

// forged answers with the signature of another document about the release.
func forged(d digest.Digest, t *testing.T) func(http.ResponseWriter) {
	t.Helper()
	const document = `{"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":"DIGEST"},"identity":{"docker-reference":"x.io/y:z"}}}`
	signed, err := sample.SignRelease([]byte(strings.Replace(document, "DIGEST", d.String(), 1)))
	if err != nil {
		t.Fatal(err)
	}
	return func(w http.ResponseWriter) {
		_, _ = w.Write([]byte(strings.Replace(string(signed), "x.io/y:z", "x.io/y:x", 1)))
	}
}

// release returns one of the two releases of the tests.
func (s *source) release(t *testing.T, version string) sample.Release {
	t.Helper()
	r, ok := s.Release(version, "amd64")
	if !ok {
		t.Fatalf("the sample has no release %s", version)
	}
	return r
}

// configMap returns the keys of the signatures for the cluster, each with the raw signature.
func (s *setup) configMap(t *testing.T) map[string][]byte {
	t.Helper()
	var m struct {
		Metadata   struct{ Name, Namespace string }
		BinaryData map[string]string
	}
	if err := json.Unmarshal([]byte(s.read(t, "cluster-resources", "signature-configmap.json")), &m); err != nil {
		t.Fatal(err)
	}
	if m.Metadata.Name != "mirrored-release-signatures" || m.Metadata.Namespace != "openshift-config-managed" {
		t.Errorf("the signatures are in %s/%s", m.Metadata.Namespace, m.Metadata.Name)
	}
	all := map[string][]byte{}
	for key, text := range m.BinaryData {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		all[key] = raw
	}
	return all
}

// Spec: oc-mirror 3.7, 7.5.
func TestRun_releaseSignatures(t *testing.T) {
	s := newSetup(t, twoReleases)
	report, err := s.mirror(t)
	if err != nil || len(plan.Unsigned(report.Mirrored)) > 0 {
		t.Fatalf("%v, unsigned are %v", err, plan.Unsigned(report.Mirrored))
	}
	keys := s.signatures(t).Keys
	for _, version := range []string{"4.18.1", "4.18.2"} {
		r := s.release(t, version)
		raw := s.configMap(t)["sha256-"+r.Digest.Encoded()+"-1"]
		if signed, err := keys.Verify(raw, r.Digest); err != nil || !strings.HasSuffix(signed.Image, ":"+r.Tag) {
			t.Errorf("the signature of %s for the cluster: %+v, %v", version, signed, err)
		}
		if kept := s.read(t, "signatures", r.Tag+"-sha256-"+r.Digest.Encoded()); kept != string(raw) {
			t.Errorf("the workspace has another signature of %s than the cluster gets", version)
		}
	}
	if !strings.Contains(s.read(t, "cluster-resources", "signature-configmap.yaml"), "\n  sha256-") {
		t.Error("the YAML file has no signature")
	}
	s.asked("")
	if _, err := s.mirror(t); err != nil || len(s.configMap(t)) != 2 {
		t.Errorf("the second run: %v", err)
	}
	if asked := s.asked("/signatures/"); len(asked) > 0 {
		t.Errorf("signatures that are kept are fetched again: %v", asked)
	}
}

func TestRun_releaseWithoutSignature(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"there is no signature of sha256:": absent,
		"500 Internal Server Error":        func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		s := newSetup(t, twoReleases)
		r := s.release(t, "4.18.2")
		s.signatureIs(r.Digest, answer)
		report, err := s.mirror(t)
		if err != nil {
			t.Fatal(err)
		}
		unsigned := plan.Unsigned(report.Mirrored)
		if len(unsigned) != 1 || unsigned[0].Release != r.Tag || !strings.Contains(strings.Join(unsigned[0].Unsigned, ""), name) {
			t.Errorf("%s: unsigned are %+v", name, unsigned)
		}
		s.holds(t, "openshift/release-images", r.Tag, r.Digest)
		if len(s.configMap(t)) != 1 {
			t.Errorf("%s: the cluster gets %d signatures", name, len(s.configMap(t)))
		}

		s = newSetupFrom(t, s.source, twoReleases+additional, func(o *mirror.Options) { o.Signatures.Strict = true })
		report, err = s.mirror(t)
		if exitCode(err) != 2 || !strings.Contains(failureOf(report, r.Tag), name) {
			t.Errorf("%s, strict: %v, failures %v", name, err, report.Failures)
		}
		s.lacks(t, "openshift/release-images", r.Tag)
		s.holds(t, "openshift/release-images", "4.18.1-x86_64", s.release(t, "4.18.1").Digest)
		s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	}
}

// failureOf returns the error that a release failed with.
func failureOf(r *mirror.Report, release string) string {
	for _, f := range r.Failures {
		if f.Image.Type == plan.Release && f.Image.Release == release && !f.Consequence {
			return f.Error
		}
	}
	return ""
}

// Spec: oc-mirror 3.7.
func TestRun_releaseWithForgedSignature(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	r := s.release(t, "4.18.2")
	s.signatureIs(r.Digest, forged(r.Digest, t))
	report, err := s.mirror(t)
	if exitCode(err) != 2 || !strings.Contains(failureOf(report, r.Tag), "the signature is not valid") {
		t.Errorf("error %v, failures %+v", err, report.Failures)
	}
	s.lacks(t, "openshift/release-images", r.Tag)
	s.holds(t, "openshift/release-images", "4.18.1-x86_64", s.release(t, "4.18.1").Digest)
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
}

// A signature of the workspace counts when it is valid only; another is fetched in its place.
func TestRun_releaseSignatureOfTheWorkspace(t *testing.T) {
	s := newSetup(t, twoReleases)
	r := s.release(t, "4.18.2")
	kept := filepath.Join(s.workspace, "working-dir", "signatures", r.Tag+"-sha256-"+r.Digest.Encoded())
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if report, err := s.mirror(t); err != nil || len(plan.Unsigned(report.Mirrored)) > 0 || len(s.configMap(t)) != 2 {
		t.Errorf("error %v, unsigned are %v", err, plan.Unsigned(report.Mirrored))
	}
	if err := os.WriteFile(kept, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.signatureIs(r.Digest, absent)
	if report, err := s.mirror(t); exitCode(err) != 2 || !strings.Contains(failureOf(report, r.Tag), "signatures/"+r.Tag) {
		t.Errorf("error %v, failures %+v", err, report.Failures)
	}
}

// Spec: oc-mirror 3.7.
func TestRun_ignoredReleaseSignature(t *testing.T) {
	const one = "  platform:\n    release: HOST/openshift-release-dev/ocp-release:4.18.2-x86_64\n"
	ignore := func(o *mirror.Options) { o.Signatures.IgnoreRelease, o.Signatures.Strict = true, true }
	s := newSetup(t, one, ignore)
	r := s.release(t, "4.18.2")
	s.signatureIs(r.Digest, forged(r.Digest, t))
	if _, err := s.mirror(t); err != nil {
		t.Error(err)
	}
	if asked := s.asked("/signatures/"); len(asked) > 0 {
		t.Errorf("asked for %v", asked)
	}
	s = newSetupFrom(t, s.source, twoReleases, ignore) // it is about platform.release only
	if _, err := s.mirror(t); exitCode(err) != 2 {
		t.Errorf("a forged signature of a channel's release: %v", err)
	}
}
