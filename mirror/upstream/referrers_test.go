package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func indexOf(names ...string) []byte {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for _, name := range names {
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 10, ArtifactType: "application/" + name})
	}
	index.SchemaVersion = 2
	body, _ := json.Marshal(index)
	return body
}

func referrerNames(list []ocispec.Descriptor) string {
	var names []string
	for _, d := range list {
		names = append(names, strings.TrimPrefix(d.ArtifactType, "application/"))
	}
	return strings.Join(names, " ")
}

func TestClient_Referrers_byAPIOrTag(t *testing.T) {
	fallback := "/manifests/sha256-"
	for name, test := range map[string]struct {
		fault func(f *fixture, w http.ResponseWriter, r *http.Request) bool
		want  string
		err   int // status of the error
	}{
		"of several pages": {fault: func(f *fixture, w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				return false
			}
			if r.URL.Query().Get("page") == "" {
				w.Header().Set("Link", fmt.Sprintf(`<%s?page=2>; rel="next"`, r.URL.Path))
				_, _ = w.Write(indexOf("a", "b"))
				return true
			}
			_, _ = w.Write(indexOf("c"))
			return true
		}, want: "a b c"},
		"by the tag without the API": {fault: func(f *fixture, w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, fallback) {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				_, _ = w.Write(indexOf("t"))
				return true
			}
			if strings.Contains(r.URL.Path, "/referrers/") {
				http.NotFound(w, r)
				return true
			}
			return false
		}, want: "t"},
		"by the tag where the API is a web page": {fault: func(f *fixture, w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, fallback) {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				_, _ = w.Write(indexOf("t"))
				return true
			}
			if strings.Contains(r.URL.Path, "/referrers/") {
				_, _ = w.Write([]byte("<html>"))
				return true
			}
			return false
		}, want: "t"},
		"none by either": {fault: func(f *fixture, w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, fallback) || strings.Contains(r.URL.Path, "/referrers/") {
				http.NotFound(w, r)
				return true
			}
			return false
		}},
		"a refusal is an error": {fault: func(f *fixture, w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/referrers/") {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return false
		}, err: http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool { return test.fault(f, w, r) }
			list, err := f.client(t).Referrers(t.Context(), repo, f.manifest)
			if test.err != 0 {
				if e := asError(t, err); e.Status != test.err || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("got %v", err)
				}
				return
			}
			if got := referrerNames(list); err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestClient_Referrers_endlessPages(t *testing.T) {
	f := newFixture(t)
	f.fault = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, nth))
		_, _ = w.Write(indexOf("a"))
		return true
	}
	if _, err := f.client(t).Referrers(t.Context(), repo, f.manifest); err == nil {
		t.Error("the pages have no end")
	}
	if n := f.count("GET", "/referrers/"+f.manifest.String()); n > maxReferrerPages {
		t.Errorf("%d requests", n)
	}
}

func TestClient_Referrers_links(t *testing.T) {
	const next = "/v2/" + repo + "/referrers/x?page=2"
	for name, tc := range map[string]struct {
		link, want string
	}{
		"relative":          {`<` + next + `>; rel="next"`, "a b"},
		"absolute":          {`<HOST` + next + `>; rel=next`, "a b"},
		"among other links": {`</x>; rel="prev", <` + next + `>; title="t"; rel="next"`, "a b"},
		"to another host":   {`<http://127.0.0.1:1` + next + `>; rel="next"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				switch {
				case r.URL.Query().Get("page") == "2":
					_, _ = w.Write(indexOf("b"))
				case strings.Contains(r.URL.Path, "/referrers/"):
					w.Header().Set("Link", strings.ReplaceAll(tc.link, "HOST", f.server.URL))
					_, _ = w.Write(indexOf("a"))
				default:
					return false
				}
				return true
			}
			list, err := f.client(t).Referrers(t.Context(), repo, f.manifest)
			if tc.want == "" {
				wantText(t, asError(t, err).Error(), "list referrers", "page")
			} else if got := referrerNames(list); err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}
