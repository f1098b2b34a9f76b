package mirror_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

func TestRun_countsChannelsApart(t *testing.T) {
	const unknown = "  platform:\n    channels: [{name: stable-9.99}]\n"
	for config, want := range map[string]string{
		unknown:              "1 of the channels cannot be resolved",
		unknown + additional: "1 of the channels cannot be resolved",
		unknown + "  additionalImages:\n  - name: HOST/samples/docker:none\n":                                              "1 of the channels cannot be resolved, and 1 of 1 images are not at their destination",
		unknown + set("    - {name: sample-logging, minVersion: 7.0.0, maxVersion: 7.0.0}\n    - name: sample-database\n"): "1 of the catalogs and operators, 1 of the channels cannot be resolved",
	} {
		s := newSetup(t, config)
		_, err := mirror.Run(t.Context(), s.options(t, config, s.beginning))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "images") != strings.Contains(want, "images") {
			t.Errorf("%s: %v", config, err)
		}
	}
}

func TestRun_aReleaseThatIsNone(t *testing.T) {
	s := newSetup(t, "  platform:\n    release: HOST/samples/oci:v1\n")
	p := s.plan(t)
	if len(p.Failures) != 1 || !strings.Contains(hint.Of(p.Failures[0].Cause), "platform.release") {
		t.Errorf("failures %+v", p.Failures)
	}
}

// The hint is about what collides.
func TestRun_imagesThatCollide(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n    targetRepo: samples/docker\n  - name: HOST/samples/docker:v1\n")
	p := s.plan(t)
	if len(p.Failures) != 2 || strings.Contains(hint.Of(p.Failures[0].Cause), "chart") || !strings.Contains(hint.Of(p.Failures[0].Cause), "targetRepo") {
		t.Errorf("failures %+v", p.Failures)
	}
}

// A catalog has another key for its place than an image.
func TestRun_catalogThatCollides(t *testing.T) {
	s := newSetup(t, set(databaseHead)+"  additionalImages:\n  - {name: HOST/samples/oci:v1, targetRepo: redhat/redhat-operator-index, targetTag: v4.18}\n")
	p := s.plan(t)
	if len(p.Failures) != 2 || !strings.Contains(hint.Of(p.Failures[0].Cause), "targetCatalog") {
		t.Errorf("failures %+v", p.Failures)
	}
}

// The graph image is made by the run: no registry has it before.
func TestDryRun_mappingOfTheGraphImage(t *testing.T) {
	s := newSetup(t, withGraph)
	if _, _, err := mirror.DryRun(t.Context(), s.options(t, withGraph, s.beginning)); err != nil {
		t.Fatal(err)
	}
	const at = "docker://mirror.example.com:8443/openshift/graph-image:latest"
	if got := s.read(t, "dry-run", "mapping.txt"); !strings.Contains(got, at+"="+at+"\n") {
		t.Errorf("mapping %s", got)
	}
}

func TestRun_attachmentsThatDoNotCount(t *testing.T) {
	src := newSource(t)
	policy := src.trusting(t, `{"type":"sigstoreSigned"`)
	dir := t.TempDir()
	rule := "docker:\n  " + src.host + "/samples/signed:\n    use-sigstore-attachments: false\n"
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := signature.ReadLookaside(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := newSetupFrom(t, src, "  additionalImages:\n  - name: HOST/samples/signed:v1\n", policy, func(o *mirror.Options) { o.Signatures.Lookaside = l })
	report, err := s.mirror(t)
	if exitCode(err) != 8 || len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Error, "use-sigstore-attachments: false") {
		t.Errorf("%v, failures %+v", err, report.Failures)
	}
}

func TestRun_aDiskThatIsFull(t *testing.T) {
	s := newSetup(t, additional)
	if err := os.MkdirAll(s.workspace, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", filepath.Join(s.workspace, ".appliance.lock")); err != nil {
		t.Fatal(err)
	}
	_, err := mirror.Run(t.Context(), s.options(t, additional, s.beginning))
	if err == nil || !strings.Contains(err.Error(), "write to the workspace") || !strings.Contains(hint.Of(err), "df -h "+s.workspace) {
		t.Errorf("%v\nhint: %s", err, hint.Of(err))
	}
}
