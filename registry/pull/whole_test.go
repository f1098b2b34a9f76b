package pull

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// pushIndex pushes an index of the image and of one for another platform, with a signature of the
// latter, and returns the layer of that and the one of the signature.
func (f *fixture) pushIndex() (other, signed []byte) {
	f.t.Helper()
	other, signed = []byte(strings.Repeat("arm", 5000)), []byte("signed")
	arm, armDigest := f.pushManifest("arm", other)
	f.pushManifest(strings.Replace(armDigest.String(), ":", "-", 1)+".sig", signed)
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[
		{"mediaType":%[2]q,"digest":%[3]q,"size":%[4]d,"platform":{"os":"linux","architecture":"amd64"}},
		{"mediaType":%[2]q,"digest":%[5]q,"size":%[6]d,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}}]}`,
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, f.manifest, len(f.body), armDigest, len(arm))
	f.push(http.MethodPut, "manifests/multi", ocispec.MediaTypeImageIndex, body)
	return other, signed
}

func (f *fixture) wantNoBlob(d digest.Digest) {
	f.t.Helper()
	if _, err := f.store.Blobs.Stat(f.t.Context(), here, d); !errors.Is(err, store.ErrNotFound) {
		f.t.Errorf("blob %s: %v", d, err)
	}
}

func TestPuller_Fetch(t *testing.T) {
	f := newFixture(t)
	other, signed := f.pushIndex()
	var last Fetched
	var stored store.Manifest
	whole, err := f.Fetch(t.Context(), here, "multi", FetchOptions{
		Stored: func(_ context.Context, m store.Manifest) error {
			stored = m
			f.wantNoBlob(f.blob)
			return nil
		},
		Progress: func(p Fetched) { last = p },
	})
	if err != nil || whole.Unasked != nil {
		t.Fatal(err, whole.Unasked)
	}
	bytes := int64(len(f.layer) + len(other) + len(signed) + 2) // and the config of all
	if want := (Fetched{4, 4, bytes, bytes}); last != want || whole.Fetched != want {
		t.Errorf("fetched %+v, told last %+v", whole.Fetched, last)
	}
	if !strings.Contains(string(stored.Body), "arm64") {
		t.Errorf("told of %s", stored.Body)
	}
	for _, content := range [][]byte{f.layer, other, signed} {
		f.wantStored(digest.FromBytes(content), content)
	}

	f.server.Close() // what is whole needs no upstream, and the signature that might be new is named
	whole, err = f.Fetch(t.Context(), here, "multi", FetchOptions{})
	if err != nil || whole.Blobs != 4 || whole.Unasked == nil {
		t.Errorf("without the upstream: %+v, %v", whole, err)
	}
}

func TestPuller_Fetch_platforms(t *testing.T) {
	f := newFixture(t)
	other, _ := f.pushIndex()
	for _, c := range []struct {
		platform v1.Platform
		has, not digest.Digest
	}{
		{v1.Platform{OS: "linux", Architecture: "arm64"}, digest.FromBytes(other), f.blob},
		{v1.Platform{OS: "linux", Architecture: "amd64"}, f.blob, digest.FromBytes(other)},
	} {
		f.open(f.client)
		f.SetRoutes([]Route{{Prefix: "hub", Source: f.client, Platforms: []v1.Platform{c.platform}}})
		if _, err := f.Fetch(t.Context(), here, "multi", FetchOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.store.Blobs.Stat(t.Context(), here, c.has); err != nil {
			t.Errorf("%s: %v", c.platform, err)
		}
		f.wantNoBlob(c.not)
	}
}

func TestPuller_Fetch_failures(t *testing.T) {
	deny := func(part string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, part) {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return false
		}
	}
	for name, c := range map[string]struct {
		part      string
		is, whole bool
	}{
		"a layer":     {"/blobs/", false, false},
		"a manifest":  {"manifests/sha256:", false, false},
		"a signature": {".sig", true, false},
		"referrers":   {"/referrers/", true, false},
		"nothing":     {"/nothing/", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.pushIndex()
			f.misbehave(deny(c.part))
			whole, err := f.Fetch(t.Context(), here, "multi", FetchOptions{})
			if err == nil != c.is || err == nil && (whole.Unasked == nil) != c.whole {
				t.Errorf("%+v, %v", whole, err)
			}
			f.misbehave(nil)
			if whole, err := f.Fetch(t.Context(), here, "multi", FetchOptions{}); err != nil || whole.Unasked != nil {
				t.Errorf("again: %+v, %v", whole, err)
			}
		})
	}
	t.Run("told not to", func(t *testing.T) {
		f := newFixture(t)
		stop := errors.New("stop")
		_, err := f.Fetch(t.Context(), here, "v1", FetchOptions{Stored: func(context.Context, store.Manifest) error { return stop }})
		if !errors.Is(err, stop) {
			t.Error(err)
		}
		f.wantNoBlob(f.blob)
	})
}
