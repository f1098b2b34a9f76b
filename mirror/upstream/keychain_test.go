package upstream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
)

func entry(userPassword string) string {
	return fmt.Sprintf(`{"auth":%q}`, base64.StdEncoding.EncodeToString([]byte(userPassword)))
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// user returns the user that a keychain has for a repository, "" for anonymous.
func user(t *testing.T, k authn.Keychain, repository string) string {
	t.Helper()
	auth, err := k.Resolve(repositoryOf(t, repository))
	if err != nil {
		t.Fatal(err)
	}
	c, err := auth.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	return c.Username
}

func TestKeychain_longestMatch(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "auth.json"), `{"auths":{
		"quay.io": `+entry("all:x")+`,
		"quay.io/org": `+entry("org:x")+`,
		"quay.io/org/team/image": `+entry("image:x")+`,
		"quay.io:8443": `+entry("port:x")+`,
		"https://old.example/v2/": `+entry("old:x")+`,
		"https://index.docker.io/v1/": `+entry("hub:x")+`,
		"docker.io/library": `+entry("library:x")+`
	}}`)
	for repository, want := range map[string]string{
		"quay.io/other/image":        "all",
		"quay.io/organisation/image": "all",
		"quay.io/org/image":          "org",
		"quay.io/org/team/other":     "org",
		"quay.io/org/team/image":     "image",
		"quay.io/org/team/image/sub": "image",
		"quay.io:8443/org/image":     "port",
		"old.example/a/b":            "old",
		"docker.io/some/one":         "hub",
		"docker.io/alpine":           "library",
		"ghcr.io/a/b":                "",
	} {
		if got := user(t, Keychain(file), repository); got != want {
			t.Errorf("%s: got %q, want %q", repository, got, want)
		}
	}
}

// The login and the reference may omit the port of HTTPS; an exact match has precedence.
func TestKeychain_portOfHTTPS(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "auth.json"), `{"auths":{
		"with.example:443": `+entry("with:x")+`,
		"without.example/org": `+entry("without:x")+`,
		"both.example": `+entry("bare:x")+`,
		"both.example:443": `+entry("port:x")+`
	}}`)
	for repository, want := range map[string]string{
		"with.example/a": "with", "with.example:443/a": "with", "with.example:8443/a": "",
		"without.example/org/a": "without", "without.example:443/org/a": "without", "without.example:443/other/a": "",
		"both.example/a": "bare", "both.example:443/a": "port",
	} {
		if got := user(t, Keychain(file), repository); got != want {
			t.Errorf("%s: user %q, want %q", repository, got, want)
		}
	}
}

