package imageset

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

const head1 = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v1alpha2\n"

// everything1 has every key of version 1.
const everything1 = head1 + `archiveSize: 4
storageConfig:
  registry: {imageURL: 'registry.example.com/meta/data', skipTLS: true}
mirror:
  platform:
    graph: true
    architectures: [amd64, s390x]
    channels: [{name: stable-4.14, type: ocp, minVersion: 4.14.1, maxVersion: 4.14.9, shortestPath: true, full: true}]
  operators:
  - catalog: registry.redhat.io/redhat/redhat-operator-index:v4.14
    targetName: mine
    targetTag: v1
    originalRef: a/b:c
    packages:
    - name: foo
      minBundle: foo.v1.0.0
      defaultChannel: stable
      channels: [{name: stable, minBundle: foo.v1.0.1}, {name: fast, minVersion: 1.0.0, maxVersion: 2.0.0}]
  - catalog: registry.redhat.io/redhat/redhat-operator-index@sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
    targetCatalog: my/index
    full: true
    skipDependencies: true
  additionalImages: [{name: quay.io/a/b}, {name: 'localhost:5000/a'}, {name: 'quay.io/a/b:v1'}]
  helm:
    repositories: [{name: r, url: 'https://charts.example.com', charts: [{name: c, version: 1.0.0, imagePaths: ['{.x}']}]}]
    local: [{name: l, path: /tmp/l.tgz}]
  blockedImages: [{name: alpine}]
  samples: [{name: x}]
`

// Spec: oc-mirror 2.4, 9.7.
func TestParse_version1(t *testing.T) {
	c, err := parse("isc.yaml", []byte(everything1), imageSetKind, either)
	if err != nil {
		t.Fatal(err)
	}
	if !c.V1 || c.ArchiveSize != 4 || c.Storage.Registry != (RegistryStorage{"registry.example.com/meta/data:latest", true}) || !c.Storage.IsSet() {
		t.Errorf("read %+v", c)
	}
	m := c.Mirror
	if len(m.Operators) != 2 || len(m.BlockedImages) != 1 || len(m.Helm.Local) != 1 || m.Helm.Repositories[0].Charts[0].Version != "1.0.0" ||
		len(m.Platform.Channels) != 1 || m.Platform.Channels[0].MaxVersion != "4.14.9" {
		t.Fatalf("read %+v", m)
	}
	one, two := m.Operators[0], m.Operators[1]
	if one.TargetCatalog != "redhat/mine" || !one.FollowDependencies || one.Packages[0].MinBundle != "foo.v1.0.0" || one.Packages[0].Channels[0].MinBundle != "foo.v1.0.1" {
		t.Errorf("the first catalog is %+v", one)
	}
	if two.TargetCatalog != "my/index" || two.FollowDependencies || !two.Full {
		t.Errorf("the second catalog is %+v", two)
	}
	var names []string
	for _, i := range m.AdditionalImages {
		names = append(names, i.Name)
	}
	if got := strings.Join(names, " "); got != "quay.io/a/b:latest localhost:5000/a:latest quay.io/a/b:v1" {
		t.Errorf("additional images are %s", got)
	}
	if w := strings.Join(c.Warnings, "\n"); !strings.Contains(w, "line 13: targetName is deprecated: write targetCatalog: redhat/mine") ||
		!strings.Contains(w, "line 15: originalRef") || strings.Contains(w, "apiVersion") || strings.Contains(w, "skipDependencies") {
		t.Errorf("the warnings are %s", w)
	}
	if c.At("mirror.operators[1].targetCatalog") != "isc.yaml:22" {
		t.Errorf("the second targetCatalog is at %s", c.At("mirror.operators[1].targetCatalog"))
	}
}

