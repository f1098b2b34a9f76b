package oci

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

// send calls the API without a connection, with requests that net/http's client would not send. The
// answer is not a 5xx, and an error has the specification's form.
func (f *fixture) send(t *testing.T, r *http.Request) reply {
	t.Helper()
	w := httptest.NewRecorder()
	f.api.ServeHTTP(w, r)
	got := reply{w.Result(), w.Body.Bytes()}
	got.Request = r
	if got.StatusCode >= 500 {
		t.Fatalf("%s %s?%s: got %d\n%s\n%s", r.Method, r.URL.Path, r.URL.RawQuery, got.StatusCode, got.body, f.log)
	}
	if got.StatusCode >= 400 && r.Method != http.MethodHead {
		got.code(t)
	}
	return got
}

// request returns a request with any query, header and body.
func request(t *testing.T, method, path, query string, body []byte, chunked bool, headers ...string) *http.Request {
	r := (&http.Request{
		Method: method, URL: &url.URL{Path: path, RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Host: "registry", RemoteAddr: "192.0.2.1:1", Header: make(http.Header),
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(t.Context())
	if chunked {
		r.ContentLength = -1
	} else {
		r.Header.Set("Content-Length", strconv.Itoa(len(body))) // net/http leaves it there
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	return r
}

// FuzzUpload continues a session with any offset, Content-Range and digest. A + begins an offset
// relative to the right one. Content that was acknowledged exists.
func FuzzUpload(f *testing.F) {
	empty, abc := digest.FromBytes(nil).String(), digest.FromString("abc").String()
	for _, seed := range []struct {
		method            uint8
		offset, span, end string
		body              string
		chunked           bool
	}{
		{0, "+", "", "", "abc", false},
		{0, "+", "0-2", "", "abc", true},
		{0, "+", "1-3", "", "abc", false},
		{0, "+", "bytes 0-2/3", "", "abc", false},
		{0, "+", "0-9223372036854775807", "", "abc", true},
		{1, "+", "", "digest=" + abc, "abc", false},
		{1, "+", "", "digest=" + empty, "", false},
		{1, "+", "0-2", "digest=" + d512, "abc", true},
		{1, "+x", "", "digest=" + abc, "abc", false},
		{1, "", "", "digest=" + abc, "abc", false},
		{1, "7", "", "digest=sha256:&digest=" + abc, "abc", false},
		{2, "+&offset=x", "", "", "", false},
		{3, "+", "", "", "", false},
		{4, "+%zz;", "", "", "", false},
	} {
		f.Add(seed.method, seed.offset, seed.span, seed.end, []byte(seed.body), seed.chunked)
	}
	fix := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, method uint8, offset, span, end string, body []byte, chunked bool) {
		begun := fix.send(t, request(t, "POST", "/v2/fuzz/blobs/uploads/", "", nil, false))
		location, err := url.Parse(begun.Header.Get("Location"))
		if err != nil || begun.StatusCode != http.StatusAccepted {
			t.Fatal(begun.Status, err)
		}
		query := "offset=" + offset
		if rest, ok := bytes.CutPrefix([]byte(offset), []byte("+")); ok {
			query = location.RawQuery + string(rest)
		}
		methods := []string{"PATCH", "PUT", "DELETE", "GET", "HEAD"}
		got := fix.send(t, request(t, methods[int(method)%len(methods)], location.Path, query+"&"+end, body, chunked, "Content-Range", span))
		if got.StatusCode == http.StatusCreated {
			d := digest.Digest(got.Header.Get("Docker-Content-Digest"))
			if d.Validate() != nil || d != d.Algorithm().FromBytes(body) {
				t.Fatalf("%q was accepted as %s", body, d)
			}
			held := fix.send(t, request(t, "GET", "/v2/fuzz/blobs/"+d.String(), "", nil, false))
			if held.StatusCode != http.StatusOK || !bytes.Equal(held.body, body) {
				t.Fatalf("%d %q, want %q", held.StatusCode, held.body, body)
			}
		}
		fix.send(t, request(t, "DELETE", location.Path, location.RawQuery, nil, false))
	})
}

// FuzzPutManifest pushes any bytes as a manifest. An accepted manifest is returned byte for byte.
func FuzzPutManifest(f *testing.F) {
	const index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	for _, seed := range []struct{ ref, query, mediaType, body string }{
		{"latest", "", ocispec.MediaTypeImageIndex, index},
		{digest.FromString(index).String(), "tag=a&tag=b", ocispec.MediaTypeImageIndex, index},
		{digest.SHA512.FromString(index).String(), "tag=.", ocispec.MediaTypeImageIndex, index},
		{"latest", "", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"digest":"` + d256 + `","size":-1,"mediaType":"x"},"layers":[]}`},
		{"latest", "", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"layers":[{"urls":["x"],"digest":"` + d512 + `"}],"subject":{"digest":"x"}}`},
		{"latest", "", image.MediaTypeDockerList, `{"manifests":[{"digest":"sha256:","size":1e99}]}`},
		{"latest", "", "text/plain; charset=x", `[]`},
		{"latest", "", "", `{"schemaVersion":1,"annotations":{"":null}}`},
		{"x", "%zz", "a/b;c", "\x00\xff"},
		{"x", "", image.MediaTypeDockerManifest, `{"mediaType":7}`},
	} {
		f.Add(seed.ref, seed.query, seed.mediaType, []byte(seed.body), false)
	}
	fix := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, ref, query, mediaType string, body []byte, chunked bool) {
		put := fix.send(t, request(t, "PUT", "/v2/fuzz/manifests/"+ref, query, body, chunked, "Content-Type", mediaType))
		if put.StatusCode != http.StatusCreated {
			return
		}
		d := digest.Digest(put.Header.Get("Docker-Content-Digest"))
		if d.Validate() != nil || d != d.Algorithm().FromBytes(body) {
			t.Fatalf("%q was accepted as %q", body, d)
		}
		got := fix.send(t, request(t, "GET", "/v2/fuzz/manifests/"+ref, "", nil, false))
		if got.StatusCode != http.StatusOK || !bytes.Equal(got.body, body) {
			t.Fatalf("%d %q, want %q", got.StatusCode, got.body, body)
		}
		fix.send(t, request(t, "DELETE", "/v2/fuzz/manifests/"+d.String(), "", nil, false))
	})
}

