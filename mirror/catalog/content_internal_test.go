package catalog

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// A pre-release that the head skips is in no range of releases.
func TestAsk_unasked(t *testing.T) {
	text := `{"schema":"olm.package","name":"db","defaultChannel":"stable"}
{"schema":"olm.channel","package":"db","name":"stable","entries":[{"name":"db.1"},{"name":"db.2-rc","replaces":"db.1"},{"name":"db.2","replaces":"db.1","skips":["db.2-rc"]}]}
`
	for name, version := range map[string]string{"db.1": "1.0.0", "db.2-rc": "2.0.0-rc.1", "db.2": "2.0.0"} {
		text += fmt.Sprintf(`{"schema":"olm.bundle","package":"db","name":%q,"image":"quay.io/db/%s:v1","properties":[{"type":"olm.package","value":{"packageName":"db","version":%q}}]}`+"\n", name, strings.ToLower(name), version)
	}
	index, err := operator.Scan(t.Context(), fstest.MapFS{"db/catalog.json": {Data: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := index.Select(imageset.Operator{Full: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	packages := Packages(whole)
	want := []Package{{Name: "db", DefaultChannel: "stable", Channels: []Channel{{"stable", "db.2", []string{"1.0.0", "2.0.0-rc.1", "2.0.0"}}}}}
	if !reflect.DeepEqual(packages, want) {
		t.Errorf("the packages are %+v", packages)
	}
	if got := unasked(index, whole, Ask(packages)); !reflect.DeepEqual(got, []string{"bundle db.2-rc in channel stable of package db"}) {
		t.Errorf("not asked for are %q", got)
	}
}
