package mirror_test

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
)

func TestParseDestination(t *testing.T) {
	for argument, want := range map[string][2]string{
		"docker://registry.example.com:8443":     {"registry.example.com:8443", ""},
		"docker://registry.example.com:8443/a/b": {"registry.example.com:8443", "a/b"},
		"docker://registry.example.com/a/":       {"registry.example.com", "a"},
		"docker://[::1]:5000/a":                  {"[::1]:5000", "a"},
	} {
		registry, prefix, err := mirror.ParseDestination(argument)
		if err != nil || registry != want[0] || prefix != want[1] {
			t.Errorf("%s: %q, %q, %v", argument, registry, prefix, err)
		}
	}
	for argument, want := range map[string]string{
		"docker://":                             "it names no registry",
		"docker://:8443":                        "it names no registry",
		"docker://registry.example.com/a:v1":    "it has a tag or a digest",
		"docker://registry.example.com/a/../b":  "a/../b",
		"docker://registry.example.com/A":       "lower-case",
		"docker://user:secret@registry.example": "it has a login in it",
		"docker://u:sec/secret@registry.exa/ns": "it has a login in it",
		"docker://u:p@secret@registry.exa:8443": "it has a login in it",
		"docker://bad host/a":                   "bad host",
	} {
		_, _, err := mirror.ParseDestination(argument)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", argument, err)
		}
	}
}
