//go:build s3

package oci

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/storetest"
)

// redirecting is the API over blobs in S3, to which it redirects.
func redirecting(t *testing.T, u Upstream) (*fixture, *s3test.Server) {
	t.Helper()
	bucket := s3test.Start(t)
	text, address := bucket.Address(t, "images")
	f := &fixture{t: t, dir: t.TempDir(), options: Options{Redirect: &address}}
	f.place = storetest.Files(f.dir)
	f.place.Storage, f.place.Credentials = text, bucket.Credentials
	f.open(u)
	t.Cleanup(f.close)
	return f, bucket
}

// ask asks the registry by a name, which is another one than that of the storage, and follows no redirect.
func (f *fixture) ask(host, method, path string, headers ...string) reply {
	f.t.Helper()
	req, err := http.NewRequest(method, f.server.URL+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.server.Client().Transport.RoundTrip(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return reply{resp, got}
}

func TestRedirect(t *testing.T) {
	const name = "registry.example.com:8443"
	f, bucket := redirecting(t, nil)
	content := randomBytes(1, 100_000)
	d := f.pushBlob("a", content).Digest
	path := "/v2/a/blobs/" + d.String()

	got := f.ask(name, "GET", path)
	at, err := url.Parse(got.Header.Get("Location"))
	if err != nil || got.StatusCode != http.StatusTemporaryRedirect || len(got.body) > 0 || at.Path != "/"+s3test.Bucket+"/images/sha256/"+d.Encoded()[:2]+"/"+d.Encoded() {
		t.Fatalf("%s to %s with %q, %v", got.Status, at, got.body, err)
	}
	got.wantHeader(t, "Cache-Control", "no-store")
	got.wantHeader(t, "Docker-Content-Digest", d.String())
	resp, err := http.Get(at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(body, content) {
		t.Errorf("the storage answers %s with %d bytes, %v", resp.Status, len(body), err)
	}
	query := at.Query()
	query.Set("X-Amz-Expires", "86400") // the signature is over it
	at.RawQuery = query.Encode()
	if resp, err := http.Get(at.String()); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a longer time is answered with %v, %v", resp, err)
	}

	for what, here := range map[string]struct {
		status             int
		host, method, path string
		headers            []string
	}{
		"a HEAD":                           {200, name, "HEAD", path, nil},
		"a range":                          {206, name, "GET", path, []string{"Range", "bytes=5-"}},
		"a range that does not exist":      {416, name, "GET", path, []string{"Range", "bytes=100000-"}},
		"known content":                    {304, name, "GET", path, []string{"If-None-Match", `"` + d.String() + `"`}},
		"a client that would send a login": {200, "127.0.0.1:8443", "GET", path, nil},
		"another appliance":                {200, name, "GET", path, []string{"Cache-Control", "only-if-cached"}},
		"another repository":               {404, name, "GET", "/v2/b/blobs/" + d.String(), nil},
		"an unknown blob":                  {404, name, "GET", "/v2/a/blobs/" + digest.FromString("unknown").String(), nil},
	} {
		got := f.ask(here.host, here.method, here.path, here.headers...)
		if got.StatusCode != here.status || got.Header.Get("Location") != "" {
			t.Errorf("%s: %s, Location %q", what, got.Status, got.Header.Get("Location"))
		}
	}

	f.pushBlob("a", randomBytes(2, 1000)) // or the storage would look like that of another store
	// of MinIO an object is a directory
	if err := os.RemoveAll(filepath.Join(bucket.Dir, strings.TrimPrefix(at.Path, "/"+s3test.Bucket))); err != nil {
		t.Fatal(err)
	}
	if got := f.ask(name, "GET", path); got.StatusCode != http.StatusNotFound || got.code(t) != codeBlobUnknown {
		t.Errorf("a lost blob: %s", got.Status)
	}
	f.pushBlob("a", content) // which is taken again
	if got := f.ask(name, "GET", path); got.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("after another push: %s", got.Status)
	}
	bucket.Fault(func(*http.Request) s3test.Action { return s3test.SlowDown })
	if got := f.ask(name, "GET", path); got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("without the storage: %s", got.Status)
	}
	bucket.Fault(nil)
	if log := f.log.String(); strings.Contains(log, "X-Amz-Signature") || !strings.Contains(log, "503") {
		t.Errorf("the log is %s", log)
	}
	f.log.Reset()
}

// A blob that comes from an upstream has no object yet.
func TestRedirect_whileItIsPulled(t *testing.T) {
	content := randomBytes(1, 1000)
	d := digest.FromBytes(content)
	f, _ := redirecting(t, &upstream{blobs: map[digest.Digest][]byte{d: content}})
	got := f.ask("registry.example.com", "GET", "/v2/up/app/blobs/"+d.String())
	if got.StatusCode != http.StatusOK || !bytes.Equal(got.body, content) {
		t.Errorf("%s, %d bytes", got.Status, len(got.body))
	}
}

// What another repository has is redirected to as well.
func TestRedirect_anyPath(t *testing.T) {
	f, _ := redirecting(t, nil)
	f.api = New(Options{Store: f.store, AnyPath: true, Redirect: f.options.Redirect})
	f.server.Config.Handler = f.api
	d := f.pushBlob("a", randomBytes(1, 1000)).Digest
	if got := f.ask("registry.example.com", "GET", "/v2/b/blobs/"+d.String()); got.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("%s", got.Status)
	}
}
