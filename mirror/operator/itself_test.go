package operator_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// An entry that skips itself is taken by OLM below the head of a channel, and not as all of it.
func TestSelect_entryThatSkipsItself(t *testing.T) {
	const text = `{"schema":"olm.package","name":"p","defaultChannel":"c"}
{"schema":"olm.channel","package":"p","name":"c","entries":[{"name":"p.v1.1.0","replaces":"p.v1.0.0"},{"name":"p.v1.0.0","skips":["p.v1.0.0"]}]}
{"schema":"olm.bundle","package":"p","name":"p.v1.0.0","image":"example.com/p:1","properties":[{"type":"olm.package","value":{"packageName":"p","version":"1.0.0"}}]}
{"schema":"olm.bundle","package":"p","name":"p.v1.1.0","image":"example.com/p:2","properties":[{"type":"olm.package","value":{"packageName":"p","version":"1.1.0"}}]}
`
	x := scan(t, fstest.MapFS{"catalog.json": {Data: []byte(text)}})
	for version, want := range map[string]string{"1.1.0": "", "1.0.0": `package "p": version 1.0.0 alone leaves a channel without a head: invalid channel entry "p.v1.0.0": skips itself`} {
		_, err := x.Select(imageset.Operator{Packages: []imageset.Package{{Name: "p", MinVersion: version, MaxVersion: version}}}, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("of version %s: %v", version, err)
		}
	}
}
