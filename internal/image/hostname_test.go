package image_test

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/image"
)

func TestCheckHostname(t *testing.T) {
	for _, name := range []string{"a", "localhost", "registry.example.com", "Registry.Example.COM", "1and1.com", "a-b.c--d", "7.a", strings.Repeat("a", 63) + ".b", strings.Repeat("a.", 126) + "b"} {
		if err := image.CheckHostname(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, why := range map[string]string{
		"":                               "letters, digits",
		"a..b":                           "letters, digits",
		"a.":                             "letters, digits",
		".a":                             "letters, digits",
		"-a":                             "letters, digits",
		"a-.b":                           "letters, digits",
		"a_b":                            "letters, digits",
		"a b":                            "letters, digits",
		"a/b":                            "letters, digits",
		"a:8443":                         "letters, digits",
		"ä.example":                      "letters, digits",
		strings.Repeat("a", 64):          "at most 63",
		strings.Repeat("a.", 126) + "ab": "at most 253",
		"192.0.2.1":                      "IP address",
		"2001:db8::1":                    "IP address",
		"[::1]":                          "IP address",
		"foo.123":                        "last part is a number",
		"1.2.3.4.5":                      "last part is a number",
		"300.300.300.300":                "last part is a number",
	} {
		if err := image.CheckHostname(name); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %v, want %q", name, err, why)
		}
	}
}
