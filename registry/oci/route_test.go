package oci

import (
	"errors"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/auth"
)

const (
	hex256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	d256   = "sha256:" + hex256
	d512   = "sha512:" + hex256 + hex256
)

func TestParse(t *testing.T) {
	long := strings.Repeat("a/", 127) + "a" // 255
	for path, want := range map[string]target{
		"/v2":                                   {kind: kindBase},
		"/v2/":                                  {kind: kindBase},
		"/v2/_catalog":                          {kind: kindCatalog},
		"/v2/a/tags/list":                       {kind: kindTags, repo: "a"},
		"/v2/a/b/c/d/e/tags/list":               {kind: kindTags, repo: "a/b/c/d/e"},
		"/v2/tags/list/tags/list":               {kind: kindTags, repo: "tags/list"},
		"/v2/a/manifests/latest":                {kind: kindManifest, repo: "a", tag: "latest"},
		"/v2/a/manifests/uploads":               {kind: kindManifest, repo: "a", tag: "uploads"},
		"/v2/a/manifests/tags/manifests/list":   {kind: kindManifest, repo: "a/manifests/tags", tag: "list"},
		"/v2/quay.io/a-b/c__d/manifests/_X.1-2": {kind: kindManifest, repo: "quay.io/a-b/c__d", tag: "_X.1-2"},
		"/v2/a/manifests/" + d256:               {kind: kindManifest, repo: "a", digest: d256},
		"/v2/a/manifests/" + d512:               {kind: kindManifest, repo: "a", digest: d512},
		"/v2/a/blobs/" + d256:                   {kind: kindBlob, repo: "a", digest: d256},
		"/v2/a/blobs/uploads/blobs/" + d512:     {kind: kindBlob, repo: "a/blobs/uploads", digest: d512},
		"/v2/a/blobs/uploads/":                  {kind: kindUploads, repo: "a"},
		"/v2/a/blobs/uploads":                   {kind: kindUploads, repo: "a"},
		"/v2/a/blobs/uploads/0-9_.=Z":           {kind: kindUpload, repo: "a", id: "0-9_.=Z"},
		"/v2/a/blobs/blobs/uploads/x":           {kind: kindUpload, repo: "a/blobs", id: "x"},
		"/v2/a/referrers/" + d256:               {kind: kindReferrers, repo: "a", digest: d256},
		"/v2/" + long + "/tags/list":            {kind: kindTags, repo: long},
	} {
		if got, err := parse(path); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", path, got, err, want)
		}
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"":                                   {404, codeUnsupported},
		"/":                                  {404, codeUnsupported},
		"/v1/":                               {404, codeUnsupported},
		"/v22/":                              {404, codeUnsupported},
		"/v2/a":                              {404, codeUnsupported},
		"/v2/a/tags/lists":                   {404, codeUnsupported},
		"/v2/a/uploads/x":                    {404, codeUnsupported},
		"/v2//tags/list":                     {400, codeNameInvalid},
		"/v2/tags/list":                      {400, codeNameInvalid},
		"/v2/a//tags/list":                   {400, codeNameInvalid},
		"/v2/A/tags/list":                    {400, codeNameInvalid},
		"/v2/../tags/list":                   {400, codeNameInvalid},
		"/v2/a:80/b/tags/list":               {400, codeNameInvalid},
		"/v2/a___b/tags/list":                {400, codeNameInvalid},
		"/v2/a-/tags/list":                   {400, codeNameInvalid},
		"/v2/ä/tags/list":                    {400, codeNameInvalid},
		"/v2/a/" + long + "/tags/list":       {400, codeNameInvalid},
		"/v2/a/manifests/":                   {404, codeManifestUnknown},
		"/v2/a/manifests/.x":                 {404, codeManifestUnknown},
		"/v2/a/manifests/x y":                {404, codeManifestUnknown},
		"/v2/a/manifests/sha256:short":       {400, codeDigestInvalid},
		"/v2/a/manifests/md5:" + hex256[:32]: {400, codeDigestInvalid},
		"/v2/a/blobs/":                       {400, codeDigestInvalid},
		"/v2/a/blobs/latest":                 {400, codeDigestInvalid},
		"/v2/a/blobs/sha256:" + strings.ToUpper(hex256):  {400, codeDigestInvalid},
		"/v2/a/referrers/latest":                         {400, codeDigestInvalid},
		"/v2/a/manifests/" + strings.Repeat("x", 129):    {404, codeManifestUnknown},
		"/v2/a/manifests/sha384:" + hex256 + hex256[:32]: {400, codeDigestInvalid},
	} {
		var p *problem
		if got, err := parse(path); !errors.As(err, &p) || p.status != want.status || p.code != want.code {
			t.Errorf("%s: got %+v, %v; want %d %s", path, got, err, want.status, want.code)
		}
	}
}

