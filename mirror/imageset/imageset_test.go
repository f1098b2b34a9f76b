package imageset_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

const head = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\n"

// everything has every key that there is.
const everything = head + `archiveSize: 4
mirror:
  platform:
    graph: true
    architectures: [amd64, arm64, amd64]
    channels:
    - name: stable-4.18
      minVersion: 4.18.1
      maxVersion: 4.18.20
      shortestPath: true
    - name: okd-4
      type: okd
      full: true
    release: quay.io/r/r:1
    kubeVirtContainer: true
  operators:
  - catalog: registry.example.com/op/index:v4.18
    targetCatalog: my/index
    targetTag: 1.10
    full: false
    skipDependencies: true
    targetCatalogSourceTemplate: /tmp/cs.yaml
    platforms: [{os: linux, architecture: amd64}]
    packages:
    - name: foo
      defaultChannel: stable
      channels:
      - name: stable
        minVersion: 1.2.3
        maxVersion: 1.3.0
    - name: bar
      minVersion: 0.1.0
      maxVersion: 0.2.0
  additionalImages:
  - name: localhost:5001/x@sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
    targetRepo: a/b
    targetTag: v1
    platforms: [{os: linux, architecture: s390x}]
  helm:
    repositories:
    - name: r
      url: https://charts.example.com/
      charts:
      - name: c
        version: 1.0.0
        imagePaths: ['{.spec.image}']
    local:
    - name: l
      path: /tmp/l.tgz
  blockedImages:
  - name: .*windows.*
  samples:
  - name: ignored
`

