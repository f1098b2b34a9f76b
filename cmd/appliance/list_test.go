package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// listed runs a command that lists what is below a path of the upstream.
func (s *mirrorSetup) listed(t *testing.T, newCommand func(stdio, string) *cobra.Command, below, flags string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c := newCommand(stdio{in: strings.NewReader(""), out: &out, err: &errs}, s.source+below)
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetArgs(append(strings.Fields(flags), "--src-tls-verify=false"))
	if err := c.ExecuteContext(t.Context()); err != nil {
		report(&errs, err)
		code = 1
	}
	return code, out.String(), errs.String()
}

// Spec: oc-mirror 1.8.
func TestListReleases(t *testing.T) {
	s := newMirrorSetup(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	list := func(flags string) (code int, stdout, stderr string) {
		return s.listed(t, newListReleasesCommand, "/openshift-release-dev/ocp-release", flags)
	}
	for _, tc := range []struct {
		flags string
		want  []string
	}{
		{"", []string{"Available OpenShift Container Platform release versions:\n", "  4.18\n"}},
		{"--version 4.18", []string{"Listing stable channels. Use --channel=<name> to filter.\n", "Channel: stable-4.18\nArchitecture: amd64\n4.18.1\n4.18.2\n"}},
		{"--channel stable-4.18 --filter-by-archs amd64,arm64", []string{"Architecture: amd64\n", "Architecture: arm64\n"}},
		{"-o json", []string{"  \"4.18\"\n]\n"}},
		{"--version 4.18 -o json", []string{`"channel": "stable-4.18"`, `"architecture": "amd64"`, `"4.18.2"`}},
		{"--channels --version 4.18 -o json", []string{`"version": "4.18"`, `"stable-4.18"`}},
		{"--channels --version 4.18 --cache-dir /x", []string{"Listing channels for version 4.18:\n\n", "stable-4.18\n"}},
	} {
		code, stdout, stderr := list(tc.flags)
		if code != 0 {
			t.Errorf("%s: exit code %d, %s", tc.flags, code, stderr)
		}
		says(t, stdout, tc.want...)
		if strings.Contains(tc.flags, "json") && !json.Valid([]byte(stdout)) {
			t.Errorf("%s: it prints no JSON:\n%s", tc.flags, stdout)
		}
	}
	for flags, want := range map[string]string{
		"--version 4.18 -o xml":              "xml",
		"--channels":                         "must specify --version with --channels",
		"--version 4.18 --filter-by-archs x": "invalid architecture(s) x. Known architectures: amd64",
		"--channel nothing-4.18":             "channel",
	} {
		code, _, stderr := list(flags)
		if code == 0 {
			t.Errorf("%s: exit code 0", flags)
		}
		says(t, stderr, "error: ", want)
	}
}

// Spec: oc-mirror 9.1.
func TestInit_ofVersion1(t *testing.T) {
	for flags, storage := range map[string]string{"": "local", "-o json": "local", "--registry localhost:1/meta": "registry"} {
		var out, errs bytes.Buffer
		if code := execute(append([]string{"mirror", "init", "--v1"}, strings.Fields(flags)...), stdio{in: strings.NewReader(""), out: &out, err: &errs}); code != 0 {
			t.Errorf("exit code %d: %s", code, errs.String())
		}
		file := filepath.Join(t.TempDir(), "isc.yaml")
		if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := imageset.LoadEither(file)
		if err != nil || len(c.Warnings) > 0 || len(c.Mirror.Operators) != 1 || !strings.Contains(out.String(), storage) {
			t.Errorf("%s: %v, %+v\n%s", flags, err, c, out.String())
		}
	}
}

// Spec: oc-mirror 9.1.
func TestInit(t *testing.T) {
	for _, flags := range []string{"", "-o json"} {
		var out, errs bytes.Buffer
		if code := execute(append([]string{"mirror", "init"}, strings.Fields(flags)...), stdio{in: strings.NewReader(""), out: &out, err: &errs}); code != 0 {
			t.Errorf("exit code %d: %s", code, errs.String())
		}
		c, err := imageset.Parse("isc.yaml", out.Bytes())
		if err != nil || len(c.Warnings) > 0 || len(c.Mirror.Platform.Channels) != 1 || len(c.Mirror.AdditionalImages) != 1 {
			t.Errorf("%s: %v, %+v", flags, err, c)
		}
	}
	// The lines that are comments are meant to be taken in.
	text := strings.NewReplacer("# minVersion", "minVersion", "# maxVersion", "maxVersion", "# shortestPath", "shortestPath", "# archiveSize", "archiveSize",
		"# architectures", "architectures", "  # helm:", "  helm:", "  #   ", "    ", "  # blockedImages", "  blockedImages", "  # - name", "  - name", "@sha256:…", ":v0").Replace(string(sampleImageSet))
	if c, err := imageset.Parse("isc.yaml", []byte(text)); err != nil || len(c.Warnings) > 0 || len(c.Mirror.Helm.Repositories) != 1 {
		t.Errorf("%v, %+v of\n%s", err, c, text)
	}
}

func TestHistory(t *testing.T) {
	s := newMirrorSetup(t)
	var out, errs bytes.Buffer
	std := stdio{in: strings.NewReader(""), out: &out, err: &errs}
	history := []string{"mirror", "history", "--workspace", "file://" + s.workspace}
	if code := execute(history, std); code != 1 || !strings.Contains(errs.String(), "no such file") {
		t.Errorf("where no workspace is: exit code %d, %s%s", code, out.String(), errs.String())
	}
	if err := os.MkdirAll(s.workspace, 0o755); err != nil {
		t.Fatal(err)
	}
	if code := execute(history, std); code != 0 || !strings.Contains(out.String(), "no run has ended") {
		t.Errorf("before a run: exit code %d, %s%s", code, out.String(), errs.String())
	}
	s.mirror(t, []string{held, absent})
	out.Reset()
	if code := execute(history, std); code != 0 {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	says(t, out.String(), "STARTED", s.destination, "1 of 2", "report_")
	out.Reset()
	execute(append(history, "-o", "json"), std)
	says(t, out.String(), `"failed": 1`)
}
