package sample_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// upstream serves the content on the address that it refers to.
func upstream(t *testing.T) *sample.Content {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	c, err := sample.New(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = c.Handler()
	srv.Start()
	t.Cleanup(srv.Close)
	return c
}

func get(t *testing.T, c *sample.Content, method, path string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.Host()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func describe(t *testing.T, ref string) *remote.Descriptor {
	t.Helper()
	r, err := name.ParseReference(ref, name.Insecure, name.StrictValidation)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Get(r, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	return d
}

// images returns the images of a reference: one, or those of an index.
func images(t *testing.T, ref string) []v1.Image {
	t.Helper()
	d := describe(t, ref)
	if !d.MediaType.IsIndex() {
		img, err := d.Image()
		if err != nil {
			t.Fatal(err)
		}
		return []v1.Image{img}
	}
	idx, err := d.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var found []v1.Image
	for _, member := range m.Manifests {
		img, err := idx.Image(member.Digest)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, img)
	}
	return found
}

// files returns the flattened file system of an image.
func files(t *testing.T, img v1.Image) map[string][]byte {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	return untar(t, r)
}

func untgz(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	return untar(t, z)
}

func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = data
	}
}
