package state_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/state"
)

const (
	version = `{"kind":"ClusterVersion","apiVersion":"config.openshift.io/v1","metadata":{"name":"version"},"spec":{"clusterID":"c-1","channel":"eus-4.18"},
		"status":{"desired":{"version":"4.16.3","image":"q/r@3","architecture":"Multi"},"history":[{"state":"Partial","version":"4.16.3","image":"q/r@3"},{"state":"Completed","version":"4.16.2","image":"q/r@2"},
		{"state":"Completed","version":"4.16.2","image":"q/r@2"},{"state":"Partial","version":"4.16.2"},{"state":"Completed","version":"4.16.1","image":"q/r@1"},{"state":"Completed","version":"4.16.0","image":"q/r@0"}]}}`
	csv = `{"kind":"ClusterServiceVersion","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"a","name":"op.v1","annotations":{"olm.properties":"[{\"type\":\"olm.maxOpenShiftVersion\",\"value\":\"4.17\"},{\"type\":\"olm.maxOpenShiftVersion\",\"value\":4.9},{\"type\":\"x\",\"value\":{}}]",
		"com.redhat.openshift.versions":"v4.12-v4.17"}},"spec":{"version":"1.0.0","relatedImages":[{"name":"b","image":"q/b@1"},{"image":""}],"install":{"strategy":"deployment","spec":{"deployments":[{"spec":{"template":{"spec":{"initContainers":[{"image":"q/i@1"}],"containers":[{"image":"q/b@1"},{"image":"q/a@1"}]}}}}]}}},"status":{"phase":"Succeeded"}}`
	rest = `{"kind":"Subscription","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"a","name":"s"},"spec":{"name":"op","channel":"stable","source":"cs","sourceNamespace":"m"},"status":{"installedCSV":"op.v1"}},
		{"kind":"CatalogSource","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"m","name":"cs"},"spec":{"image":"r/c:v4.16"}},
		{"kind":"ImageContentSourcePolicy","apiVersion":"operator.openshift.io/v1alpha1","metadata":{"name":"p"},"spec":{"repositoryDigestMirrors":[{"source":"quay.io/a","mirrors":["r/a"]}]}},
		{"kind":"ImageDigestMirrorSet","apiVersion":"config.openshift.io/v1","metadata":{"name":"d"},"spec":{"imageDigestMirrors":[{"source":"quay.io/a","mirrors":["r/a","r/b"],"mirrorSourcePolicy":"NeverContactSource"}]}},
		{"kind":"ImageTagMirrorSet","apiVersion":"config.openshift.io/v1","metadata":{"name":"t"},"spec":{"imageTagMirrors":[{"source":"quay.io/t","mirrors":["r/t"]}]}},
		{"kind":"Subscription","apiVersion":"messaging.knative.dev/v1","metadata":{"namespace":"a","name":"another group"},"spec":{"channel":{"kind":"Channel"}}},
		{"kind":"ClusterServiceVersion","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"b","name":"op.v1","labels":{"olm.copiedFrom":"a"}},"spec":{}},
		{"kind":"ClusterServiceVersion","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"c","name":"op.v1"},"spec":{},"status":{"reason":"Copied"}}`
)

func list(items ...string) string {
	return `{"apiVersion":"v1","items":[` + strings.Join(items, ",") + `],"kind":"List","metadata":{"resourceVersion":""}}`
}

