package upstream

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

func sendPage(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, "<!doctype html><title>Sign in</title>")
}

// A single sign-on or a proxy answers in the registry's place, with status 200.
func TestClient_aWebPageIsNamed(t *testing.T) {
	manifest := func(c *Client, _ *fixture) error { _, _, err := c.Manifest(t.Context(), repo, "v1"); return err }
	blob := func(c *Client, f *fixture) error { _, err := readBlob(t.Context(), c, f.blob); return err }
	for name, test := range map[string]struct {
		at   string // of the path
		read func(*Client, *fixture) error
	}{
		"manifest":     {"/manifests/", manifest},
		"blob":         {"/blobs/", blob},
		"ping":         {"/v2/", manifest},
		"token server": {"/token", manifest},
	} {
		for how, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
			"200": func(w http.ResponseWriter, _ *http.Request) { sendPage(w) },
			"302": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				f := newFixture(t)
				f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
					switch {
					case r.URL.Path == "/login":
						sendPage(w)
					case test.at == "/token" && r.URL.Path == "/v2/":
						w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host()+`/token",service="x"`)
						w.WriteHeader(http.StatusUnauthorized)
					case strings.Contains(r.URL.Path, test.at):
						answer(w, r)
					default:
						return false
					}
					return true
				}
				err := test.read(f.client(t), f)
				wantText(t, fmt.Sprint(err), "web page")
				wantText(t, hint.Of(err), "open http://"+f.host()+"/v2/_catalog", "single sign-on")
				if len(f.naps) > 0 {
					t.Errorf("asked again after %v", f.naps)
				}
			})
		}
	}
	t.Run("but a blob that is a page is a blob", func(t *testing.T) {
		f := newFixture(t)
		page := []byte("<!doctype html><title>Manual</title>")
		d := f.push(t, "blobs", page, "")
		f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.Contains(r.URL.Path, "/blobs/") {
				_, _ = w.Write(page) // a file server that looks at the content
			}
			return strings.Contains(r.URL.Path, "/blobs/")
		}
		if got, err := readBlob(t.Context(), f.client(t), d); err != nil || !bytes.Equal(got, page) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// Some proxies compress what was not asked for.
func TestClient_compressedOnTheWay(t *testing.T) {
	f := newFixture(t)
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		switch {
		case r.Header.Get("Accept-Encoding") != "identity":
			t.Errorf("%s accepts the encodings %q", r.URL.Path, r.Header.Get("Accept-Encoding"))
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			z := gzip.NewWriter(w)
			_, _ = z.Write(f.body)
			z.Close()
			return true
		}
		return false
	}
	for _, ref := range []string{"v1", f.manifest.String()} {
		if desc, body, err := f.client(t).Manifest(t.Context(), repo, ref); err != nil || desc.Digest != f.manifest || !bytes.Equal(body, f.body) {
			t.Errorf("%s: got %+v, %v", ref, desc, err)
		}
	}
	if got, err := readBlob(t.Context(), f.client(t), f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// The address that a registry leads to is often signed: it is a secret.
func TestClient_redirectedToAHostThatRefuses(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	f := newFixture(t)
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, gone.URL+"/x?sig=secret", http.StatusTemporaryRedirect)
		}
		return strings.Contains(r.URL.Path, "/blobs/")
	}
	var log bytes.Buffer
	c := f.client(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	_, err := readBlob(t.Context(), c, f.blob)
	host := strings.TrimPrefix(gone.URL, "http://")
	wantText(t, fmt.Sprint(err), host, "connection refused")
	wantText(t, hint.Of(err), f.host()+" sends this host to "+host)
	wantText(t, log.String(), "retrying", host)
	if strings.Contains(log.String()+err.Error(), "secret") {
		t.Errorf("the signature is told: %v\n%s", err, log.String())
	}
}
