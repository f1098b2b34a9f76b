package oci

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distribution/distribution/v3"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

func TestNew_refuses(t *testing.T) {
	for name, o := range map[string]Options{"no store": {Secret: []byte("x")}, "no secret": {Store: new(store.Store)}} {
		if a, err := New(t.Context(), o); err == nil {
			t.Errorf("%s: %v", name, a)
		}
	}
}

// Two in one process, as tests and a restart within one have them: distribution's global maps take a
// name once, and the options must not mix up the stores.
func TestNew_twice(t *testing.T) {
	one, other := newFixture(t, nil), newFixture(t, nil)
	one.pushImage("a", "latest", 1)
	other.do(http.StatusNotFound, "GET", "/v2/a/tags/list", nil)
	one.do(http.StatusOK, "GET", "/v2/a/tags/list", nil)
}

// The App wraps a repository into a listener that parses every manifest that passes. Ours comes back
// unwrapped, so nothing is parsed on the way out.
func TestApp_doesNotParse(t *testing.T) {
	if err := registerCounted(); err != nil {
		t.Fatal(err)
	}
	before := parsed.Load()
	f := newFixture(t, nil)
	put := f.putManifest("/v2/a/manifests/x", countedMediaType, []byte(`{"hello":"world"}`))
	w := httptest.NewRecorder()
	f.api.app.ServeHTTP(w, httptest.NewRequest("GET", put.Header.Get("Location"), nil))
	if w.Code != http.StatusOK || w.Body.String() != `{"hello":"world"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if n := parsed.Load() - before; n != 0 {
		t.Errorf("the App parsed a manifest %d times", n)
	}
}

const countedMediaType = "application/vnd.mirror-appliance.test.counted"

// parsed is how often distribution has parsed a manifest of countedMediaType.
var parsed atomic.Int32

// registerCounted acts once, like register: distribution's global map takes a media type once.
var registerCounted = sync.OnceValue(func() error {
	return distribution.RegisterManifestSchema(countedMediaType, func([]byte) (distribution.Manifest, ocispec.Descriptor, error) {
		parsed.Add(1)
		return nil, ocispec.Descriptor{}, errors.New("parsed")
	})
})

// Distribution's own storage is never touched: it refuses everything.
func TestNullDriver(t *testing.T) {
	d, err := nullFactory{}.Create(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var unsupported storagedriver.ErrUnsupportedMethod
	_, errGet := d.GetContent(t.Context(), "/x")
	_, errRead := d.Reader(t.Context(), "/x", 0)
	_, errWrite := d.Writer(t.Context(), "/x", false)
	_, errStat := d.Stat(t.Context(), "/x")
	_, errList := d.List(t.Context(), "/x")
	_, errRedirect := d.RedirectURL(nil, "/x")
	for i, err := range []error{errGet, errRead, errWrite, errStat, errList, errRedirect, d.PutContent(t.Context(), "/x", nil),
		d.Move(t.Context(), "/x", "/y"), d.Delete(t.Context(), "/x"), d.Walk(t.Context(), "/", nil)} {
		if !errors.As(err, &unsupported) {
			t.Errorf("%d: %v", i, err)
		}
	}
}
