package upstream

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

func TestClient_Resolve_byHeadOrGet(t *testing.T) {
	refuse := func(status int) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(status)
			}
			return r.Method == http.MethodHead
		}
	}
	for name, test := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request, int) bool
		gets  int
	}{
		"HEAD is enough":        {nil, 0},
		"HEAD is not allowed":   {refuse(http.StatusMethodNotAllowed), 1},
		"HEAD is forbidden":     {refuse(http.StatusForbidden), 1},
		"HEAD has no digest":    {refuse(http.StatusOK), 1},
		"HEAD is not supported": {refuse(http.StatusNotImplemented), 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.fault = test.fault
			desc, err := f.client(t).Resolve(t.Context(), repo, "v1")
			if err != nil {
				t.Fatal(err)
			}
			if desc.Digest != f.manifest || desc.Size != int64(len(f.body)) || desc.MediaType != ocispec.MediaTypeImageManifest {
				t.Errorf("got %+v", desc)
			}
			if got := f.count("GET", "/manifests/v1"); got != test.gets {
				t.Errorf("%d GETs, want %d", got, test.gets)
			}
		})
	}
	t.Run("an absent manifest is requested once", func(t *testing.T) {
		f := newFixture(t)
		_, err := f.client(t).Resolve(t.Context(), repo, "v9")
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if got := f.count("GET", "/manifests/v9"); got != 0 {
			t.Errorf("%d GETs after a HEAD with 404", got)
		}
	})
}

func TestClient_Manifest_readsWhatWasAsked(t *testing.T) {
	f := newFixture(t)
	c := f.client(t)
	for _, ref := range []string{"v1", f.manifest.String()} {
		desc, body, err := c.Manifest(t.Context(), repo, ref)
		if err != nil {
			t.Fatal(err)
		}
		if string(body) != string(f.body) || desc.Digest != f.manifest || desc.MediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("%s: got %+v", ref, desc)
		}
	}
	accept := f.seen[len(f.seen)-1].Header.Values("Accept")
	wantText(t, strings.Join(accept, " "), image.MediaTypeDockerManifest, image.MediaTypeDockerList, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, "*/*")
}

func TestClient_Manifest_refuses(t *testing.T) {
	answer := func(body, contentType string, d digest.Digest) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", contentType)
			if d != "" {
				w.Header().Set("Docker-Content-Digest", d.String())
			}
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	other := digest.FromString("other")
	for name, test := range map[string]struct {
		ref, body, contentType string
		header                 digest.Digest
		says                   string
	}{
		"content with another digest":  {other.String(), "{}", ocispec.MediaTypeImageIndex, other, "not to " + other.String()},
		"more than 4 MiB":              {"v1", strings.Repeat(" ", image.MaxManifestBytes+1), ocispec.MediaTypeImageIndex, "", "larger than"},
		"schema 1 by its content type": {"v1", "{}", image.MediaTypeDockerSchema1 + "+prettyjws", "", "schema 1"},
		"schema 1 by its body":         {"v1", `{"schemaVersion":1}`, "application/json", "", "schema 1"},
		"a login page, said to be":     {"v1", "<html>", "text/html; charset=utf-8", "", "a web page"},
		"a login page":                 {"v1", "<html>", "text/plain", "", "not an image manifest"},
		"JSON that is not a manifest":  {"v1", "{}", "application/json", "", "not an image manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.fault = answer(test.body, test.contentType, test.header)
			_, _, err := f.client(t).Manifest(t.Context(), repo, test.ref)
			e := asError(t, err)
			wantText(t, e.Error(), f.host(), repo, "get manifest "+test.ref, test.says)
			if errors.Is(err, fs.ErrNotExist) {
				t.Error("damage is taken for absence")
			}
			if got := f.count("GET", "/manifests/"+test.ref); got != 1 {
				t.Errorf("%d requests", got)
			}
		})
	}
}

func TestClient_Manifest_bytesDecideOverTheContentType(t *testing.T) {
	for name, test := range map[string]struct{ body, header, want string }{
		"a page":                       {`{"schemaVersion":2,"config":{"size":2}}`, "text/html", ocispec.MediaTypeImageManifest},
		"no header":                    {`{"schemaVersion":2,"config":{"size":2}}`, "", ocispec.MediaTypeImageManifest},
		"another that it names":        {`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"size":2}}`, image.MediaTypeDockerManifest, ocispec.MediaTypeImageManifest},
		"an image where it is a list":  {`{"schemaVersion":2,"manifests":[]}`, image.MediaTypeDockerManifest, ocispec.MediaTypeImageIndex},
		"one that it does not name":    {`{"schemaVersion":2,"config":{"size":2}}`, image.MediaTypeDockerManifest, image.MediaTypeDockerManifest},
		"a list that it does not name": {`{"schemaVersion":2,"manifests":[]}`, image.MediaTypeDockerList, image.MediaTypeDockerList},
	} {
		got, err := mediaTypeOf([]byte(test.body), test.header)
		if err != nil || got != test.want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	f := newFixture(t)
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			return false
		}
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Docker-Content-Digest", f.manifest.String())
		_, _ = w.Write(f.body)
		return true
	}
	var log strings.Builder
	c := f.client(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	desc, err := c.Resolve(t.Context(), repo, "v1") // by GET, since HEAD tells nothing
	if err != nil || desc.Digest != f.manifest || desc.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("got %+v, %v", desc, err)
	}
	wantText(t, log.String(), "level=WARN", "Content-Type", "text/html", ocispec.MediaTypeImageManifest)
}

func TestClient_Manifest_mediaTypeOfItsBody(t *testing.T) {
	for body, want := range map[string]string{
		`{"mediaType":"a/b"}`:                     "a/b",
		`{"schemaVersion":2,"manifests":[]}`:      ocispec.MediaTypeImageIndex,
		`{"schemaVersion":2,"config":{"size":2}}`: ocispec.MediaTypeImageManifest,
	} {
		got, err := mediaTypeOf([]byte(body), "application/json; charset=utf-8")
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v", body, got, err)
		}
	}
}

func TestClient_Manifest_isRetriedWhenTheConnectionBreaks(t *testing.T) {
	f := newFixture(t)
	f.fault = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/v1") && nth < 3 {
			sendPart(w, f.body, 10)
			cut()
		}
		return false
	}
	_, body, err := f.client(t).Manifest(t.Context(), repo, "v1")
	if err != nil || string(body) != string(f.body) {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestClient_Manifest_bytesDecideOverTheHeader(t *testing.T) {
	f := newFixture(t)
	wrong := digest.FromString("other")
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", wrong.String())
		_, _ = w.Write(f.body)
		return true
	}
	var log strings.Builder
	c := f.client(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	desc, _, err := c.Manifest(t.Context(), repo, "v1")
	if err != nil || desc.Digest != f.manifest {
		t.Errorf("got %+v, %v", desc, err)
	}
	wantText(t, log.String(), "level=WARN", wrong.String(), f.manifest.String())
}
