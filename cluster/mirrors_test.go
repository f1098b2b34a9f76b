package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// pulls returns where podman's library would look for an image, by a registries.conf.
func pulls(t *testing.T, conf cluster.File, image string) string {
	t.Helper()
	if conf.Data == nil {
		t.Fatal("there is no registries.conf")
	}
	path := filepath.Join(t.TempDir(), "registries.conf")
	if err := os.WriteFile(path, conf.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	sys := &types.SystemContext{SystemRegistriesConfPath: path, SystemRegistriesConfDirPath: t.TempDir()}
	ref, err := reference.ParseNamed(image)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sysregistriesv2.FindRegistry(sys, ref.Name())
	if err != nil {
		t.Fatalf("%v in\n%s", err, conf.Data)
	}
	if r == nil {
		return "no entry"
	}
	sources, err := r.PullSourcesFromReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range sources {
		all = append(all, s.Reference.String())
	}
	return strings.NewReplacer(string(payload), "DIGEST", address, "FIRST", second, "SECOND").Replace(fmt.Sprint(all, r.Blocked))
}

// Step 8, and any host with podman: mirrors are for digests where only digests were mirrored.
func TestRegistriesConf_mirrorsByDigest(t *testing.T) {
	conf := files(t, facts(t, 4, 20))["registries.conf"]
	for image, want := range map[string]string{
		vendor + "ocp-v4.0-art-dev@" + string(payload):           "[FIRST/openshift/release@DIGEST quay.io/openshift-release-dev/ocp-v4.0-art-dev@DIGEST] false",
		"registry.redhat.io/op/bundle@" + string(payload):        "[FIRST/op/bundle@DIGEST registry.redhat.io/op/bundle@DIGEST] false",
		"registry.redhat.io/op/bundle:v1":                        "[registry.redhat.io/op/bundle:v1] false",
		"quay.io/team/app:v1":                                    "[FIRST/team/app:v1 quay.io/team/app:v1] false",
		"quay.io/team/app@" + string(payload):                    "[quay.io/team/app@DIGEST] false",
		"docker.io/library/alpine:3":                             "no entry",
		vendor + "ocp-release:4.20.3-x86_64":                     "[FIRST/openshift/release-images:4.20.3-x86_64 quay.io/openshift-release-dev/ocp-release:4.20.3-x86_64] false",
		"registry.redhat.io/op/another/below@" + string(payload): "[FIRST/op/another/below@DIGEST registry.redhat.io/op/another/below@DIGEST] false",
	} {
		equal(t, image, pulls(t, conf, image), want)
	}
	f := facts(t, 4, 20)
	f.NeverContactSource = true
	conf = files(t, f)["registries.conf"]
	if got := pulls(t, conf, "quay.io/team/app:v1"); !strings.HasSuffix(got, "true") {
		t.Errorf("the source is not blocked: %s", got)
	}
}

// Step 6: zero-touch manifests have the mirrors in files of their own.
func TestZeroTouch_files(t *testing.T) {
	f := facts(t, 4, 20)
	if all := files(t, f).names("mirror/"); len(all) > 0 {
		t.Errorf("unasked: %v", all)
	}
	f.ZeroTouch, f.NeverContactSource = true, true
	m := files(t, f)
	equal(t, "the CA", string(m["mirror/ca-bundle.crt"].Data), string(certificate(1)))
	conf := m["mirror/registries.conf"]
	equal(t, "releases", pulls(t, conf, vendor+"ocp-release@"+string(payload)),
		"[FIRST/openshift/release-images@DIGEST quay.io/openshift-release-dev/ocp-release@DIGEST] true")
	equal(t, "by tag", pulls(t, conf, vendor+"ocp-release:4.20.3-x86_64"), "[quay.io/openshift-release-dev/ocp-release:4.20.3-x86_64] true")
	equal(t, "others", pulls(t, conf, "quay.io/team/app:v1"), "no entry")
	if n := strings.Count(string(conf.Data), "mirror-by-digest-only = true"); n != 2 {
		t.Errorf("mirror-by-digest-only is there %d times in\n%s", n, conf.Data)
	}
}

// An upstream with a path leads to one repository, one without to all of a registry.
func TestUpstreams_sources(t *testing.T) {
	for upstream, want := range map[string]string{
		"openshift/release https://quay.io/openshift-release-dev/ocp-v4.0-art-dev": vendor + "ocp-v4.0-art-dev=" + address + "/openshift/release",
		"quay.io https://quay.io":                        "quay.io=" + address + "/quay.io",
		"quay.io https://quay.io/":                       "quay.io=" + address + "/quay.io",
		"hub https://registry-1.docker.io":               "docker.io=" + address + "/hub",
		"team http://registry.lan:5000/team-a/x":         "registry.lan:5000/team-a/x=" + address + "/team",
		"quay.io https://other.example.com:8443/quay.io": "other.example.com:8443/quay.io=" + address + "/quay.io quay.io=" + address + "/quay.io",
		"a/quay.io https://other.example.com/quay.io":    "other.example.com/quay.io=" + address + "/a/quay.io",
		"quay.io https://harbor.example.com/quay-proxy":  "harbor.example.com/quay-proxy=" + address + "/quay.io quay.io=" + address + "/quay.io",
		"quay.io https://quay.io/team":                   "quay.io/team=" + address + "/quay.io",
		"ocp-v4.0/x https://quay.io/team":                "quay.io/team=" + address + "/ocp-v4.0/x",
		"team/x https://other.example.com:8443/team/x":   "other.example.com:8443/team/x=" + address + "/team/x",
	} {
		f := facts(t, 4, 20)
		f.Resources = nil
		prefix, url, _ := strings.Cut(upstream, " ")
		f.Upstreams = []cluster.Upstream{{Prefix: prefix, URL: url}}
		m := files(t, f)
		for _, name := range []string{"openshift/idms.yaml", "openshift/itms.yaml"} {
			var got []string
			for _, o := range m.documents(t, name) {
				for _, s := range append(o.Spec.ByDigest, o.Spec.ByTag...) {
					got = append(got, s.Source+"="+strings.Join(s.Mirrors, ","))
				}
			}
			slices.Sort(got)
			equal(t, name+" of "+upstream, strings.Join(got, " "), want)
		}
	}
}

// Of several upstreams with an image, that with the longest name counts, whichever comes first.
func TestUpstreams_longestFirst(t *testing.T) {
	f := facts(t, 4, 20)
	f.Resources = nil
	f.Upstreams = []cluster.Upstream{{Prefix: "all", URL: "https://quay.io"}, {Prefix: "vendor", URL: "https://quay.io/openshift-release-dev"}}
	for range 2 {
		equal(t, "the mirror", of(files(t, f).installConfig(t).Digests, vendor+"ocp-release"), address+"/vendor/ocp-release")
		slices.Reverse(f.Upstreams)
	}
}

// An entry for digests alone would hide the upstream that serves tags as well.
func TestRegistriesConf_tagsOfReleasesThatArePulled(t *testing.T) {
	f := facts(t, 4, 20)
	f.Resources, f.Upstreams = nil, []cluster.Upstream{{Prefix: "quay.io", URL: "https://quay.io"}}
	equal(t, "by tag", pulls(t, files(t, f)["registries.conf"], vendor+"ocp-release:4.20.3-x86_64"),
		"[FIRST/quay.io/openshift-release-dev/ocp-release:4.20.3-x86_64 quay.io/openshift-release-dev/ocp-release:4.20.3-x86_64] false")
}

// An entry hides those of the namespaces above it, so that one which was mirrored leads on to what
// is pulled through.
func TestUpstreams_andWhatWasMirrored(t *testing.T) {
	f := facts(t, 4, 20)
	f.Upstreams = []cluster.Upstream{{Prefix: "quay.io", URL: "https://quay.io"}, {Prefix: "rh", URL: "https://registry.redhat.io"}, {Prefix: "openshift/release", URL: "https://quay.io/openshift-release-dev/ocp-v4.0-art-dev"}}
	m := files(t, f)
	for image, want := range map[string]string{
		"quay.io/team/app:v1":                          "[FIRST/team/app:v1 FIRST/quay.io/team/app:v1 quay.io/team/app:v1] false",
		"quay.io/team/app@" + string(payload):          "[FIRST/quay.io/team/app@DIGEST quay.io/team/app@DIGEST] false",
		"registry.redhat.io/op/bundle:v1":              "[FIRST/rh/op/bundle:v1 registry.redhat.io/op/bundle:v1] false",
		"quay.io/else/app:v1":                          "[FIRST/quay.io/else/app:v1 quay.io/else/app:v1] false",
		vendor + "ocp-v4.0-art-dev@" + string(payload): "[FIRST/openshift/release@DIGEST quay.io/openshift-release-dev/ocp-v4.0-art-dev@DIGEST] false",
		vendor + "ocp-release@" + string(payload): "[FIRST/openshift/release-images@DIGEST FIRST/quay.io/openshift-release-dev/ocp-release@DIGEST " +
			"quay.io/openshift-release-dev/ocp-release@DIGEST] false",
	} {
		equal(t, image, pulls(t, m["registries.conf"], image), want)
	}
	for _, name := range []string{"openshift/idms.yaml", "openshift/itms.yaml"} {
		var sources []string
		for _, o := range m.documents(t, name) {
			for _, s := range append(o.Spec.ByDigest, o.Spec.ByTag...) {
				if sources = append(sources, s.Source); strings.HasPrefix(s.Source, "quay.io/team") && s.Mirrors[len(s.Mirrors)-1] != address+"/quay.io/team" {
					t.Errorf("%s does not lead on: %v", name, s)
				}
			}
		}
		if slices.Sort(sources); len(slices.Compact(slices.Clone(sources))) != len(sources) {
			t.Errorf("%s has a source twice: %v", name, sources)
		}
	}
	c := m.installConfig(t)
	equal(t, "the release in install-config.yaml", of(c.Digests, vendor+"ocp-release"),
		address+"/openshift/release-images "+address+"/quay.io/"+vendorPath+"ocp-release")
	equal(t, "the components in install-config.yaml", of(c.Digests, vendor+"ocp-v4.0-art-dev"), address+"/openshift/release")
}

// A second appliance is asked after the first, in mirror sets and in registries.conf.
func TestSecondMirror(t *testing.T) {
	f := facts(t, 4, 20)
	f.Registries = append(f.Registries, cluster.Registry{Address: second, CA: certificate(2), Auth: secretAuth})
	m := files(t, f)
	equal(t, "registries.conf", pulls(t, m["registries.conf"], "registry.redhat.io/op/bundle@"+string(payload)),
		"[FIRST/op/bundle@DIGEST SECOND/op/bundle@DIGEST registry.redhat.io/op/bundle@DIGEST] false")
	for _, o := range m.documents(t, "day2/60-idms.yaml") {
		for _, s := range o.Spec.ByDigest {
			if len(s.Mirrors) != 2 || strings.Replace(s.Mirrors[0], address, second, 1) != s.Mirrors[1] {
				t.Errorf("%s has the mirrors %v", s.Source, s.Mirrors)
			}
		}
	}
	data := m.documents(t, "day2/10-registry-config.yaml")[0].Data
	equal(t, "the CA of the second", data["other.example.com..8443"], string(certificate(2)))
	equal(t, "the CAs for the update service", data["updateservice-registry"], string(certificate(1))+string(certificate(2)))
}

// Without a release at the mirror there is nothing to install from: a warning tells what to do, which
// helps.
func TestRender_withoutARelease(t *testing.T) {
	for name, upstreams := range map[string][]cluster.Upstream{"none": nil, "another namespace": {{Prefix: "quay.io", URL: "https://quay.io/team"}}} {
		f := facts(t, 4, 20)
		f.Release, f.Resources, f.Upstreams = cluster.Release{}, render(t, resources.Mirrored{}), upstreams
		r, err := cluster.Render(f)
		warned := strings.Join(r.Warnings, "\n")
		_, add, found := strings.Cut(warned, "appliance upstream add ")
		if err != nil || !found || !strings.Contains(warned, "names no mirror of a release") {
			t.Errorf("upstreams %s: it warns %q, %v", name, r.Warnings, err)
		}
		prefix, url, _ := strings.Cut(strings.SplitN(add, "\n", 2)[0], " ")
		f.Upstreams = append(f.Upstreams, cluster.Upstream{Prefix: prefix, URL: url})
		equal(t, "the mirror", of(files(t, f).installConfig(t).Digests, vendor+"ocp-release"), address+"/openshift-release-dev/ocp-release")
	}
}

// Clusters verify certificates and find logins by the name in the resources.
func TestRender_anotherName(t *testing.T) {
	f := facts(t, 4, 20)
	f.Registries[0].Address = "10.0.0.1:8443"
	if _, err := cluster.Render(f); err == nil || err.Error() != "the appliance calls itself "+address+", and is named 10.0.0.1:8443" {
		t.Errorf("%v", err)
	}
}
