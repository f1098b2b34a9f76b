package ready_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/ready"
	"github.com/mirror-appliance/appliance/registry/stored"
)

const (
	index    = "redhat/redhat-operator-index"
	database = "sample-database/catalog.json"
)

// property gives each bundle of the database, or that of a version, a property.
func property(version, text string) func(string) string {
	return func(all string) string {
		if version != "" {
			return strings.ReplaceAll(all, `"version":"`+version+`"}}`, `"version":"`+version+`"}},`+text)
		}
		for _, v := range []string{"1.0.0", "1.1.0", "1.2.0", "2.0.0"} {
			all = property(v, text)(all)
		}
		return all
	}
}

func maxOpenShift(version, most string) func(string) string {
	return property(version, `{"type":"olm.maxOpenShiftVersion","value":"`+most+`"}`)
}

// TestJudge_operators has one thing that keeps an operator from an upgrade from 4.16 to 4.18 at a time.
func TestJudge_operators(t *testing.T) {
	const now = registry + "/" + index + ":v4.16"
	both := []string{"v4.16", "v4.18"}
	for name, tc := range map[string]struct {
		operator installed
		catalogs func(text string) string // of the cluster, and of the release that it is upgraded to
		break_   func(f *fixture, c *state.Facts)
		answer   string
		code     string
		text     string
		cured    bool
	}{
		"nothing":                        {answer: api.ReadyYes},
		"nothing, the newest":            {operator: installed{"1.2.0", "stable", now}, answer: api.ReadyYes},
		"nothing, the default channel":   {operator: installed{"1.2.0", "", now}, answer: api.ReadyYes},
		"nothing, for 4.18 just so":      {catalogs: maxOpenShift("", "4.18"), answer: api.ReadyYes},
		"nothing, by a range":            {catalogs: property("", `{"type":"olm.csv.metadata","value":{"annotations":{"com.redhat.openshift.versions":"v4.14-v4.18"}}}`), answer: api.ReadyYes},
		"a bundle that is for 4.16":      {catalogs: maxOpenShift("1.0.0", "4.16"), answer: api.ReadyRisks, code: "operator-update", text: "sample-database.v1.2.0, which channel stable leads to, does"},
		"a CSV that is for 4.16":         {break_: func(_ *fixture, c *state.Facts) { c.Operators[1].Max = []string{"4.16"} }, answer: api.ReadyRisks, code: "operator-update", text: "it is not for OpenShift 4.17"},
		"all bundles are for 4.16":       {catalogs: maxOpenShift("", "4.16"), answer: api.ReadyNo, code: "operator-stuck", text: "OpenShift 4.17", cured: true},
		"all bundles are for 4.17":       {catalogs: maxOpenShift("", "4.17.0"), answer: api.ReadyNo, code: "operator-stuck", text: "OpenShift 4.18", cured: true},
		"a maximum that is no version":   {catalogs: maxOpenShift("", "many"), answer: api.ReadyNo, code: "operator-stuck", text: "is no version of OpenShift", cured: true},
		"two maxima":                     {catalogs: property("", `{"type":"olm.maxOpenShiftVersion","value":"4.20"},{"type":"olm.maxOpenShiftVersion","value":"4.19"}`), answer: api.ReadyNo, code: "operator-stuck", text: "2 properties", cured: true},
		"a range that ends before 4.18":  {catalogs: property("", `{"type":"olm.csv.metadata","value":{"annotations":{"com.redhat.openshift.versions":"v4.14-v4.17"}}}`), answer: api.ReadyNo, code: "operator-stuck", text: "OpenShift 4.18", cured: true},
		"a bundle that is in no catalog": {operator: installed{"0.9.0", "stable", now}, answer: api.ReadyNo, code: "operator-stuck", text: "it is in no catalog here", cured: true},
		"a channel that is not there":    {operator: installed{"1.0.0", "beta", now}, answer: api.ReadyNo, code: "channel-absent", text: "channel beta", cured: true},
		"an image of all bundles": {break_: func(f *fixture, _ *state.Facts) { f.deleteTagged("operators/database", "v1") },
			answer: api.ReadyNo, code: "operator-stuck", text: "is not here", cured: true},
		"an image of the newest bundle": {operator: installed{"1.2.0", "stable", now}, break_: func(f *fixture, _ *state.Facts) { f.deleteTagged("operators/sample-database-operator", "v1.2.0") },
			answer: api.ReadyNo, code: "operator-stuck", text: "sample-database-operator", cured: true},
		"an image of the installed bundle": {break_: func(f *fixture, _ *state.Facts) { f.deleteTagged("operators/sample-database-operator", "v1.0.0") },
			answer: api.ReadyRisks, code: "operator-update", text: "sample-database-operator"},
		"the catalog of the release": {break_: func(f *fixture, _ *state.Facts) { f.must(f.Tags.Delete(f.Context(), index, "v4.18")) },
			answer: api.ReadyNo, code: "catalog-absent", text: "operator sample-database needs"},
		"the catalog of the cluster": {break_: func(f *fixture, _ *state.Facts) { f.must(f.Tags.Delete(f.Context(), index, "v4.16")) },
			answer: api.ReadyNo, code: "catalog-absent", text: "operator sample-database needs", cured: true},
		"a layer of the catalog": {break_: func(f *fixture, _ *state.Facts) {
			m, err := f.Manifests.ByTag(f.Context(), index, "v4.16")
			f.must(err)
			all := f.parts(index, m.Digest)
			f.lose(index, m.Digest, len(all)-1)
		}, answer: api.ReadyNo, code: "catalog-unread", text: "not whole here", cured: true},
		"the operator in the catalogs": {operator: installed{"5.8.0", "stable-5.8", now}, break_: func(_ *fixture, c *state.Facts) { c.Subscriptions[0].Package = "sample-retired" },
			answer: api.ReadyNo, code: "operator-absent", text: "sample-retired", cured: true},
		"the catalog is another registry's": {operator: installed{"1.0.0", "stable", "quay.io/other/catalog:v1"}, answer: api.ReadyNo, code: "catalog-elsewhere", text: "not one of this registry"},
		"the CatalogSource":                 {break_: func(_ *fixture, c *state.Facts) { c.Catalogs = nil }, answer: api.ReadyNo, code: "catalog-unknown", text: "not in the export"},
		"what is installed":                 {break_: func(_ *fixture, c *state.Facts) { c.Subscriptions[0].Installed, c.Operators = "", c.Operators[:1] }, answer: api.ReadyNo, code: "operator-pending", text: "installed no bundle"},
		"the Subscription":                  {break_: func(_ *fixture, c *state.Facts) { c.Subscriptions = nil }, answer: api.ReadyNo, code: "operator-unsubscribed", text: "no Subscription"},
		"an update under way":               {break_: func(_ *fixture, c *state.Facts) { c.Updating = "4.16.3" }, answer: api.ReadyNo, code: "cluster-updating", text: "under way"},
		"a CSV that has succeeded":          {break_: func(_ *fixture, c *state.Facts) { c.Operators[1].Phase = "Failed" }, answer: api.ReadyRisks, code: "operator-unwell", text: "Failed"},
		"what is not deprecated": {catalogs: func(all string) string {
			return all + `{"schema":"olm.deprecations","package":"sample-database","entries":[{"reference":{"schema":"olm.channel","name":"stable"},"message":"use fast"},{"reference":{"schema":"olm.channel","name":"fast"},"message":"use slow"}]}`
		}, answer: api.ReadyRisks, code: "operator-deprecated", text: "channel stable: use fast"},
		"the mirror of components in the cluster": {break_: func(_ *fixture, c *state.Facts) {
			c.Digests = without(c.Digests, "openshift-release-dev/ocp-v4.0-art-dev")
		},
			answer: api.ReadyNo, code: "unmapped", text: "the mirror sets"},
		"the mirror of operators in the cluster": {operator: installed{"1.2.0", "stable", now}, break_: func(_ *fixture, c *state.Facts) { c.Digests = without(c.Digests, "/operators") },
			answer: api.ReadyNo, code: "unmapped", text: "image of operator sample-database"},
		"an image whose name can be read": {break_: func(_ *fixture, c *state.Facts) { c.Images = append(c.Images, "not an image!!", "quay.io/x/y") },
			answer: api.ReadyNo, code: "image-unread", text: "cannot be read"},
		"nothing, that is in the second mirror": {operator: installed{"1.2.0", "stable", now}, break_: func(_ *fixture, c *state.Facts) {
			c.Digests, c.Tags = before(c.Digests, "/operators", "none"), before(c.Tags, "/redhat", "none")
		}, answer: api.ReadyYes},
		"nothing, of a catalog in the second mirror": {operator: installed{"1.2.0", "stable", "registry.redhat.io/" + index + ":v4.16"}, break_: func(_ *fixture, c *state.Facts) {
			c.Tags = cluster.Sources{{Source: "registry.redhat.io/" + index, Mirrors: []string{registry + "/none", registry + "/" + index}}}
		}, answer: api.ReadyYes},
		"an image in both mirrors": {operator: installed{"1.0.0", "stable", now}, break_: func(f *fixture, c *state.Facts) {
			c.Digests = before(c.Digests, "/operators", "first")
			for n := range c.Digests {
				if strings.HasSuffix(c.Digests[n].Source, "/operators") {
					c.Digests[n].Mirrors[1] = registry + "/second"
				}
			}
		}, answer: api.ReadyNo, code: "image-absent", text: registry + "/first/", cured: true},
		"the operators": {break_: func(_ *fixture, c *state.Facts) { *c = state.Facts{} }, answer: api.ReadyRisks, code: "operators-unknown", text: "not looked at"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for _, tag := range both {
				f.catalog(tag, tc.catalogs)
			}
			if tc.operator.version == "" {
				tc.operator = installed{"1.0.0", "stable", now}
			}
			c := f.cluster("", tc.operator)
			if tc.break_ != nil {
				tc.break_(f, c)
			}
			q := api.ReadyRequest{To: "4.18.2-x86_64", Cluster: c}
			if c.Version == "" {
				q.Cluster, q.From = nil, "4.16.2"
			}
			v := f.judge(q)
			f.answers(v, tc.answer, tc.code, tc.text)
			if text, err := ready.ImageSet(v); tc.cured != (err == nil && strings.Contains(string(text), "catalog: registry.redhat.io/"+index+":v4.1")) && tc.code != "catalog-absent" {
				t.Errorf("it is cured by %v\n%s", err, text)
			}
			if left, _ := os.ReadDir(filepath.Join(f.dir, "read", "work")); len(left) > 0 {
				t.Errorf("%s is left", left[0].Name())
			}
		})
	}
}

