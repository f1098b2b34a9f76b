package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
)

// Spec: oc-mirror 9.1.
func TestListUpdates(t *testing.T) {
	s := newMirrorSetup(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	archive := t.TempDir()
	file := filepath.Join(t.TempDir(), "imageset.yaml")
	run := func(config string, args ...string) (code int, stdout, stderr string) {
		t.Helper()
		text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n" + strings.ReplaceAll(config, "HOST", s.source)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code = execute(append(args, "--src-tls-verify=false"), stdio{in: strings.NewReader(""), out: &out, err: &errs})
		return code, out.String(), errs.String()
	}
	list := []string{"list", "updates", "-c", file, "--workspace", "file://" + archive}
	const old = `  platform: {channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}]}
  operators:
  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database, defaultChannel: fast, channels: [{name: fast, minVersion: 1.2.0, maxVersion: 1.2.0}]}]}
`
	code, _, stderr := run(old, list...)
	if code == 0 || !strings.Contains(stderr, "no run of the workspace") || !strings.Contains(stderr, "hint: ") {
		t.Fatalf("before a run: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := run(old, "mirror", "-c", file, "file://"+archive, "--ignore-release-signature"); code != 0 {
		t.Fatal(code, stderr)
	}

	code, stdout, stderr := run(old, list...)
	if code != 0 {
		t.Fatal(code, stderr)
	}
	says(t, strings.Join(strings.Fields(stdout), " "), "stable-4.18 Architecture: amd64 4.18.2 not asked for by the image set 4.18.3 not asked for by the image set",
		"sample-database fast sample-database.v2.0.0 sample-database.v1.2.0 not asked for by the image set")
	if strings.Contains(stdout, "4.18.1\n") || strings.Contains(stdout, "sample-logging") {
		t.Errorf("it lists what was mirrored, or what is not named:\n%s", stdout)
	}

	open := strings.NewReplacer(", maxVersion: 4.18.1", "", ", maxVersion: 1.2.0", "").Replace(old) +
		"  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', targetCatalog: other/index, packages: [{name: sample-logging, channels: [{name: stable-5.9}]}]}\n"
	code, stdout, stderr = run(open, append(list, "-o", "json")...)
	var u mirror.Updates
	if err := json.Unmarshal([]byte(stdout), &u); err != nil || code != 0 {
		t.Fatal(code, stderr, err)
	}
	if len(u.Channels) != 1 || u.Channels[0].Mirrored != "4.18.1" || len(u.Channels[0].Versions) != 2 || !u.Channels[0].Versions[1].Asked {
		t.Errorf("releases: %+v", u.Channels)
	}
	if len(u.Catalogs) != 2 || len(u.Catalogs[0].Bundles) != 1 || !u.Catalogs[0].Bundles[0].Asked {
		t.Fatalf("operators: %+v", u.Catalogs)
	}
	// Nothing of the channel was mirrored: what is asked for is new, and that is its head alone.
	if b := u.Catalogs[1].Bundles; len(b) != 1 || b[0].Bundle != "sample-logging.v5.9.0" || !b[0].Asked {
		t.Errorf("of a package that is new: %+v", b)
	}

	code, stdout, stderr = run("  platform: {channels: [{name: stable-4.17}]}\n", list...)
	if code != 0 || !strings.Contains(stdout, "4.17.2\n") || strings.Contains(stdout, "4.16.2") {
		t.Errorf("a channel that is new, of which the head is asked for: exit code %d, %s%s", code, stdout, stderr)
	}

	if code, _, stderr := run(open, "mirror", "-c", file, "file://"+archive, "--ignore-release-signature"); code != 0 {
		t.Fatal(code, stderr)
	}
	code, stdout, stderr = run(open, list...)
	if code != 0 || strings.Count(stdout, "No updates found for ") != 3 {
		t.Errorf("after it was mirrored: exit code %d, %s%s", code, stdout, stderr)
	}

	code, stdout, stderr = run(strings.Replace(open, "stable-4.18", "stable-9.9", 1)+"  - {catalog: HOST/absent/index:v1}\n", list...)
	if code == 0 || strings.Count(stdout, "No updates found for catalog") != 2 {
		t.Errorf("with a channel and a catalog that are not there: exit code %d, %s", code, stdout)
	}
	says(t, stderr, "stable-9.9", "absent/index")
}

// Spec: oc-mirror 9.1.
func TestMirror_registriesConfOfVersion1(t *testing.T) {
	s := newMirrorSetup(t)
	conf := filepath.Join(t.TempDir(), "registries.conf")
	text := "[[registry]]\nlocation = \"quay.example\"\nblocked = true\n[[registry]]\nprefix = \"" + s.source + "/samples\"\nlocation = \"" + s.source + "/gone\"\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := s.mirror(t, []string{held}, "--oci-registries-config", conf); code == 0 {
		t.Errorf("the file moves the repository to one that does not exist, and the image was mirrored: %s", stderr)
	}
	if code, _, stderr := s.mirror(t, []string{held}); code != 0 {
		t.Errorf("without the file: exit code %d, %s", code, stderr)
	}
}