var (
	nameGrammar = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagGrammar  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// FuzzParse compares the parser with the specification's expressions and with
// distribution/reference, the grammar of clients.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/manifests/latest", "/v2/a/b/manifests/" + d256, "/v2/a/blobs/" + d512,
		"/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/x", "/v2/a/referrers/" + d256, "/v2/a__b/c---d/e.f/tags/list",
		"/v2/a___b/tags/list", "/v2/a._b/tags/list", "/v2/a/manifests/-", "/v2//", "/v2/a/blobs/sha256:", "/v2/\x00/tags/list", "/v2/A:5/b/tags/list",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := parse(path)
		if err != nil {
			var p *problem
			if !errors.As(err, &p) || p.status < 400 || p.status > 499 {
				t.Fatalf("%q: %v", path, err)
			}
			return
		}
		if again, err := parse(got.path()); err != nil || again != got {
			t.Fatalf("%q is %+v, but %q is %+v (%v)", path, got, got.path(), again, err)
		}
		if got.repo != "" {
			if !nameGrammar.MatchString(got.repo) || len(got.repo) > 255 {
				t.Fatalf("%q: repository %q is not in the grammar", path, got.repo)
			}
			if named, err := reference.WithName(got.repo); err != nil || named.Name() != got.repo {
				t.Fatalf("%q: clients refuse %q: %v", path, got.repo, err)
			}
		}
		if got.tag != "" && !tagGrammar.MatchString(got.tag) {
			t.Fatalf("%q: tag %q is not in the grammar", path, got.tag)
		}
		if got.digest != "" && (got.digest.Validate() != nil || got.digest.Algorithm() != digest.SHA256 && got.digest.Algorithm() != digest.SHA512) {
			t.Fatalf("%q: digest %q", path, got.digest)
		}
	})
}

func TestAction(t *testing.T) {
	for _, c := range []struct {
		method, path string
		want         auth.Action
	}{
		{"GET", "/v2/", auth.Login},
		{"GET", "/v2/_catalog", auth.Read},
		{"HEAD", "/v2/a/manifests/x", auth.Read},
		{"GET", "/v2/a/blobs/" + d256, auth.Read},
		{"GET", "/v2/a/blobs/uploads/x", auth.Write},
		{"POST", "/v2/a/blobs/uploads/", auth.Write},
		{"PUT", "/v2/a/manifests/x", auth.Write},
		{"DELETE", "/v2/a/manifests/x", auth.Write},
		{"BREW", "/nowhere", auth.Write},
	} {
		if got := Action(httptest.NewRequest(c.method, c.path, nil)); got != c.want {
			t.Errorf("%s %s: %v, want %v", c.method, c.path, got, c.want)
		}
	}
}

func TestDenied(t *testing.T) {
	for status, code := range map[int]string{401: codeUnauthorized, 403: codeDenied, 503: codeUnavailable, 429: codeTooMany} {
		w := httptest.NewRecorder()
		w.Header().Set("WWW-Authenticate", "as RequireToken has set it")
		Denied(w, httptest.NewRequest("PUT", "/v2/a/manifests/x", nil), status)
		r := reply{w.Result(), w.Body.Bytes()}
		r.Request = httptest.NewRequest("PUT", "/v2/a/manifests/x", nil)
		if got := r.code(t); r.StatusCode != status || got != code {
			t.Errorf("%d: got %d %s", status, r.StatusCode, got)
		}
		r.wantHeader(t, "WWW-Authenticate", "as RequireToken has set it")
	}
}