// FuzzReferrers lists referrers with any query. The answer is an index, and a filter filters.
func FuzzReferrers(f *testing.F) {
	for _, query := range []string{"", "artifactType=x/y", "artifactType=", "n=1", "n=1&last=" + d256, "n=0", "n=-1", "n=99999999999999999999", "last=\x00", "%zz", "artifactType=x%2Fy&n=2&n=1", "artifactType='--"} {
		f.Add(d256, query)
	}
	f.Add(d512, "n=1")
	f.Add("sha256:", "")
	fix := newFixture(f, nil)
	for i := range 3 {
		fix.artifact("fuzz", d256, "", i)
	}
	f.Fuzz(func(t *testing.T, subject, query string) {
		r := request(t, "GET", "/v2/fuzz/referrers/"+subject, query, nil, false)
		got := fix.send(t, r)
		if got.StatusCode != http.StatusOK {
			return
		}
		var index ocispec.Index
		if err := json.Unmarshal(got.body, &index); err != nil || index.MediaType != ocispec.MediaTypeImageIndex || index.Manifests == nil {
			t.Fatalf("%s (%v)", got.body, err)
		}
		for _, m := range index.Manifests {
			if want := r.URL.Query().Get("artifactType"); subject != d256 || want != "" && m.ArtifactType != want {
				t.Fatalf("%s?%s lists %+v", subject, query, m)
			}
		}
	})
}