// answers checks that a verdict has one reason or risk; of images that are not mapped, and of channels, there may be several.
func (f *fixture) answers(v api.Verdict, answer, code, text string) {
	f.Helper()
	all := slices.Concat(v.Reasons, v.Risks)
	if (code == "unmapped" || code == "channel-absent" || code == "image-absent") && len(all) > 1 {
		all = slices.CompactFunc(all, func(a, b api.Reason) bool { return a.Code == b.Code })
	}
	if code == "" {
		if v.Answer != answer || len(all) > 0 {
			f.Errorf("%s:\n%s", v.Answer, codes(v))
		}
		return
	}
	if v.Answer != answer || len(all) != 1 || all[0].Code != code || !strings.Contains(all[0].Text+all[0].Where, text) || all[0].Hint == "" {
		f.Fatalf("%s, and not %s %s:\n%s", v.Answer, code, text, codes(v))
	}
}

// before returns sources with another mirror before those of the ones whose names end so.
func before(all cluster.Sources, end, repository string) cluster.Sources {
	all = slices.Clone(all)
	for n, s := range all {
		if strings.HasSuffix(s.Source, end) {
			all[n].Mirrors = append([]string{registry + "/" + repository}, s.Mirrors...)
		}
	}
	return all
}

// without returns sources without those whose names end so.
func without(all cluster.Sources, end string) cluster.Sources {
	return slices.DeleteFunc(slices.Clone(all), func(s cluster.Source) bool { return strings.HasSuffix(s.Source, end) })
}