// Spec: oc-mirror 2.1, 2.4.
func TestParse_version1Refuses(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(head1, "v1alpha2", "v2alpha1", 1) + "mirror: {}\n":                                                                        `isc.yaml:2: config GVK not recognized: apiVersion is "mirror.openshift.io/v2alpha1"`,
		"kind: ImageSetConfiguration\nmirror: {}\n":                                                                                               `isc.yaml:1: config GVK not recognized`,
		head1 + "mirror:\n  platform: {release: 'a/b:c'}\n":                                                                                       "isc.yaml:4: mirror.platform.release: unknown key",
		head1 + "mirror:\n  platform: {kubeVirtContainer: true}\n":                                                                                "kubeVirtContainer: unknown key",
		head1 + "mirror:\n  additionalImages: [{name: 'a/b:c', targetTag: x}]\n":                                                                  "targetTag: unknown key",
		head1 + "mirror:\n  operators: [{catalog: 'a/b:c', platforms: []}]\n":                                                                     "platforms: unknown key",
		head1 + "mirror:\n  operators: [{catalog: 'a/b:c', followDependencies: true}]\n":                                                          "followDependencies: unknown key",
		head1 + "mirror: {}\nstorageConfig: {s3: {}}\n":                                                                                           "isc.yaml:4: storageConfig.s3: unknown key",
		head1 + "mirror: {}\nstorageConfig:\n  local: {}\n":                                                                                       "isc.yaml:5: storageConfig.local.path is empty",
		head1 + "mirror: {}\nstorageConfig: {local: {path: x}, registry: {imageURL: 'a/b:c'}}\n":                                                  "isc.yaml:4: storageConfig has both registry and local",
		head1 + "mirror: {}\nstorageConfig: {registry: {imageURL: 'A//b'}}\n":                                                                     "isc.yaml:4: storageConfig.registry.imageURL: ",
		head1 + "mirror:\n  operators: [{catalog: 'a/b:c', packages: [{name: p, minVersion: 1.0.0, minBundle: b}]}]\n":                            "isc.yaml:4: package p: minimum version and bundle are mutually exclusive",
		head1 + "mirror:\n  operators:\n  - catalog: a/b:c\n    packages:\n    - name: p\n      defaultChannel: d\n      channels: [{name: c}]\n": "isc.yaml:8: package p: the default channel d is not one of its channels",
		head1 + "mirror:\n  operators: [{catalog: 'a.io/b:c', targetName: n}, {catalog: 'a.io/b:c', targetName: n}]\n":                            `catalog "a.io/b:c": duplicate found in configuration`,
	} {
		_, err := parse("isc.yaml", []byte(text), imageSetKind, version1)
		if err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" {
			t.Errorf("error %v, hint %q, want %s, of\n%s", err, hint.Of(err), want, text)
		}
	}
}

// Version 2 reads a file by its keys and not by its apiVersion.
//
// Spec: oc-mirror 2.1.
func TestParse_version2OfAFileOfVersion1(t *testing.T) {
	text := head1 + "mirror:\n  additionalImages: [{name: 'quay.io/a/b:v1', targetTag: x}]\n"
	if c, err := parse("isc.yaml", []byte(text), imageSetKind, version2); err != nil || c.V1 {
		t.Errorf("%+v, %v", c, err)
	}
}

// Spec: oc-mirror 9.4.
func TestOperator_UniqueName(t *testing.T) {
	const d = "sha256:5551000000000000000000000000000000000000000000000000000000000000"
	for want, o := range map[string]Operator{
		"reg:5000/ns/index:v1":       {Catalog: "reg:5000/ns/index:v1"},
		"reg/ns/index:v2":            {Catalog: "docker://reg/ns/index:v2"},
		"reg:5000/a/b:v1":            {Catalog: "reg:5000/ns/index:v1", TargetCatalog: "a/b"},
		"reg:5000/ns/index:x":        {Catalog: "reg:5000/ns/index@" + d, TargetTag: "x"},
		"reg:5000/a/index@" + d:      {Catalog: "reg:5000/ns/index@" + d, TargetCatalog: "a/index"},
		"reg:5000/a/index":           {Catalog: "reg:5000/ns/index", TargetCatalog: "a/index"},
		"reg/ns/index:v1@" + d:       {Catalog: "reg/ns/index:v1@" + d},
		"a/layout":                   {Catalog: "oci://some/dir", TargetCatalog: "a/layout"},
		"/abs/dir":                   {Catalog: "oci:///abs/dir"},
		"a/layout:v4.18":             {Catalog: "oci:///abs/dir", TargetCatalog: "a/layout", TargetTag: "v4.18"},
		"reg:5000/ns/index:x.with.d": {Catalog: "reg:5000/ns/index:v1@" + d, TargetTag: "x.with.d"},
	} {
		if got := o.UniqueName(); got != want {
			t.Errorf("%+v has the name %s, want %s", o, got, want)
		}
	}
}

// Version 1 remembers an image set as JSON, with null for what has no packages.
//
// Spec: oc-mirror 9.4.
func TestParseV1_asItIsRemembered(t *testing.T) {
	c, err := ParseV1("mirror-uid", []byte(`{"apiVersion":"mirror.openshift.io/v1alpha2","kind":"ImageSetConfiguration","mirror":{"platform":{"graph":true,
		"channels":[{"name":"stable-4.18","type":"ocp","minVersion":"4.18.1","maxVersion":"4.18.2"}],"architectures":["amd64"]},
		"operators":[{"packages":null,"catalog":"registry.redhat.io/redhat/redhat-operator-index:v4.18"}],
		"additionalImages":[{"name":"quay.io/a/b:v1"}],"helm":{"repositories":[{"url":"https://charts.example.com","name":"r","charts":null}]}}}`))
	if err != nil || !c.V1 || c.File != "mirror-uid" {
		t.Fatalf("read %+v, %v", c, err)
	}
	if m := c.Mirror; len(m.Operators) != 1 || m.Operators[0].Packages != nil || len(m.Platform.Channels) != 1 || m.Platform.Channels[0].MaxVersion != "4.18.2" || len(m.AdditionalImages) != 1 ||
		len(m.Helm.Repositories) != 1 || m.Helm.Repositories[0].Charts != nil {
		t.Errorf("read %+v", m)
	}
}
