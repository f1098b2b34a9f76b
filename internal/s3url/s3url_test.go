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
