package oci

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sync/errgroup"
)

func (f *fixture) ref(s string) name.Reference {
	f.t.Helper()
	ref, err := name.ParseReference(strings.TrimPrefix(f.server.URL, "http://") + "/" + s)
	if err != nil {
		f.t.Fatal(err)
	}
	return ref
}

// crane's client pushes and pulls images of both kinds and an index of several platforms, by tag
// and by digest. validate downloads everything and checks digests and sizes.
func TestClient(t *testing.T) {
	f := newFixture(t, nil)
	index, err := random.Index(2000, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	oci, err := random.Image(1000, 5)
	if err != nil {
		t.Fatal(err)
	}
	docker := mutate.MediaType(oci, types.DockerManifestSchema2)
	oci = mutate.ConfigMediaType(mutate.MediaType(oci, types.OCIManifestSchema1), types.OCIConfigJSON)

	for _, err := range []error{
		remote.WriteIndex(f.ref("multi/arch:latest"), index),
		remote.Write(f.ref("single/oci:v1"), oci),
		remote.Write(f.ref("single/docker:v1"), docker),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"multi/arch:latest", "multi/arch@" + d.String()} {
		got, err := remote.Index(f.ref(s))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(got); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for s, want := range map[string]v1.Image{"single/oci:v1": oci, "single/docker:v1": docker} {
		got, err := remote.Image(f.ref(s))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(got); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if g, w := digestOf(t, got), digestOf(t, want); g != w {
			t.Errorf("%s: %s, want %s", s, g, w)
		}
	}
	tags, err := remote.List(f.ref("multi/arch:latest").Context())
	if err != nil || len(tags) != 1 || tags[0] != "latest" {
		t.Errorf("tags %v, %v", tags, err)
	}
}

func digestOf(t *testing.T, image v1.Image) v1.Hash {
	t.Helper()
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Concurrent pushes of the same layers, each for an image of its own, into one and
// into several repositories.
func TestClient_concurrentPushes(t *testing.T) {
	f := newFixture(t, nil)
	base, err := random.Image(20_000, 4)
	if err != nil {
		t.Fatal(err)
	}
	var (
		group  errgroup.Group
		mu     sync.Mutex
		pushed = map[string]v1.Hash{}
	)
	for _, s := range []string{"a:1", "a:2", "a:3", "a:4", "b:1", "b:2", "c/d:1", "c/d:2"} {
		group.Go(func() error {
			layer, err := random.Layer(5000, types.DockerLayer)
			if err != nil {
				return err
			}
			image, err := mutate.AppendLayers(base, layer)
			if err != nil {
				return err
			}
			if err := remote.Write(f.ref(s), image); err != nil {
				return err
			}
			d, err := image.Digest()
			mu.Lock()
			defer mu.Unlock()
			pushed[s] = d
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for s, want := range pushed {
		got, err := remote.Image(f.ref(s))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(got); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if d := digestOf(t, got); d != want {
			t.Errorf("%s: %s, want %s", s, d, want)
		}
	}
}

// Locations are relative, so the API works over TLS and HTTP/2 behind any name.
func TestClient_http2(t *testing.T) {
	f := newFixture(t, nil)
	server := httptest.NewUnstartedServer(f.api)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "https://") + "/h2/x:latest")
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(100_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	transport := remote.WithTransport(server.Client().Transport)
	if err := remote.Write(ref, image, transport); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(ref, transport)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
	resp, err := server.Client().Head(server.URL + "/v2/h2/x/tags/list")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}
}
