package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

// The login that a flag names is the source's: its mirror gets its own.
//
// Spec: oc-mirror 1.9.
func TestMirror_readsAtAMirrorOfRegistriesConf(t *testing.T) {
	s := newMirrorSetup(t)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.source})
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth()
		switch {
		case !ok:
			w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			w.WriteHeader(http.StatusUnauthorized)
		case user != "mirrors":
			t.Errorf("the mirror got the login of %s", user)
			w.WriteHeader(http.StatusForbidden)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(mirror.Close)
	at := mirror.Listener.Addr().String()
	s.source = "127.0.0.1:1" // where nothing listens
	dir := t.TempDir()
	for name, text := range map[string]string{
		"registries.conf": fmt.Sprintf("[[registry]]\nlocation=%q\n[[registry.mirror]]\nlocation=%q\ninsecure=true\n", s.source, at),
		"auth.json":       fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, at, base64.StdEncoding.EncodeToString([]byte("mirrors:x"))),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(dir, "registries.conf"))
	code, _, stderr := s.mirror(t, []string{held}, "--src-creds", "sources:x", "--authfile", filepath.Join(dir, "auth.json"))
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}
