package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/storetest"
)

// A fixture is the API over a real store, served on loopback.
type fixture struct {
	t      testing.TB
	dir    string
	store  *store.Store
	api    *API
	server *httptest.Server
	log    *bytes.Buffer // of the API; read it when no request is under way

	options Options             // beyond the store, for open
	place   storetest.Place     // none: a new one
	auth    *auth.Authenticator // nil: no authentication
}

func newFixture(t testing.TB, upstream Upstream) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	f.open(upstream)
	t.Cleanup(f.close)
	return f
}

func (f *fixture) open(upstream Upstream) {
	f.t.Helper()
	ctx := context.Background() // the test's context ends before its cleanups
	var err error
	if f.place.Database == "" {
		f.place = storetest.New(f.t, f.dir)
	}
	f.store, err = store.Open(ctx, f.place.Options)
	if err != nil {
		f.t.Fatal(err)
	}
	f.log = new(bytes.Buffer)
	o := f.options
	o.Store, o.Upstream, o.Log = f.store, upstream, slog.New(slog.NewTextHandler(f.log, nil))
	f.api = New(o)
	var h http.Handler = f.api
	if f.auth != nil {
		v2, tokens := f.auth.RequireToken(Action, f.api.Scope, f.api, Denied), f.auth.Tokens(func(h http.Handler) http.Handler { return h })
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == auth.TokenPath {
				tokens.ServeHTTP(w, r)
				return
			}
			v2.ServeHTTP(w, r)
		})
	}
	f.server = httptest.NewServer(h)
}

func (f *fixture) close() {
	f.server.Close()
	if err := f.store.Close(); err != nil {
		f.t.Error(err)
	}
	if f.log.Len() > 0 { // only errors that are answered with 500 have this level
		f.t.Errorf("the API logged:\n%s", f.log)
	}
}

// A reply is a response with its body read.
type reply struct {
	*http.Response
	body []byte
}

// do sends a request and checks the status. Headers are pairs of name and value.
// path may be a Location.
func (f *fixture) do(status int, method, path string, body any, headers ...string) reply {
	f.t.Helper()
	req, err := http.NewRequest(method, f.server.URL+path, reader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if resp.StatusCode != status {
		f.t.Fatalf("%s %s: got %s, want %d\n%.2000s", method, path, resp.Status, status, got)
	}
	return reply{resp, got}
}

// reader keeps the types whose length net/http knows. Other readers are sent chunked.
func reader(body any) io.Reader {
	switch b := body.(type) {
	case nil:
		return nil
	case string:
		return strings.NewReader(b)
	case []byte:
		return bytes.NewReader(b)
	default:
		return struct{ io.Reader }{b.(io.Reader)}
	}
}

// code returns the error code of an answer in the specification's form.
func (r reply) code(t testing.TB) string {
	t.Helper()
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(r.body, &e); err != nil || len(e.Errors) == 0 || e.Errors[0].Message == "" {
		t.Fatalf("%s: %.500q is not an error in the specification's form (%v)", r.Status, r.body, err)
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/json" && ct != "application/json; charset=utf-8" {
		t.Errorf("an error with content type %q", ct)
	}
	return e.Errors[0].Code
}

// wantHeader checks a header of a reply.
func (r reply) wantHeader(t testing.TB, name, want string) {
	t.Helper()
	if got := r.Header.Get(name); got != want {
		t.Errorf("%s %s: header %s is %q, want %q", r.Request.Method, r.Request.URL.Path, name, got, want)
	}
}

// pushBlob pushes content in one request and returns its descriptor.
func (f *fixture) pushBlob(repo string, content []byte) ocispec.Descriptor {
	f.t.Helper()
	d := digest.FromBytes(content)
	f.do(http.StatusCreated, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), content)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(content))}
}

// image pushes the blobs of an image and returns its manifest, with whitespace that a
// conversion would lose.
func (f *fixture) image(repo, mediaType string, seed uint64) []byte {
	f.t.Helper()
	config := f.pushBlob(repo, fmt.Appendf(nil, `{"seed":%d}`, seed))
	layer := f.pushBlob(repo, randomBytes(seed, 1000))
	return fmt.Appendf(nil, "{\n\t\"schemaVersion\":2 , \"mediaType\":%q,\n \"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":%q,\"size\":%d},\n"+
		"\"layers\":[{\"mediaType\":%q,\"digest\":%q,\"size\":%d}],\"x-unknown\":{\"b\":1,\"a\":[1.0,1e3]}}\n",
		mediaType, config.Digest, config.Size, layer.MediaType, layer.Digest, layer.Size)
}

func (f *fixture) putManifest(path, mediaType string, body []byte) reply {
	f.t.Helper()
	return f.do(http.StatusCreated, "PUT", path, body, "Content-Type", mediaType)
}

// pushImage pushes an image and its manifest under a tag.
func (f *fixture) pushImage(repo, tag string, seed uint64) (body []byte, d digest.Digest) {
	f.t.Helper()
	body = f.image(repo, ocispec.MediaTypeImageManifest, seed)
	f.putManifest("/v2/"+repo+"/manifests/"+tag, ocispec.MediaTypeImageManifest, body)
	return body, digest.FromBytes(body)
}

func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed))).Read(b)
	return b
}