// deleteTagged deletes what has a tag at the source.
func (f *fixture) deleteTagged(repository, tag string) {
	f.Helper()
	m, ok := f.sample.Manifest(repository, tag)
	if !ok {
		f.Fatalf("there is no %s:%s", repository, tag)
	}
	f.must(f.Manifests.Delete(f.Context(), repository, m.Digest))
}

// catalog has a tag name the mirrored catalog with another file of the database.
func (f *fixture) catalog(tag string, change func(string) string) {
	f.Helper()
	repo := stored.Repository{Store: f.Store, Name: index}
	_, files, err := catalog.Load(f.Context(), repo, "v4.18", f.TempDir())
	f.must(err)
	text, err := fs.ReadFile(files, database)
	f.must(err)
	if change != nil {
		changed := []byte(change(string(text)))
		if bytes.Equal(changed, text) {
			f.Fatalf("the catalog does not change:\n%s", text)
		}
		text = changed
	}
	list, err := f.Manifests.ByTag(f.Context(), index, "v4.18")
	f.must(err)
	image := list.Digest
	if parts := f.parts(index, image); list.MediaType != ocispec.MediaTypeImageManifest && strings.Contains(list.MediaType, "list") || strings.Contains(list.MediaType, "index") {
		image = parts[0]
	}
	from, err := f.Manifests.Get(f.Context(), index, image)
	f.must(err)
	var body map[string]any
	f.must(json.Unmarshal(from.Body, &body))
	layer := f.layer(map[string][]byte{"configs/" + database: text})
	body["layers"] = append(body["layers"].([]any), map[string]any{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": digest.FromBytes(layer), "size": len(layer)})
	manifest := f.json(body)
	r, err := f.Runs.Begin(f.Context(), "catalog")
	f.must(err)
	f.must(r.PutBlob(f.Context(), index, ocispec.Descriptor{Digest: digest.FromBytes(layer), Size: int64(len(layer))}, bytes.NewReader(layer)))
	_, _, _, err = r.Existing(f.Context(), map[string][]digest.Digest{index: f.parts(index, from.Digest)}, nil)
	f.must(err)
	d := digest.FromBytes(manifest)
	f.must(r.PutManifest(f.Context(), index, ocispec.Descriptor{MediaType: from.MediaType, Digest: d, Size: int64(len(manifest))}, manifest))
	f.must(r.Tag(f.Context(), map[string]map[string]digest.Digest{index: {tag: d}}))
	origin := "registry.redhat.io/" + index + ":" + tag
	f.must(r.Origins(f.Context(), map[string]map[string]map[string]json.RawMessage{index: {tag: {origin: f.json(map[string]any{
		"type": "operatorCatalog", "origin": origin, "digest": d})}}}))
	f.must(r.Commit(f.Context()))
}
