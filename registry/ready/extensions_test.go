package ready_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// extension returns the objects of OLM v1 that have the database installed from one catalog.
func extension(version, catalog string) string {
	return fmt.Sprintf(`{"apiVersion":"olm.operatorframework.io/v1","kind":"ClusterCatalog","metadata":{"name":"ours","labels":{"olm.operatorframework.io/metadata.name":"ours"}},
		"spec":{"priority":1,"source":{"type":"Image","image":{"ref":%q}}}},
		{"apiVersion":"olm.operatorframework.io/v1","kind":"ClusterExtension","metadata":{"name":"db"},"spec":{"namespace":"db","source":{"sourceType":"Catalog","catalog":{"packageName":"sample-database","channels":["stable"]}}},
		"status":{"conditions":[{"type":"Installed","status":"True","reason":"Succeeded"},{"type":"Progressing","status":"True","reason":"Succeeded"}],"install":{"bundle":{"name":"sample-database.v%s","version":%q}}}}`, catalog, version, version)
}

// TestJudge_extensions has one thing that keeps an operator of OLM v1 from an upgrade from 4.16 to 4.18 at a time.
func TestJudge_extensions(t *testing.T) {
	const now = registry + "/" + index + ":v4.16"
	old := maxOpenShift("1.0.0", "4.16")
	for name, tc := range map[string]struct {
		catalogs func(text string) string
		break_   func(e *state.Extension, c *state.Facts)
		answer   string
		code     string
		text     string
	}{
		"nothing":                   {answer: api.ReadyYes},
		"nothing, all channels":     {break_: func(e *state.Extension, _ *state.Facts) { e.Channels = nil }, answer: api.ReadyYes},
		"nothing, its version":      {break_: func(e *state.Extension, _ *state.Facts) { e.Range = "1.0.0" }, answer: api.ReadyYes},
		"a bundle that is for 4.16": {catalogs: old, answer: api.ReadyRisks, code: "operator-update", text: "which channel stable leads to, does"},
		"the same, by all channels": {catalogs: old, break_: func(e *state.Extension, _ *state.Facts) { e.Channels = nil }, answer: api.ReadyRisks, code: "operator-update", text: "which one of its channels leads to, does"},
		"the same, by a range":      {catalogs: old, break_: func(e *state.Extension, _ *state.Facts) { e.Range = ">=1.0.0, <1.2.0" }, answer: api.ReadyRisks, code: "operator-update", text: "sample-database.v1.1.0, which"},
		"a range without updates":   {catalogs: old, break_: func(e *state.Extension, _ *state.Facts) { e.Range = "~1.0" }, answer: api.ReadyNo, code: "operator-stuck", text: "not for OpenShift 4.17"},
		"a channel without updates": {catalogs: old, break_: func(e *state.Extension, _ *state.Facts) {
			e.Bundle, e.Version, e.Range = "sample-database.v1.0.0", "1.0.0", "2.x"
		}, answer: api.ReadyNo, code: "operator-stuck", text: "channel stable"},
		"the policy, but its risk": {catalogs: old, break_: func(e *state.Extension, _ *state.Facts) { e.Policy, e.Range = state.SelfCertified, "1.2.0" }, answer: api.ReadyRisks, code: "operator-update", text: "sample-database.v1.2.0, which"},
		"a policy that is known":   {break_: func(e *state.Extension, _ *state.Facts) { e.Policy = "Sometimes" }, answer: api.ReadyNo, code: "extension-unread", text: `upgradeConstraintPolicy is "Sometimes"`},
		"a range that can be read": {break_: func(e *state.Extension, _ *state.Facts) { e.Range = "newest" }, answer: api.ReadyNo, code: "extension-unread", text: `range of versions is "newest"`},
		"a selector that can be read": {break_: func(e *state.Extension, _ *state.Facts) {
			e.Selector.Expressions = []state.Expression{{Key: "a", Operator: "Near"}}
		}, answer: api.ReadyNo, code: "extension-unread", text: `operator "Near"`},
		"a catalog that is selected": {break_: func(e *state.Extension, _ *state.Facts) { e.Selector.Labels = map[string]string{"a": "b"} }, answer: api.ReadyNo, code: "operator-absent", text: "no ClusterCatalog that is available"},
		"an available catalog":       {break_: func(_ *state.Extension, c *state.Facts) { c.ClusterCatalogs[0].Unavailable = true }, answer: api.ReadyNo, code: "operator-absent", text: "no ClusterCatalog that is available"},
		"a catalog that is here": {break_: func(_ *state.Extension, c *state.Facts) {
			c.ClusterCatalogs[0].Image = registry + "/" + index + ":v4.10"
		}, answer: api.ReadyNo, code: "catalog-absent", text: "operator sample-database needs"},
		"a catalog of this registry": {break_: func(_ *state.Extension, c *state.Facts) { c.ClusterCatalogs[0].Image = "quay.io/none:v4.16" }, answer: api.ReadyNo, code: "catalog-elsewhere", text: "ClusterCatalog ours"},
		"one catalog": {break_: func(_ *state.Extension, c *state.Facts) {
			c.ClusterCatalogs = append(c.ClusterCatalogs, c.ClusterCatalogs[0])
			c.ClusterCatalogs[1].Name = "theirs"
		}, answer: api.ReadyRisks, code: "catalog-ambiguous", text: "ours and theirs"},
		"nothing, of three catalogs": {break_: func(_ *state.Extension, c *state.Facts) {
			c.ClusterCatalogs = append(c.ClusterCatalogs, c.ClusterCatalogs[0], c.ClusterCatalogs[0])
			c.ClusterCatalogs[1].Priority, c.ClusterCatalogs[2].Priority = -1, -1
		}, answer: api.ReadyYes},
		"nothing, beside one that is not selected": {break_: func(e *state.Extension, c *state.Facts) {
			c.ClusterCatalogs = append(c.ClusterCatalogs, state.ClusterCatalog{Name: "theirs", Image: "quay.io/none:v4.16"})
			e.Selector.Expressions = []state.Expression{{Key: "olm.operatorframework.io/metadata.name", Operator: "In", Values: []string{"ours"}}}
		}, answer: api.ReadyYes},
		"a bundle":               {break_: func(e *state.Extension, _ *state.Facts) { e.Bundle = "" }, answer: api.ReadyNo, code: "operator-pending", text: "installed no bundle"},
		"a source that is known": {break_: func(e *state.Extension, _ *state.Facts) { e.Package = "" }, answer: api.ReadyNo, code: "operator-pending", text: "no package"},
		"a bundle that is well":  {break_: func(e *state.Extension, _ *state.Facts) { e.Trouble = "Retrying" }, answer: api.ReadyRisks, code: "operator-unwell", text: "Retrying"},
		"an export with it":      {break_: func(_ *state.Extension, c *state.Facts) { c.Extensions, c.NoExtensions = nil, true }, answer: api.ReadyNo, code: "extensions-unknown", text: "has nothing of its operators"},
		"updates without dependencies": {catalogs: func(all string) string {
			for _, v := range []string{"1.1.0", "1.2.0", "2.0.0"} {
				all = property(v, `{"type":"olm.gvk.required","value":{"group":"a","kind":"B","version":"v1"}}`)(all)
			}
			return old(all)
		}, answer: api.ReadyNo, code: "operator-stuck", text: "dependency (olm.gvk.required), and OLM v1 installs none"},
		"what is not deprecated": {catalogs: func(all string) string {
			return all + `{"schema":"olm.deprecations","package":"sample-database","entries":[{"reference":{"schema":"olm.channel","name":"stable"},"message":"use fast"},{"reference":{"schema":"olm.channel","name":"fast"},"message":"use slow"}]}`
		}, answer: api.ReadyRisks, code: "operator-deprecated", text: "channel stable: use fast"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for _, tag := range []string{"v4.16", "v4.18"} {
				f.catalog(tag, tc.catalogs)
			}
			c := f.cluster(extension("1.0.0", now))
			c.ClusterCatalogs = c.ClusterCatalogs[:1] // without those that the registry serves
			if tc.break_ != nil {
				tc.break_(&c.Extensions[0], c)
			}
			v := f.judge(api.ReadyRequest{To: "4.18.2-x86_64", Cluster: c})
			f.answers(v, tc.answer, tc.code, tc.text)
			for _, r := range append(v.Reasons, v.Risks...) {
				if strings.Contains(r.Text+r.Hint, "Subscription") || strings.Contains(r.Hint, "installplan") {
					t.Errorf("there is no Subscription: %s; %s", r.Text, r.Hint)
				}
			}
		})
	}
}

// The catalogs of two versions have one priority, as the registry serves them: an operator that would have to be updated
// stays as it is.
func TestJudge_extensionsOfServedCatalogs(t *testing.T) {
	f := newFixture(t)
	for _, tag := range []string{"v4.16", "v4.18"} {
		f.catalog(tag, maxOpenShift("1.0.0", "4.16"))
	}
	c := f.cluster(extension("1.0.0", registry+"/"+index+":v4.16"))
	c.ClusterCatalogs = c.ClusterCatalogs[1:]
	v := f.judge(api.ReadyRequest{To: "4.18.2-x86_64", Cluster: c})
	if text := codes(v); v.Answer != api.ReadyNo || len(v.Reasons) != 1 || !strings.HasPrefix(text, "operator-stuck clusterextension/sample-database") ||
		!strings.Contains(text, "catalog-ambiguous") || !strings.Contains(text, "cc-redhat-operator-index-v4-16") {
		t.Errorf("%s:\n%s", v.Answer, text)
	}
}
