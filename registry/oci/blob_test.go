package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestBlob_get(t *testing.T) {
	f := newFixture(t, nil)
	content := randomBytes(1, 100_000)
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		t.Run(string(algorithm), func(t *testing.T) {
			f.t = t
			d := algorithm.FromBytes(content)
			f.do(http.StatusCreated, "POST", "/v2/a/blobs/uploads/?digest="+d.String(), content)
			path := "/v2/a/blobs/" + d.String()
			get := f.do(http.StatusOK, "GET", path, nil)
			if !bytes.Equal(get.body, content) {
				t.Error("other content")
			}
			head := f.do(http.StatusOK, "HEAD", path, nil)
			for _, got := range []reply{get, head} {
				got.wantHeader(t, "Content-Length", fmt.Sprint(len(content)))
				got.wantHeader(t, "Content-Type", "application/octet-stream")
				got.wantHeader(t, "Docker-Content-Digest", d.String())
				got.wantHeader(t, "Etag", `"`+d.String()+`"`)
				got.wantHeader(t, "Accept-Ranges", "bytes")
			}
			for _, method := range []string{"GET", "HEAD"} {
				for _, known := range []string{get.Header.Get("Etag"), "W/" + get.Header.Get("Etag"), `"x", ` + get.Header.Get("Etag"), d.String(), "*"} {
					f.do(http.StatusNotModified, method, path, nil, "If-None-Match", known, "Range", "bytes=100000-")
				}
				f.do(http.StatusOK, method, path, nil, "If-None-Match", `"x"`)
			}
		})
	}
}

func TestBlob_range(t *testing.T) {
	f := newFixture(t, nil)
	content := randomBytes(1, 1000)
	path := "/v2/a/blobs/" + f.pushBlob("a", content).Digest.String()
	for header, want := range map[string][]byte{
		"bytes=0-99": content[:100], "bytes=900-": content[900:], "bytes=-1": content[999:], "bytes=999-5000": content[999:],
		"bytes=1-99999999999999999999": content[1:], "Bytes=0-0,5000-": content[:1],
	} {
		got := f.do(http.StatusPartialContent, "GET", path, nil, "Range", header)
		if !bytes.Equal(got.body, want) {
			t.Errorf("%s: %d bytes", header, len(got.body))
		}
	}
	for _, header := range []string{"bytes=1000-", "bytes=5-4", "x", "bytes=-0"} {
		got := f.do(http.StatusRequestedRangeNotSatisfiable, "GET", path, nil, "Range", header)
		got.code(t)
		got.wantHeader(t, "Content-Range", "bytes */1000")
		got.wantHeader(t, "Etag", "")
	}
	// A Range for other content or in other units is ignored.
	f.do(http.StatusOK, "GET", path, nil, "Range", "lines=1-2")
	f.do(http.StatusOK, "GET", path, nil, "Range", "bytes=1000-", "If-Range", `"other"`)
	none := "/v2/a/blobs/" + f.pushBlob("a", nil).Digest.String()
	for _, header := range []string{"bytes=0-", "bytes=-5", "x"} {
		f.do(http.StatusOK, "GET", none, nil, "Range", header)
	}
}

func TestBlob_unknown(t *testing.T) {
	f := newFixture(t, nil)
	d := f.pushBlob("a", []byte("content")).Digest
	for _, path := range []string{"/v2/a/blobs/" + d256, "/v2/other/blobs/" + d.String(), "/v2/nowhere/blobs/" + d512} {
		for _, method := range []string{"GET", "DELETE"} {
			if got := f.do(http.StatusNotFound, method, path, nil); got.code(t) != codeBlobUnknown {
				t.Errorf("%s %s: %s", method, path, got.body)
			}
		}
		f.do(http.StatusNotFound, "HEAD", path, nil)
	}
}

func TestBlob_delete(t *testing.T) {
	f := newFixture(t, nil)
	d := f.pushBlob("a", []byte("content")).Digest
	f.pushBlob("b", []byte("content"))
	f.do(http.StatusAccepted, "DELETE", "/v2/a/blobs/"+d.String(), nil)
	f.do(http.StatusNotFound, "GET", "/v2/a/blobs/"+d.String(), nil)
	f.do(http.StatusNotFound, "HEAD", "/v2/a/blobs/"+d.String(), nil)
	f.do(http.StatusOK, "GET", "/v2/b/blobs/"+d.String(), nil)
}

// A repeated delete has the same answer.
func TestBlob_deleteOfAnImagesLayer(t *testing.T) {
	f := newFixture(t, nil)
	body, d := f.pushImage("app", "v1", 7)
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	path := "/v2/app/blobs/" + m.Layers[0].Digest.String()
	var answers []string
	for range 2 {
		r := f.do(http.StatusMethodNotAllowed, http.MethodDelete, path, nil)
		r.wantHeader(t, "Allow", "GET, HEAD")
		if code := r.code(t); code != codeUnsupported {
			t.Errorf("code %s", code)
		}
		answers = append(answers, string(r.body))
	}
	if answers[0] != answers[1] {
		t.Errorf("first %s, then %s", answers[0], answers[1])
	}
	f.do(http.StatusOK, http.MethodGet, path, nil)
	f.do(http.StatusNotFound, http.MethodDelete, "/v2/other/blobs/"+m.Layers[0].Digest.String(), nil)
	f.do(http.StatusAccepted, http.MethodDelete, "/v2/app/manifests/"+d.String(), nil)
	f.do(http.StatusAccepted, http.MethodDelete, path, nil)
	f.do(http.StatusNotFound, http.MethodDelete, path, nil)
}
