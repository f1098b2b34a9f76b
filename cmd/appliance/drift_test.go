package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
)

// Behind the gap, where no source answers, an image set is compared with what the appliance knows. What that
// does not decide is listed, and is not taken for equal.
func TestDrift_offline(t *testing.T) {
	s := newSite(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	fetch := func(path string) ([]byte, http.Header) {
		resp, err := http.Get("http://" + s.source + path)
		must(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		return text, resp.Header
	}
	data, _ := fetch(sample.GraphDataPath)
	file := filepath.Join(s.dir, "graph-data")
	must(t, os.WriteFile(file, data, 0o600))
	_, header := fetch("/v2/samples/docker/manifests/v1")
	const (
		catalog = "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    packages:\n"
		tagged  = "  additionalImages:\n  - name: HOST/samples/oci:v1\n"
		stable  = "    - {name: sample-database, channels: [{name: stable, minVersion: 1.1.0}]}\n"
	)
	byDigest := "  additionalImages:\n  - name: HOST/samples/docker@" + header.Get("Docker-Content-Digest") + "\n"
	channel := func(of string) string { return "  platform:\n    channels: [{name: " + of + "}]\n" }
	releases := channel("stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.2")
	s.works(t, s.by("releases", "mirror", "-c", s.set(t, "releases.yaml", releases+byDigest), "--ignore-release-signature")...)
	s.works(t, s.by("operators", "mirror", "-c", s.set(t, "operators.yaml", catalog+stable+tagged))...)
	s.works(t, "updates", "load", file, "docker://"+s.address, "--dest-creds", "admin:"+faultPassword)
	eventuallyHolds(t, "graph data counts", func() bool {
		return strings.Contains(s.works(t, "updates", "show", "--quayRoot", s.root), "graph data: ")
	})
	s.upstream.Close()

	drift := func(workspace, set string, flags ...string) (int, string) {
		code, stdout, stderr := s.run(t, s.by(workspace, append([]string{"drift", "-c", s.set(t, workspace+".yaml", set), "--retry-times", "0"}, flags...)...)...)
		return code, stdout + stderr
	}
	release := s.address + "/openshift/release-images:"
	for name, c := range map[string]struct {
		set  string
		code int
		want []string
	}{
		"in step":                      {releases + byDigest, 0, []string{"3 images asked for: 0 missing, 0 changed; 0 no longer asked for; 0 undecided"}},
		"a release is missing":         {channel("stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.3") + byDigest, 2, []string{"missing: " + release + "4.18.3-x86_64, stable-4.18 4.18.3-x86_64", "0 undecided"}},
		"the head is missing":          {channel("stable-4.18") + byDigest, 2, []string{"missing: " + release + "4.18.3-x86_64", "whether it has releases after 4.18.3", "1 missing, 0 changed; 2 no longer asked for; 1 undecided"}},
		"a path that is not here":      {channel("stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.3, shortestPath: true") + byDigest, 2, []string{"missing: " + release + "4.18.3-x86_64", "no path leads over those that are here", "1 undecided"}},
		"a release more":               {channel("stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1") + byDigest, 2, []string{"no longer asked for: " + release + "4.18.2-x86_64", "0 missing, 0 changed; 1 no longer"}},
		"of another architecture":      {strings.Replace(releases, "platform:", "platform:\n    architectures: [arm64]", 1) + byDigest, 2, []string{"missing: " + release + "4.18.1-aarch64", "no longer asked for: " + release + "4.18.1-x86_64"}},
		"a channel without graph data": {channel("stable-4.99") + byDigest, 3, []string{"undecided: channel stable-4.99, amd64: the graph data here does not have the channel", "0 no longer asked for", "hint: compare the rest where there is internet"}},
		"a release by its name":        {"  platform:\n    release: HOST/openshift-release-dev/ocp-release:4.18.1-x86_64\n" + byDigest, 2, []string{"no longer asked for: " + release + "4.18.2-x86_64"}},
		"a chart":                      {releases + byDigest + "  helm:\n    local: [{name: app, path: /absent.tgz}]\n", 3, []string{"undecided: chart /absent.tgz"}},
		"an image is missing":          {releases + byDigest + "  - name: HOST/samples/oci-multi:v1\n", 2, []string{"missing: " + s.address + "/samples/oci-multi:v1", "1 missing, 0 changed"}},
		"a blocked image":              {releases + byDigest + "  - name: HOST/samples/oci-multi:v1\n  blockedImages: [{name: oci-multi}]\n", 0, []string{"3 images asked for: 0 missing"}},
		"graph data":                   {strings.Replace(releases, "platform:", "platform:\n    graph: true", 1) + byDigest, 2, []string{"missing: " + s.address + "/openshift/graph-image:latest"}},
	} {
		if code, said := drift("releases", c.set, "--offline"); code != c.code || !containsAll(said, append(c.want, "offline: no source was asked\n")) {
			t.Errorf("%s: it ends with %d:\n%s", name, code, said)
		}
	}
	const index = "/redhat/redhat-operator-index:v4.18"
	undecided := []string{"undecided: " + s.source + index + ": it is here as it was mirrored", "undecided: " + s.source + "/samples/oci:v1: it is here"}
	for name, c := range map[string]struct {
		set  string
		code int
		want []string
	}{
		"in step":                  {catalog + stable + tagged, 3, append(undecided, "2 images asked for: 0 missing, 0 changed; 0 no longer asked for; 2 undecided")},
		"a package is missing":     {catalog + stable + "    - {name: sample-logging}\n" + tagged, 2, append(undecided, "missing: "+s.address+index+", package sample-logging of "+s.source+index)},
		"a channel is missing":     {catalog + "    - {name: sample-database, channels: [{name: stable}, {name: fast}]}\n" + tagged, 2, []string{"channel fast of package sample-database of"}},
		"versions are missing":     {catalog + strings.Replace(stable, "1.1.0", "9.0.0", 1) + tagged, 2, []string{`versions of channel stable of package sample-database of ` + s.source + index + ` from "9.0.0" to ""`}},
		"a bound is not here":      {catalog + strings.Replace(stable, "1.1.0", "1.0.0", 1) + tagged, 3, []string{"version 1.0.0, which is asked for, is not in the catalog here", "3 undecided"}},
		"another tag of a catalog": {strings.Replace(catalog, "v4.18", "v4.19", 1) + stable + tagged, 2, []string{"missing: " + s.address + "/redhat/redhat-operator-index:v4.19", "no longer asked for: " + s.address + index}},
		"an image less":            {catalog + stable, 2, []string{"no longer asked for: " + s.address + "/samples/oci:v1"}},
	} {
		if code, said := drift("operators", c.set, "--offline"); code != c.code || !containsAll(said, c.want) {
			t.Errorf("operators, %s: it ends with %d:\n%s", name, code, said)
		}
	}

	pushed := newTestImage("samples/oci", "v1", []byte("another"))
	must(t, s.push(t.Context(), pushed))
	code, stdout, stderr := s.run(t, s.by("operators", "drift", "--offline", "-o", "json", "-c", s.set(t, "operators.yaml", catalog+stable+tagged))...)
	var d mirror.Drift
	if err := json.Unmarshal([]byte(stdout), &d); err != nil || code != 2 || !d.Offline || len(d.Undecided) != 1 || len(d.Changed) != 1 || d.Changed[0].Digest == d.Changed[0].Was {
		t.Errorf("after a push it ends with %d: %v\n%s%s", code, err, stdout, stderr)
	}

	s.works(t, "offline", "on", "--quayRoot", s.root)
	if code, said := drift("releases", releases+byDigest, "--offline=false"); code != 1 || strings.Contains(said, "offline: ") {
		t.Errorf("with --offline=false it ends with %d:\n%s", code, said)
	}
	if code, said := drift("releases", releases+byDigest); code != 0 || !strings.Contains(said, "offline: no source was asked") {
		t.Errorf("at an appliance that is offline it ends with %d:\n%s", code, said)
	}
	if code, said := drift("releases", releases, "--offline", "--from", "file://"+s.dir); code != 1 || !strings.Contains(said, "--from needs no internet") {
		t.Errorf("with --from it ends with %d:\n%s", code, said)
	}
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
