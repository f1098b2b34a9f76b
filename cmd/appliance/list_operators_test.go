package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
)

const listedFiles = `{"schema":"olm.package","name":"etcd","defaultChannel":"a"}
{"schema":"olm.channel","package":"etcd","name":"a","entries":[{"name":"etcd.v1.0.0"},{"name":"etcd.v1.2.0","replaces":"etcd.v1.0.0"}]}
{"schema":"olm.channel","package":"etcd","name":"two","entries":[{"name":"etcd.v1.0.0"},{"name":"etcd.v1.2.0"}]}
{"schema":"olm.bundle","package":"etcd","name":"etcd.v1.0.0","image":"x.io/a:1","properties":[{"type":"olm.package","value":{"packageName":"etcd","version":"1.0.0"}},{"type":"olm.csv.metadata","value":{"displayName":"Old"}}]}
{"schema":"olm.channel","package":"etcd","name":"many","entries":[{"name":"etcd.v1.10.0","replaces":"etcd.v1.9.0"},{"name":"etcd.v1.9.0"}]}
{"schema":"olm.bundle","package":"etcd","name":"etcd.v1.9.0","image":"x.io/a:9","properties":[{"type":"olm.package","value":{"packageName":"etcd","version":"1.9.0"}}]}
{"schema":"olm.bundle","package":"etcd","name":"etcd.v1.10.0","image":"x.io/a:10","properties":[{"type":"olm.package","value":{"packageName":"etcd","version":"1.10.0-rc.1"}},{"type":"olm.csv.metadata","value":{"displayName":"A store of keys"}}]}
{"schema":"olm.bundle","package":"etcd","name":"etcd.v1.2.0","image":"x.io/a:2","properties":[{"type":"olm.package","value":{"packageName":"etcd","version":"1.2.0"}},{"type":"olm.csv.metadata","value":{"displayName":"A store\u001b[31m of keys"}}]}
`

// Spec: oc-mirror 1.8.
func TestListOperators(t *testing.T) {
	s := newMirrorSetup(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "catalog.json"), []byte(listedFiles), 0o600); err != nil {
		t.Fatal(err)
	}
	list := func(flags string) (code int, stdout, stderr string) {
		return s.listed(t, newListOperatorsCommand, "/redhat/", flags)
	}
	index := "--catalog " + s.source + "/redhat/redhat-operator-index:v4.18"
	for flags, want := range map[string]string{
		index:                               "NAME             DISPLAY NAME  DEFAULT CHANNEL\nsample-database                stable\nsample-logging                 stable-5.9\n",
		index + " --package sample-logging": "\nPACKAGE         CHANNEL     HEAD\nsample-logging  stable-5.8  sample-logging.v5.8.1\nsample-logging  stable-5.9  sample-logging.v5.9.0\n",
		index + " --package sample-database --channel fast":         "VERSIONS\n1.2.0\n2.0.0\n",
		"--catalogs --version 4.18":                                 "Available OpenShift OperatorHub catalogs:\nOpenShift 4.18:\n" + s.source + "/redhat/redhat-operator-index:v4.18\nInvalid catalog reference \"" + s.source + "/redhat/certified-operator-index:v4.18\"",
		"--version 4.22":                                            "community-operator-index:v4.22\", please check version\n",
		"--catalog dir://" + dir:                                    "etcd  A store",
		"--catalog dir://" + dir + " --package etcd":                "etcd     two      ERROR: the channel does not have one head",
		"--catalog dir://" + dir + " --package etcd --channel a":    "VERSIONS\n1.0.0\n1.2.0\n",
		"--catalog dir://" + dir + " --package etcd --channel many": "VERSIONS\n1.9.0\n1.10.0-rc.1\n",
		"--catalogs --version 4.18 -o json":                         "[\n",
		"--catalog dir://" + dir + " --package etcd --output=json":  `"head": "etcd.v1.2.0"`,
	} {
		code, stdout, stderr := list(flags)
		if code != 0 || !strings.Contains(stdout, want) || strings.Contains(stdout, "\x1b") {
			t.Errorf("%s: exit code %d, %q, %s", flags, code, stdout, stderr)
		}
		if strings.Contains(flags, "json") && !json.Valid([]byte(stdout)) {
			t.Errorf("%s: %s", flags, stdout)
		}
	}
	for flags, want := range map[string]string{
		"":                     "must specify --catalog",
		"--package x":          "must specify --catalog with --package",
		index + " --channel x": "must specify --catalog and --package with --channel",
		index + " --package x": `operator "x" not found in catalog`,
		index + " --package sample-logging --channel x": `channel "x" not found for operator "sample-logging"`,
		index + " --catalogs":                           "give one of them",
		"--version x":                                   "is not a version",
		"--catalog " + s.source + "/a/b:v1":             "failed to load catalog",
		"--catalog dir:///does/not/exist":               "directory /does/not/exist of the catalog: no such file or directory\nhint: name the directory",
		"--catalog dir:///etc/passwd":                   "/etc/passwd, which is to have the catalog, is not a directory\nhint: name the directory",
		"--catalog dir://":                              "names no directory\nhint: name the directory",
		"--catalog oci://":                              "names no directory\nhint: write oci://DIR",
		index + " --sizes":                              "must specify --catalog and --package with --sizes",
		"--from /media":                                 "neither an archive nor one registry",
		"--from docker://a:1 --from file:///b":          "neither an archive nor one registry",
		"--from file:///b --version 4.20":               "leave it out with --from",
		"--from file://" + dir:                          "no tar archives",
		"--catalog " + s.source + "/samples/docker:v1":  "is not an operator catalog",
	} {
		code, _, stderr := list(flags)
		if code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %s", flags, code, stderr)
		}
	}
}

// A name may mean several catalogs of an archive. In one of oc-mirror's the original is beside what was
// filtered.
func TestFindCatalog(t *testing.T) {
	whole := mirror.HeldCatalog{Image: "redhat/index:v4.18", Digest: "sha256:1"}
	filtered := mirror.HeldCatalog{Image: "redhat/index:d291", Digest: "sha256:2"}
	ours := mirror.HeldCatalog{Catalog: "x.io/redhat/index:v4.18", Image: "our/index:v1", Digest: "sha256:3"}
	other := mirror.HeldCatalog{Catalog: ours.Catalog, Image: "our/index:v2", Digest: "sha256:4"}
	for _, tc := range []struct {
		all        []mirror.HeldCatalog
		name, want string
	}{
		{[]mirror.HeldCatalog{filtered, whole}, "x.io/redhat/index:v4.18", "redhat/index@sha256:2"},
		{[]mirror.HeldCatalog{filtered, whole}, "redhat/index:v4.18", "redhat/index@sha256:1"},
		{[]mirror.HeldCatalog{whole}, "x.io/redhat/index:v4.18", "redhat/index@sha256:1"},
		{[]mirror.HeldCatalog{whole, filtered, filtered}, "x.io/redhat/index:v4.18", "the archive has 2 catalogs"},
		{[]mirror.HeldCatalog{ours, other}, "x.io/redhat/index:v4.18", "the archive has 2 catalogs x.io/redhat/index:v4.18: our/index:v1, our/index:v2"},
		{[]mirror.HeldCatalog{ours, other}, "our/index:v2", "our/index@sha256:4"},
		{[]mirror.HeldCatalog{ours, other}, "x.io/our/index:v2", "the archive has no catalog"},
	} {
		ref, err := findCatalog(tc.all, tc.name)
		if got := ref.String(); err == nil && got != tc.want || err != nil && !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s in %v is %s, %v, want %s", tc.name, tc.all, got, err, tc.want)
		}
	}
}