func parse(t *testing.T, text string) *imageset.Config {
	t.Helper()
	c, err := imageset.Parse("isc.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Spec: oc-mirror 2.2, 6.6.
func TestParse_everyKey(t *testing.T) {
	c := parse(t, everything)
	linux := func(arch string) []imageset.OSArch { return []imageset.OSArch{{OS: "linux", Architecture: arch}} }
	want := imageset.Mirror{
		Platform: imageset.Platform{
			Graph: true, Architectures: []string{"amd64", "arm64"}, Release: "quay.io/r/r:1", KubeVirtContainer: true,
			Channels: []imageset.Channel{
				{Name: "stable-4.18", Type: imageset.OCP, MinVersion: "4.18.1", MaxVersion: "4.18.20", ShortestPath: true},
				{Name: "okd-4", Type: imageset.OKD, Full: true},
			},
		},
		Operators: []imageset.Operator{{
			Catalog: "registry.example.com/op/index:v4.18", TargetCatalog: "my/index", TargetTag: "1.10", SkipDependencies: true,
			TargetCatalogSourceTemplate: "/tmp/cs.yaml", Platforms: linux("amd64"),
			Packages: []imageset.Package{
				{Name: "foo", DefaultChannel: "stable", Channels: []imageset.PackageChannel{{Name: "stable", MinVersion: "1.2.3", MaxVersion: "1.3.0"}}},
				{Name: "bar", MinVersion: "0.1.0", MaxVersion: "0.2.0"},
			},
		}},
		AdditionalImages: []imageset.AdditionalImage{{
			Name:       "localhost:5001/x@sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
			TargetRepo: "a/b", TargetTag: "v1", Platforms: linux("s390x"),
		}},
		Helm: imageset.Helm{
			Repositories: []imageset.HelmRepository{{Name: "r", URL: "https://charts.example.com/",
				Charts: []imageset.Chart{{Name: "c", Version: "1.0.0", ImagePaths: []string{"{.spec.image}"}}}}},
			Local: []imageset.Chart{{Name: "l", Path: "/tmp/l.tgz"}},
		},
		BlockedImages: []imageset.BlockedImage{{Name: ".*windows.*"}},
		Samples:       []imageset.Sample{{Name: "ignored"}},
	}
	if !reflect.DeepEqual(c.Mirror, want) {
		t.Errorf("read\n%+v\nwant\n%+v", c.Mirror, want)
	}
	if c.ArchiveSize != 4 || c.APIVersion != "mirror.openshift.io/v2alpha1" {
		t.Errorf("archiveSize %d, apiVersion %q", c.ArchiveSize, c.APIVersion)
	}
	for _, want := range []string{"skipDependencies", "samples", "channels are ignored"} {
		if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
			t.Errorf("no warning about %s among %q", want, c.Warnings)
		}
	}
	for path, want := range map[string]string{
		"mirror.platform.graph":            "isc.yaml:6",
		"mirror.operators":                 "isc.yaml:18",
		"mirror.additionalImages[0].name":  "isc.yaml:37",
		"mirror.additionalImages[7].name":  "isc.yaml",
		"mirror.platform.channels[1].type": "isc.yaml:14",
	} {
		if got := c.At(path); got != want {
			t.Errorf("%s is at %s, want %s", path, got, want)
		}
	}
}

// Spec: oc-mirror 2.1.
func TestParse_accepted(t *testing.T) {
	for _, tc := range []struct{ name, text, warning string }{
		{"an older apiVersion", "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v1alpha2\nmirror: {}\n", "v1alpha2"},
		{"a key in another case", head + "mirror:\n  additionalimages:\n  - name: a.io/b:c\n", `line 4: key "additionalimages" is read as "additionalImages"`},
		{"a second document", head + "mirror: {}\n---\nkind: Other\n", "only the first document"},
		{"an unknown channel type", head + "mirror:\n  platform:\n    channels: [{name: x-4.1, type: xyz}]\n", `"xyz"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := parse(t, tc.text)
			if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, tc.warning) }) {
				t.Errorf("warnings %q, want one with %s", c.Warnings, tc.warning)
			}
		})
	}
	t.Run("the default architecture", func(t *testing.T) {
		c := parse(t, head+"mirror:\n  platform:\n    channels: [{name: x-4.1}]\n")
		if !slices.Equal(c.Mirror.Platform.Architectures, []string{"amd64"}) {
			t.Errorf("architectures %v", c.Mirror.Platform.Architectures)
		}
	})
	t.Run("anchors and merges", func(t *testing.T) {
		c := parse(t, head+`mirror:
  additionalImages:
  - &base {name: 'a.io/b:c', targetRepo: x}
  - <<: *base
    targetRepo: y
  - *base
`)
		var repos []string
		for _, a := range c.Mirror.AdditionalImages {
			repos = append(repos, a.Name+" "+a.TargetRepo)
		}
		if got := strings.Join(repos, ", "); got != "a.io/b:c x, a.io/b:c y, a.io/b:c x" {
			t.Errorf("read %s", got)
		}
	})
	t.Run("null is absent", func(t *testing.T) {
		if c := parse(t, head+"mirror:\n  platform:\n  operators: null\n  additionalImages: ~\n"); len(c.Mirror.Operators) != 0 {
			t.Errorf("operators %v", c.Mirror.Operators)
		}
	})
}

// Spec: oc-mirror 2.1, 2.2.
func TestParse_refused(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       string // of the message
		hint       string // part of it
		code       int
	}{
		{"an empty file", "", "isc.yaml: the file is empty", "kind: ImageSetConfiguration", 1},
		{"no YAML", "kind: [\n", "isc.yaml:", "indentation", 1},
		{"a list", "- a\n", "isc.yaml:1: the file must be a mapping", "", 1},
		{"no kind", "mirror: {}\n", "configuration missing `kind`", "kind: ImageSetConfiguration", 1},
		{"another kind", "kind: Pod\nmirror: {}\n", `isc.yaml:1: kind is "Pod"`, "", 1},
		{"a deletion", "kind: DeleteImageSetConfiguration\ndelete: {}\n", `isc.yaml:1: kind is "DeleteImageSetConfiguration", not ImageSetConfiguration`, "appliance delete", 1},
		{"no mirror", head, "the key mirror is missing", "", 1},
		{"a deletion besides", head + "mirror: {}\ndelete: {}\n", `isc.yaml:4: delete: unknown key`, "DeleteImageSetConfiguration", 1},
		{"a key of version 1", head + "storageConfig: {}\nmirror: {}\n", `isc.yaml:3: storageConfig: unknown key`, "remove storageConfig", 1},
		{"an unknown key", head + "mirror:\n  additionalImages:\n  - nam: x\n", `isc.yaml:5: mirror.additionalImages[0].nam: unknown key`, "known keys here: name, targetRepo, targetTag, platforms", 1},
		{"a key twice", head + "mirror:\n  helm: {}\n  helm: {}\n", `isc.yaml:5: `, "", 1},
		{"a list that is a mapping", head + "mirror:\n  additionalImages: {}\n", "isc.yaml:4: mirror.additionalImages: a list is wanted here", "'- name: ", 1},
		{"a flag that is text", head + "mirror:\n  platform:\n    graph: yes please\n", "isc.yaml:5: mirror.platform.graph: true or false is wanted here", "", 1},
		{"a size in bytes", head + "archiveSize: 4294967296\nmirror: {}\n", "isc.yaml:3: archiveSize must not be more than 1048576", "GiB", 1},
		{"a number that is text", head + "archiveSize: big\nmirror: {}\n", "isc.yaml:3: archiveSize: a number is wanted here", "", 1},
		{"a version that is none", head + "mirror:\n  platform:\n    channels:\n    - name: s-4.1\n      minVersion: 4.18\n", `isc.yaml:7: release channel "s-4.1": minVersion "4.18" must respect semantic versioning notation`, "major.minor.patch", 1},
		{"a range upside down", head + "mirror:\n  platform:\n    channels:\n    - {name: s-4.1, minVersion: 4.1.9, maxVersion: 4.1.2}\n", "isc.yaml:6: release channel \"s-4.1\": minVersion 4.1.9 is above", "", 1},
		{"a channel twice", head + "mirror:\n  platform:\n    channels:\n    - name: s-4.1\n    - name: s-4.1\n", `isc.yaml:7: release channel "s-4.1": duplicate found in configuration`, "", 1},
		{"a channel without name", head + "mirror:\n  platform:\n    channels:\n    - full: true\n", "isc.yaml:6: a channel without name", "", 1},
		{"an unknown architecture", head + "mirror:\n  platform:\n    architectures: [x86]\n", `isc.yaml:5: architecture "x86"`, "", 1},
		{"platforms and architectures", head + "mirror:\n  platform:\n    architectures: [amd64]\n    platforms: [{os: linux, architecture: amd64}]\n", "isc.yaml:6: platform.platforms and platform.architectures cannot be used together", "", 1},
		{"a regular expression that is none", head + "mirror:\n  blockedImages:\n  - name: '*x'\n", `isc.yaml:5: blocked image "*x": invalid regular expression`, "RE2", 1},
		{"an operator's package twice", head + "mirror:\n  operators:\n  - catalog: a/b:c\n    packages:\n    - name: p\n    - name: p\n", `isc.yaml:8: catalog "a/b:c": duplicate package entry "p"`, "", 1},
		{"a catalog twice", head + "mirror:\n  operators:\n  - catalog: a/b:c\n  - catalog: a/b:c\n", `isc.yaml:6: catalog "a/b:c": duplicate found in configuration`, "targetCatalog", 1},
		{"two catalogs in one place", head + "mirror:\n  operators:\n  - catalog: a.io/b:c\n  - {catalog: z.io/y:x, targetCatalog: b, targetTag: c}\n", `isc.yaml:6: catalog "a.io/b:c" and catalog "z.io/y:x" would both become b:c`, "another targetCatalog or targetTag", 1},
		{"two catalogs of this host in one place", head + "mirror:\n  operators:\n  - catalog: dir:///a/b\n  - catalog: oci:///x/b\n", `isc.yaml:6: catalog "dir:///a/b" and catalog "oci:///x/b" would both become b:latest`, "", 1},
		{"a catalog's target with a tag", head + "mirror:\n  operators:\n  - catalog: a/b:c\n    targetCatalog: x/y:z\n", `isc.yaml:6: invalid target path component "x/y:z": should not contain a tag or digest`, "", 1},
		{"a catalog's target tag that is none", head + "mirror:\n  operators:\n  - catalog: a/b:c\n    targetTag: x y\n", `isc.yaml:6: invalid targetTag "x y"`, "at most 128", 1},
		{"a catalog with a login", head + "mirror:\n  operators:\n  - catalog: user:secret@a.io/b:c\n", "isc.yaml:5: …@a.io/b:c unable to parse image correctly : it has a login in it", "", 1},
		{"two kinds of ranges", head + "mirror:\n  operators:\n  - catalog: a/b:c\n    packages:\n    - name: p\n      minVersion: 1.0.0\n      channels: [{name: s, minVersion: 1.0.0}]\n", "mixing both filtering by minVersion/maxVersion and filtering by channel minVersion/maxVersion is not allowed", "", 1},
		{"an image without tag", head + "mirror:\n  additionalImages:\n  - name: quay.io/a/b\n", "isc.yaml:5: additional image quay.io/a/b unable to parse image correctly : tag and digest are empty", "a tag or a digest is always needed", 8},
		{"an image whose digest is too long for a tag", head + "mirror:\n  additionalImages:\n  - name: a.io/b@sha512:" + strings.Repeat("0", 128) + "\n", "isc.yaml:5: additional image a.io/b@sha512:", "targetTag", 8},
		{"an image by a digest of an algorithm that registries do not have", head + "mirror:\n  additionalImages:\n  - name: a.io/b@sha384:" + strings.Repeat("0", 96) + "\n    targetTag: v1\n", "is not a digest", "", 8},
		{"a target repository with a tag", head + "mirror:\n  additionalImages:\n  - name: a.io/b:c\n    targetRepo: x:y\n", `isc.yaml:6: invalid targetRepo "x:y"`, "", 8},
		{"a target tag that is none", head + "mirror:\n  additionalImages:\n  - name: a.io/b:c\n    targetTag: x/y\n", `isc.yaml:6: invalid targetTag "x/y"`, "", 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := imageset.Parse("isc.yaml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			if got := hint.Of(err); got == "" || !strings.Contains(got, tc.hint) {
				t.Errorf("hint %q, want %q", got, tc.hint)
			}
			if e, ok := err.(interface{ ExitCode() int }); !ok || e.ExitCode() != tc.code {
				t.Errorf("%v does not have exit code %d", err, tc.code)
			}
		})
	}
	t.Run("what contains itself", func(t *testing.T) {
		for _, text := range []string{
			head + "mirror: &a\n  <<: *a\n",
			head + "mirror: &a\n  platform: *a\n",
			head + "mirror:\n  additionalImages: &a\n  - *a\n",
			head + "mirror: &a\n  <<: [*a, *a]\n",
		} {
			if c, err := imageset.Parse("isc.yaml", []byte(text)); err == nil {
				t.Errorf("%s reads as %+v", text, c)
			}
		}
	})
	t.Run("what is a thousand times its text", func(t *testing.T) {
		text := head + "mirror:\n  samples: &a0 [{name: x}, {name: x}]\n"
		for i := range 25 {
			text += fmt.Sprintf("x%d: &a%d [*a%d, *a%d]\n", i, i+1, i, i)
		}
		_, err := imageset.Parse("isc.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("all at once, in the order of the file", func(t *testing.T) {
		_, err := imageset.Parse("isc.yaml", []byte(head+"mirror:\n  samples: 1\n  bad: 1\n  helm: 1\n"))
		want := regexp.MustCompile(`^invalid configuration: isc.yaml:4: [^\n]*\n  isc.yaml:5: [^\n]*\n  isc.yaml:6: [^\n]*$`)
		if err == nil || !want.MatchString(err.Error()) {
			t.Errorf("error %v", err)
		}
	})
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "isc.yaml")
	_, err := imageset.Load(path)
	if !errors.Is(err, fs.ErrNotExist) || hint.Of(err) == "" {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte(everything), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := imageset.Load(path)
	if err != nil || c.File != "isc.yaml" {
		t.Errorf("%v, file %q", err, c.File)
	}
}

// Spec: oc-mirror 6.1.
func TestParseReference(t *testing.T) {
	const d = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	for _, tc := range []struct{ in, path, pull, registry, repository string }{
		{"quay.io/a/b:v1", "a/b", "quay.io/a/b:v1", "quay.io", "a/b"},
		{"docker://quay.io/a/b:v1", "a/b", "quay.io/a/b:v1", "quay.io", "a/b"},
		{"quay.io/a/b@" + d, "a/b", "quay.io/a/b@" + d, "quay.io", "a/b"},
		{"quay.io/a/b:v1@" + d, "a/b", "quay.io/a/b@" + d, "quay.io", "a/b"},
		{"localhost:5001/x:v1", "x", "localhost:5001/x:v1", "localhost:5001", "x"},
		{"localhost:5001/x@" + d, "x", "localhost:5001/x@" + d, "localhost:5001", "x"},
		{"localhost:5001/x:v1@" + d, "x", "localhost:5001/x@" + d, "localhost:5001", "x"},
		{"localhost/x:v1", "x", "localhost/x:v1", "localhost", "x"},
		{"[::1]:5001/x:v1", "x", "[::1]:5001/x:v1", "[::1]:5001", "x"},
		{"nginx:1", "nginx", "nginx:1", "docker.io", "library/nginx"},
		{"library/nginx:1", "nginx", "library/nginx:1", "docker.io", "library/nginx"},
		{"docker.io/nginx:1", "nginx", "docker.io/nginx:1", "docker.io", "library/nginx"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			r, err := imageset.ParseReference(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if r.Path != tc.path || r.Pull() != tc.pull || r.Registry() != tc.registry || r.Repository() != tc.repository {
				t.Errorf("path %q, pull %q, registry %q, repository %q; want %+v", r.Path, r.Pull(), r.Registry(), r.Repository(), tc)
			}
			if r.String() != strings.TrimPrefix(tc.in, "docker://") {
				t.Errorf("writes itself as %q", r.String())
			}
		})
	}
	for _, in := range []string{
		"", "quay.io/a/b", "localhost:5001/x", "quay.io/a/b:", "quay.io/a/b@sha256:12", "quay.io/a/b@md5:x", "quay.io/A/b:v1",
		"quay.io//b:v1", "quay.io/a/../b:v1", "quay.io/a b:v1", "http://quay.io/a:v1", "quay.io/a:-x", ":v1", "/a:v1", "quay io/a:v1", "quay.io:x/a:v1",
	} {
		t.Run("not "+in, func(t *testing.T) {
			if r, err := imageset.ParseReference(in); err == nil {
				t.Errorf("reads as %+v", r)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(head + "mirror: &a\n  platform: *a\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if c, err := imageset.Parse("x", data); err == nil {
			_ = c.At("mirror")
		}
	})
}

func TestParseReference_refused(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, tc := range map[string]struct{ ref, says, hides string }{
		"a login":                        {"user:secret@registry.example.com/app:v1", "has a login in it", "secret"},
		"a login with a digest":          {"user:secret@registry.example.com/app@sha256:1", "has a login in it", "secret"},
		"a login without a path":         {"user:secret@registry.example.com", "…@registry.example.com unable to parse image correctly : it has a login in it", "secret"},
		"a login before a port":          {"user:secret@registry.example.com:5000", "has a login in it", "secret"},
		"a login with a transport":       {"docker://user:secret@registry.example.com/app:v1", "has a login in it", "secret"},
		"a login in an address":          {"https://user:secret@registry.example.com/app:v1", "has a login in it", "secret"},
		"a password with a slash":        {"user:sec/secret@registry.example.com/app:v1", "…@registry.example.com/app:v1 unable", "sec/"},
		"a password with an @":           {"user:pass@secret@registry.example.com/app:v1", "…@registry.example.com/app:v1 unable", "secret"},
		"a password with ://":            {"user:sec://secret@registry.example.com/app:v1", "has a login in it", "secret"},
		"a password and a digest":        {"user:sec/secret@registry.example.com/app@sha256:1", "…@registry.example.com/app@sha256:1 unable", "sec/"},
		"a digest of another form":       {"registry.example.com/app@latest", `"latest" is not a digest`, "registry.example.com"},
		"a digest that is too short":     {"registry.example.com/app@sha256:1", `"sha256:1" is not a digest`, ""},
		"a port that does not exist":     {"registry.example.com:99999/app:v1", "is not a registry", ""},
		"port 0":                         {"registry.example.com:0/app:v1", "is not a registry", ""},
		"a name longer than any":         {"registry.example.com/" + long + ":v1", "is not a repository name", long[:5000]},
		"a port that does not exist, v6": {"[::1]:70000/app:v1", "is not a registry", ""},
	} {
		_, err := imageset.ParseReference(tc.ref)
		if err == nil || !strings.Contains(err.Error(), tc.says) || tc.hides != "" && strings.Contains(err.Error(), tc.hides) {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	for _, ref := range []string{"registry.example.com:65535/app:v1", "[::1]:5000/app:v1", "[::1]/app:v1"} {
		if _, err := imageset.ParseReference(ref); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
