package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// Spec: oc-mirror 1.3.
func TestCredentials(t *testing.T) {
	t.Setenv("REGISTRY_AUTH_FILE", "")
	file := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"a.io":{"username":"file","password":"p"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ flags, want string }{
		{"", "file p "},
		{"--src-creds ann:a:b", "ann a:b "},
		{"--screds ann:", "ann  "},
		{"--src-username ann --src-password x", "ann x "},
		{"--src-registry-token t0", "  t0"},
		{"--src-no-creds", "  "},
		{"--src-authfile " + file, "file p "},
		{"--src-creds ann", "error --src-creds is not of the form user:password"},
		{"--src-password x", "error --src-password needs --src-username"},
		{"--src-creds a:b --src-no-creds", "error --src-creds, --src-username"},
	} {
		t.Run(tc.flags, func(t *testing.T) {
			var c credentials
			f := pflag.NewFlagSet("", pflag.ContinueOnError)
			c.addFlags(f, "src", "screds")
			if err := f.Parse(strings.Fields(tc.flags)); err != nil {
				t.Fatal(err)
			}
			got := ""
			keys, err := c.keychain(file)
			if err == nil {
				registry, _ := name.NewRegistry("a.io")
				resolved, errResolve := keys.Resolve(registry)
				if errResolve != nil {
					t.Fatal(errResolve)
				}
				login, errLogin := resolved.Authorization()
				if errLogin != nil {
					t.Fatal(errLogin)
				}
				got = login.Username + " " + login.Password + " " + login.RegistryToken
			} else {
				got = "error " + err.Error()
			}
			if got != tc.want && (err == nil || !strings.HasPrefix(got, tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A login may be for a path of the destination only.
func TestLoginFor_theLongestPathThatFits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth.json")
	entry := func(user string) string {
		return `{"auth":"` + base64.StdEncoding.EncodeToString([]byte(user+":x")) + `"}`
	}
	text := `{"auths":{"far.example:8443/team":` + entry("team") + `,"far.example:8443/team/mirror":` + entry("mirror") + `}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]string{"": "", "other": "", "team": "team", "team/a": "team", "team/mirror/a/b": "mirror"} {
		login, err := loginFor(upstream.Keychain(file), "far.example:8443", prefix)
		if err != nil || login.Username != want {
			t.Errorf("below %q: user %q, %v; want %q", prefix, login.Username, err, want)
		}
	}
}
