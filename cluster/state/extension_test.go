package state_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster/state"
)

// extensions are the objects of OLM v1, as operator-controller writes them.
const extensions = `{"kind":"ClusterExtension","apiVersion":"olm.operatorframework.io/v1","metadata":{"name":"e"},
	"spec":{"namespace":"n","serviceAccount":{"name":"sa"},"source":{"sourceType":"Catalog","catalog":{"packageName":"op","version":"~1.2","channels":["a","b"],"upgradeConstraintPolicy":"SelfCertified",
	"selector":{"matchLabels":{"l":"v"},"matchExpressions":[{"key":"k","operator":"In","values":["x"]}]}}}},
	"status":{"conditions":[{"type":"Installed","status":"True","reason":"Succeeded"},{"type":"Progressing","status":"True","reason":"Retrying"}],"install":{"bundle":{"name":"op.v1.2.0","version":"1.2.0"}}}},
	{"kind":"ClusterCatalog","apiVersion":"olm.operatorframework.io/v1","metadata":{"name":"c","labels":{"l":"v"}},"spec":{"availabilityMode":"Unavailable","priority":-100,"source":{"type":"Image","image":{"ref":"r/c:v4.18"}}},
	"status":{"resolvedSource":{"type":"Image","image":{"ref":"r/c@sha256:1"}}}},
	{"kind":"ClusterExtension","apiVersion":"olm.operatorframework.io/v1","metadata":{"name":"new"},"spec":{"source":{"catalog":{"packageName":"op"}}},"status":{"conditions":[{"type":"Installed","status":"False","reason":"Failed"}]}}`

func TestRead_extensions(t *testing.T) {
	f, err := state.Read(strings.NewReader(list(version, csv, extensions)))
	if err != nil {
		t.Fatal(err)
	}
	want := []state.Extension{{Name: "e", Package: "op", Channels: []string{"a", "b"}, Range: "~1.2", Policy: state.SelfCertified, Bundle: "op.v1.2.0", Version: "1.2.0", Trouble: "Retrying",
		Selector: state.Selector{Labels: map[string]string{"l": "v"}, Expressions: []state.Expression{{Key: "k", Operator: "In", Values: []string{"x"}}}}},
		{Name: "new", Package: "op", Trouble: "Failed"}}
	if !reflect.DeepEqual(f.Extensions, want) {
		t.Errorf("%+v", f.Extensions)
	}
	catalogs := []state.ClusterCatalog{{Name: "c", Image: "r/c:v4.18", Resolved: "r/c@sha256:1", Priority: -100, Unavailable: true, Labels: map[string]string{"l": "v"}}}
	if !reflect.DeepEqual(f.ClusterCatalogs, catalogs) {
		t.Errorf("%+v", f.ClusterCatalogs)
	}
	capable := strings.Replace(version, `"desired":{`, `"capabilities":{"enabledCapabilities":["OperatorLifecycleManagerV1"]},"desired":{`, 1)
	for text, want := range map[string]bool{list(capable, csv): true, list(capable, csv, extensions): false, list(version, csv): false, list(csv, extensions) + capable: false} {
		if f, err := state.Read(strings.NewReader(text)); err != nil || f.NoExtensions != want || f.Needs().NoExtensions != want {
			t.Errorf("%.120s: %+v, %v", text, f, err)
		}
	}
}

func TestSelector_Selects(t *testing.T) {
	c := state.ClusterCatalog{Labels: map[string]string{"l": "v"}}
	one := func(key, operator string, values ...string) state.Selector {
		return state.Selector{Expressions: []state.Expression{{Key: key, Operator: operator, Values: values}}}
	}
	for _, tc := range []struct {
		s    state.Selector
		want bool
	}{{state.Selector{}, true}, {state.Selector{Labels: map[string]string{"l": "v"}}, true}, {state.Selector{Labels: map[string]string{"l": "w"}}, false}, {state.Selector{Labels: map[string]string{"m": ""}}, false},
		{one("l", "In", "u", "v"), true}, {one("l", "In", "u"), false}, {one("m", "In", ""), false}, {one("l", "NotIn", "v"), false}, {one("l", "NotIn", "u"), true}, {one("m", "NotIn", "u"), true},
		{one("l", "Exists"), true}, {one("m", "Exists"), false}, {one("l", "DoesNotExist"), false}, {one("m", "DoesNotExist"), true}} {
		if got, err := tc.s.Selects(c); got != tc.want || err != nil {
			t.Errorf("%+v: %v, %v", tc.s, got, err)
		}
	}
	if got, err := one("l", "Gt", "1").Selects(c); got || err == nil {
		t.Errorf("an operator that is not known: %v, %v", got, err)
	}
}