func TestRead(t *testing.T) {
	want := &state.Facts{ID: "c-1", Images: []string{"q/a@1", "q/b@1", "q/i@1"}, Releases: []state.Release{{Version: "4.16.3", Image: "q/r@3"}, {Version: "4.16.2", Image: "q/r@2"}, {Version: "4.16.1", Image: "q/r@1"}},
		Version: "4.16.2", Updating: "4.16.3", Channel: "eus-4.18", Multi: true,
		Digests:       cluster.Sources{{Source: "quay.io/a", Mirrors: []string{"r/a", "r/b"}, NeverContact: true}},
		Tags:          cluster.Sources{{Source: "quay.io/t", Mirrors: []string{"r/t"}}},
		Catalogs:      []state.Catalog{{Namespace: "m", Name: "cs", Image: "r/c:v4.16"}},
		Subscriptions: []state.Subscription{{Namespace: "a", Name: "s", Package: "op", Channel: "stable", Source: "cs", SourceNamespace: "m", Installed: "op.v1"}},
		Operators:     []state.Operator{{Namespace: "a", Name: "op.v1", Version: "1.0.0", Phase: "Succeeded", Max: []string{"4.17", "4.9"}, Versions: "v4.12-v4.17"}}}
	for name, text := range map[string]string{
		"one list": list(version, csv, rest), "several": list(version) + "\n" + list(csv) + list(rest), "objects": version + csv + list(rest),
		"a list of nothing": list(version, csv, rest) + `{"kind":"List","items":null}`, "the cluster again": list(version, csv, rest) + version,
	} {
		got, err := state.Read(strings.NewReader(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestRead_refused(t *testing.T) {
	for text, want := range map[string]string{
		"": "no ClusterVersion", list(csv): "no ClusterVersion", list(version): "no ClusterServiceVersion",
		list(strings.ReplaceAll(version, `"version":"4`, `"v":"4`), csv): "no ClusterVersion",
		version + list(another("c-2"), csv):                              `of cluster "c-2", and the one before of cluster "c-1"`,
		list(version, csv, strings.Replace(version, "eus-", "fast-", 1)): "at another time",
		list(version, csv)[:400]:                                         "unexpected EOF",
		"apiVersion: v1\nitems: []\n":                                    "invalid character",
		"[]":                                                             "not JSON of oc get",
		`{"items":{}}`:                                                   "not a list",
		list(strings.Replace(csv, `"[{`, `"{`, 1)):                       "olm.properties",
		list(strings.Replace(csv, `"1.0.0"`, "1", 1)):                    "a/op.v1",
	} {
		_, err := state.Read(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, and not %s", text, err, want)
		}
	}
}

// another returns the ClusterVersion of a cluster with another id.
func another(id string) string { return strings.Replace(version, "c-1", id, 1) }

// A cluster that is being installed has no version and no operators yet, and needs its release all the same.
func TestRead_installing(t *testing.T) {
	begun := `{"kind":"ClusterVersion","apiVersion":"config.openshift.io/v1","metadata":{"name":"version"},"spec":{"clusterID":"c-1"},"status":{"desired":{"version":"4.16.3","image":"q/r@3"},"history":[]}}`
	for text, releases := range map[string]int{strings.ReplaceAll(version, "Completed", "Partial"): 4, begun: 1, begun + list(csv, rest): 1} {
		f, err := state.Read(strings.NewReader(text))
		if err != nil || f.Version != "" || f.Updating != "4.16.3" || len(f.Releases) != releases {
			t.Errorf("%.200s: %+v, %v", text, f, err)
		}
	}
}

// What a cluster was told to update to is needed although it has not begun: it may be that it cannot verify it yet.
func TestRead_chosen(t *testing.T) {
	status := `"status":{"availableUpdates":[{"version":"4.16.4","image":"q/r@4"}],"conditionalUpdates":[{"release":{"version":"4.16.5","image":"q/r@5"}}],`
	for chosen, want := range map[string]string{
		`{"version":"4.16.4"}`: "{4.16.4 q/r@4}", `{"version":"4.16.5","image":""}`: "{4.16.5 q/r@5}", `{"version":"4.16.6"}`: "{4.16.6 }",
		`{"version":"","image":"q/r@7"}`: "{q/r@7 q/r@7}", `{"version":"4.16.3"}`: "", `{"version":"4.16.3","image":"q/r@3"}`: "", `null`: "",
	} {
		text := strings.Replace(version, `"channel":`, `"desiredUpdate":`+chosen+`,"channel":`, 1)
		f, err := state.Read(strings.NewReader(strings.Replace(text, `"status":{`, status, 1) + csv))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range f.Needs().Releases {
			if r != (state.Release{Version: "4.16.3", Image: "q/r@3"}) && r.Version != "4.16.2" && r.Version != "4.16.1" {
				got += fmt.Sprint(r)
			}
		}
		if got != want {
			t.Errorf("%s: %s, and not %s", chosen, got, want)
		}
	}
}

func TestRead_conditions(t *testing.T) {
	for conditions, want := range map[string][2]string{
		`{"type":"Upgradeable","status":"False","reason":"R","message":"M"},{"type":"Failing","status":"True","reason":"F"}`: {"R: M", "F"},
		`{"type":"Upgradeable","status":"False"},{"type":"Failing","status":"False","reason":"F"}`:                           {"Upgradeable", ""},
		`{"type":"Upgradeable","status":"True"},{"type":"Failing","status":"Unknown"}`:                                       {},
	} {
		f, err := state.Read(strings.NewReader(strings.Replace(version, `"status":{`, `"status":{"conditions":[`+conditions+`],`, 1) + csv))
		if err != nil || f.NotUpgradeable != want[0] || f.Failing != want[1] {
			t.Errorf("%s: %+v, %v", conditions, f, err)
		}
	}
}

// FuzzRead has whatever file there may be. What is read can be read again as the registry gets it.
func FuzzRead(f *testing.F) {
	f.Add(list(version, csv, rest))
	f.Add(version + csv)
	f.Add(version + another("c-2") + csv)
	f.Add(list(version, csv, rest, extensions))
	f.Add(version + csv + `{"kind":"ClusterExtension","apiVersion":"olm.operatorframework.io/v1","spec":{"source":null},"status":{"conditions":[null],"install":{"bundle":null}}}`)
	f.Add(`{"items":[null,{"kind":"ClusterVersion","apiVersion":"config.openshift.io/v1","spec":null,"status":{"history":[{}]}}]}`)
	f.Add(`{"kind":"List","items":null}[`)
	f.Fuzz(func(t *testing.T, text string) {
		facts, err := state.Read(strings.NewReader(text))
		if (err == nil) != (facts != nil) {
			t.Fatalf("%v with %v", facts, err)
		}
		if err != nil {
			return
		}
		if facts.Version == "" && facts.Updating == "" || facts.Version != "" && len(facts.Operators) == 0 {
			t.Errorf("%+v of a cluster that is not known", facts)
		}
		raw, err := json.Marshal(facts)
		var again state.Facts
		if err != nil || json.Unmarshal(raw, &again) != nil {
			t.Errorf("%s, %v", raw, err)
		}
		for _, e := range again.Extensions {
			for _, c := range again.ClusterCatalogs {
				_, _ = e.Selector.Selects(c)
			}
		}
	})
}
