package plain

import "testing"

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"https://host:5000/path":                 "https://host:5000/path",
		"https://me:s3cret@host/path":            "https://me:xxxxx@host/path",
		"https://host/path?token=s3cret&a=b#s3c": "https://host/path?…",
		"https://me:s3%zzcret@host/path?s3cret":  "host/path",
		"oci://me:s3cret@host":                   "oci://me:xxxxx@host",
		"":                                       "",
	} {
		if got := Address(text); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}
