package s3url

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"s3://images?endpoint=https://s3.example.com":             "s3://images at https://s3.example.com",
		"s3://images/?endpoint=https://s3.example.com/":           "s3://images at https://s3.example.com",
		"s3://images/a/b/?endpoint=http://[::1]:9000&region=eu-1": "s3://images/a/b at http://[::1]:9000",
		"s3://images":                                             "endpoint=https://HOST:PORT is missing",
		"s3://images?endpoint=s3.example.com":                     "not of the form",
		"s3://images?endpoint=ftp://s3.example.com":               "not of the form",
		"s3://images?endpoint=https://s3.example.com/path":        "not of the form",
		"s3://images?endpoint=https://user:secret@s3.example.com": "not of the form",
		"s3://images?endpoint=https://a&endpoint=https://b":       `"endpoint" needs one value`,
		"s3://images?endpoint=https://a&region=":                  `"region" needs one value`,
		"s3://images?endpoint=https://a&region=A B":               "not the name of a region",
		"s3://images?endpoint=https://a&secret=x":                 `"secret" is not a parameter`,
		"s3://user:secret@images?endpoint=https://a":              "has credentials",
		"s3://Images?endpoint=https://a":                          "not the name of a bucket",
		"s3://?endpoint=https://a":                                "not the name of a bucket",
		"s3://images/a/../b?endpoint=https://a":                   "not a prefix",
		"s3://images/a b?endpoint=https://a":                      "not a prefix",
		"s3://images#x?endpoint=https://a":                        "no meaning here",
		"/srv/storage":                                            "not an address",
		"s3://%zz":                                                "not an address",
	} {
		a, err := Parse(text)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = a.String()
		}
		if !strings.Contains(got, want) || strings.Contains(got, "secret@") {
			t.Errorf("%s gives %q, want %q", text, got, want)
		}
	}
	if a, err := Parse("s3://images/a?endpoint=https://s3.example.com&region=eu-1"); err != nil || a.Region != "eu-1" || a.Bucket != "images" || a.Prefix != "a" {
		t.Errorf("got %+v, %v", a, err)
	}
	if !Is("s3://x") || Is("/srv/s3://") {
		t.Error("a path is taken for an address")
	}
}

func TestAddress_Shares(t *testing.T) {
	for _, tc := range []struct {
		endpoint, host string
		want           bool
	}{
		{"https://s3.example.com", "registry.example.com:8443", false},
		{"https://s3.example.com:9000", "s3.example.com:8443", true},
		{"https://s3.example.com.", "S3.example.com", true},
		{"https://s3.registry.example.com", "registry.example.com:8443", true},
		{"https://s3registry.example.com", "registry.example.com", false},
		{"https://example.com", "registry.example.com", false},
		{"https://192.0.2.1:9000", "192.0.2.1:8443", true},
		{"https://[2001:db8::1]:9000", "[2001:db8::1]", true},
		{"https://[2001:db8::1]:9000", "[2001:db8::2]:8443", false},
	} {
		a, err := Parse("s3://images?endpoint=" + tc.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Shares(tc.host); got != tc.want {
			t.Errorf("%s shares logins of %s: %t", tc.endpoint, tc.host, got)
		}
	}
}