func TestKeychain_reads(t *testing.T) {
	for name, test := range map[string]struct {
		entry string
		want  authn.AuthConfig
	}{
		"a password with colons": {entry("ann:a:b:c"), authn.AuthConfig{Username: "ann", Password: "a:b:c"}},
		"base64 without padding": {fmt.Sprintf(`{"auth":%q}`, base64.RawStdEncoding.EncodeToString([]byte("ann:secret1"))), authn.AuthConfig{Username: "ann", Password: "secret1"}},
		"an identity token":      {`{"auth":"` + base64.StdEncoding.EncodeToString([]byte("u:")) + `","identitytoken":"tok"}`, authn.AuthConfig{Username: "u", IdentityToken: "tok"}},
		"user and password":      {`{"username":"u","password":"p"}`, authn.AuthConfig{Username: "u", Password: "p"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, filepath.Join(t.TempDir(), "auth.json"), `{"auths":{"quay.io":`+test.entry+`}}`)
			r := repositoryOf(t, "quay.io/a")
			auth, err := Keychain(file).Resolve(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := auth.Authorization()
			if err != nil || got.Username != test.want.Username || got.Password != test.want.Password || got.IdentityToken != test.want.IdentityToken {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func repositoryOf(t *testing.T, s string) name.Repository {
	t.Helper()
	r, err := name.NewRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestKeychain_files(t *testing.T) {
	home, runtime, config, docker, extra := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	auths := func(user string) string { return `{"auths":{"quay.io":` + entry(user+":x") + `}}` }
	steps := []struct {
		path, user string
		env        map[string]string
	}{ // the last place first: each added file has precedence over those before
		{filepath.Join(home, ".docker/config.json"), "docker", nil},
		{filepath.Join(docker, "config.json"), "docker-config", map[string]string{"DOCKER_CONFIG": docker}},
		{filepath.Join(home, ".config/containers/auth.json"), "config", nil},
		{filepath.Join(config, "containers/auth.json"), "xdg-config", map[string]string{"XDG_CONFIG_HOME": config}},
		{filepath.Join(runtime, "containers/auth.json"), "runtime", map[string]string{"XDG_RUNTIME_DIR": runtime}},
		{filepath.Join(extra, "auth.json"), "environment", map[string]string{"REGISTRY_AUTH_FILE": filepath.Join(extra, "auth.json")}},
	}
	env := map[string]string{"HOME": home}
	k := keychain{getenv: func(key string) string { return env[key] }, run: "/run/containers", uid: 1 << 30}
	if got := user(t, k, "quay.io/a"); got != "" {
		t.Fatalf("found %q without a file", got)
	}
	for _, step := range steps {
		write(t, step.path, auths(step.user))
		for key, value := range step.env {
			env[key] = value
		}
		if got := user(t, k, "quay.io/a"); got != step.user {
			t.Errorf("got %q, want %q", got, step.user)
		}
	}
	k.authFile = write(t, filepath.Join(extra, "named.json"), auths("named"))
	if got := user(t, k, "quay.io/a"); got != "named" {
		t.Errorf("got %q", got)
	}
	t.Run("a file without an entry is skipped", func(t *testing.T) {
		delete(env, "REGISTRY_AUTH_FILE")
		k.authFile = ""
		write(t, filepath.Join(runtime, "containers/auth.json"), `{"auths":{"ghcr.io":`+entry("other:x")+`}}`)
		if got := user(t, k, "quay.io/a"); got != "xdg-config" {
			t.Errorf("got %q", got)
		}
	})
}

func TestKeychain_errorNamesTheFile(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString([]byte("s3cret without a colon"))
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.json")
	for name, test := range map[string]struct{ file, says string }{
		"missing":          {missing, "no such file"},
		"empty":            {write(t, filepath.Join(dir, "empty.json"), ""), "malformed JSON"},
		"not JSON":         {write(t, filepath.Join(dir, "text.json"), "s3cret"), "malformed JSON at byte 1"},
		"another shape":    {write(t, filepath.Join(dir, "shape.json"), `{"auths":{"quay.io":{"auth":["`+secret+`"]}}}`), "wrong kind"},
		"bad base64":       {write(t, filepath.Join(dir, "base64.json"), `{"auths":{"quay.io":{"auth":"s3cret!"}}}`), "entry for quay.io"},
		"no colon":         {write(t, filepath.Join(dir, "colon.json"), `{"auths":{"quay.io":{"auth":"`+secret+`"}}}`), "entry for quay.io"},
		"a path as helper": {write(t, filepath.Join(dir, "helper.json"), `{"credHelpers":{"quay.io":"../../tmp/x"}}`), "not the name of a credential helper"},
	} {
		t.Run(name, func(t *testing.T) {
			r := repositoryOf(t, "quay.io/a")
			_, err := Keychain(test.file).Resolve(r)
			wantText(t, fmt.Sprint(err), test.file, test.says)
			wantText(t, hint.Of(err), "podman login")
			if strings.Contains(fmt.Sprint(err), "s3cret") || strings.Contains(fmt.Sprint(err), secret) {
				t.Errorf("%v has a secret", err)
			}
		})
	}
	t.Run("and is not taken for a missing image", func(t *testing.T) {
		f := newFixture(t)
		_, err := f.client(t, func(o *Options) { o.Keychain = Keychain(missing) }).Resolve(t.Context(), repo, "v1")
		e := asError(t, err)
		wantText(t, e.Error(), missing)
		wantText(t, e.Hint(), "--authfile")
		if errors.Is(err, fs.ErrNotExist) {
			t.Error("a missing file is taken for a missing image")
		}
	})
	t.Run("also a file that was not named", func(t *testing.T) {
		home := t.TempDir()
		file := write(t, filepath.Join(home, ".docker/config.json"), "{")
		r := repositoryOf(t, "quay.io/a")
		_, err := keychain{getenv: func(key string) string { return map[string]string{"HOME": home}[key] }, run: "/run/containers", uid: 1 << 30}.Resolve(r)
		wantText(t, fmt.Sprint(err), file)
	})
}

func TestKeychain_credentialHelpers(t *testing.T) {
	bin := t.TempDir()
	script := `#!/bin/sh
read server
case "$server" in
  quay.io) echo '{"ServerURL":"quay.io","Username":"helped","Secret":"x"}' ;;
  https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"<token>","Secret":"tok"}' ;;
  broken.io) echo "the keyring is locked"; exit 1 ;;
  *) echo "credentials not found in native keychain"; exit 1 ;;
esac
`
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-fake"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	dir := t.TempDir()
	helpers := Keychain(write(t, filepath.Join(dir, "helpers.json"), `{"auths":{"quay.io":`+entry("file:x")+`},"credHelpers":{"quay.io":"fake","ghcr.io":"absent"}}`))
	store := Keychain(write(t, filepath.Join(dir, "store.json"), `{"auths":{"quay.io":{},"gcr.io":`+entry("file:x")+`},"credsStore":"fake"}`))
	for _, test := range []struct {
		k          authn.Keychain
		repository string
		want       string
	}{
		{helpers, "quay.io/a", "helped"},
		{helpers, "gcr.io/a", ""},
		{store, "quay.io/a", "helped"},
		{store, "gcr.io/a", "file"},
		{store, "example.com/a", ""},
	} {
		if got := user(t, test.k, test.repository); got != test.want {
			t.Errorf("%s: got %q, want %q", test.repository, got, test.want)
		}
	}
	t.Run("a token of Docker Hub", func(t *testing.T) {
		r := repositoryOf(t, "docker.io/alpine")
		auth, err := store.Resolve(r)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := auth.Authorization(); err != nil || c.IdentityToken != "tok" || c.Username != "" {
			t.Errorf("got %+v, %v", c, err)
		}
	})
	t.Run("the error names a helper that fails", func(t *testing.T) {
		r := repositoryOf(t, "broken.io/a")
		_, err := store.Resolve(r)
		wantText(t, fmt.Sprint(err), "docker-credential-fake", "broken.io", "the keyring is locked")
	})
	t.Run("a helper that is not on this host is no obstacle", func(t *testing.T) {
		if got := user(t, helpers, "ghcr.io/a"); got != "" {
			t.Errorf("got %q", got)
		}
		f := newFixture(t)
		absent := func(o *Options) {
			o.Keychain = Keychain(write(t, filepath.Join(dir, "absent.json"), `{"auths":{},"credsStore":"absent"}`))
		}
		if _, err := f.client(t, absent).Resolve(t.Context(), repo, "v1"); err != nil {
			t.Fatalf("a public image: %v", err)
		}
		f.fault = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		_, err := f.client(t, absent).Resolve(t.Context(), repo, "v1")
		wantText(t, asError(t, err).Hint(), "docker-credential-absent", "podman login")
	})
	t.Run("nor when another file has an entry", func(t *testing.T) {
		home := t.TempDir()
		write(t, filepath.Join(home, ".config/containers/auth.json"), `{"credsStore":"absent"}`)
		write(t, filepath.Join(home, ".docker/config.json"), `{"auths":{"quay.io":`+entry("docker:x")+`}}`)
		k := keychain{getenv: func(key string) string { return map[string]string{"HOME": home}[key] }, run: "/run/containers", uid: 1 << 30}
		if got := user(t, k, "quay.io/a"); got != "docker" {
			t.Errorf("got %q", got)
		}
	})
}

// podman, run by root, may have made the directory above those of all users for root alone.
func TestKeychain_directoryOfRoot(t *testing.T) {
	run := filepath.Join(t.TempDir(), "containers")
	write(t, filepath.Join(run, "1", "auth.json"), `{}`)
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // never unlocked: the thread ends with the test, and with it this user
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Setfsuid(0) }() // for the removal of the directory
	} else {
		if err := os.Chmod(run, 0); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.Chmod(run, 0o700) }()
	}
	k := keychain{getenv: func(string) string { return "" }, run: run, uid: 1}
	if auth, err := k.Resolve(name.MustParseReference("a.example.com/b").Context().Registry); err != nil || auth != authn.Anonymous {
		t.Errorf("%v, %v", auth, err)
	}
}
