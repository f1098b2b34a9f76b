package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/desttest"
	"github.com/mirror-appliance/appliance/mirror/remote"
	"github.com/mirror-appliance/appliance/registry/oci"
	"github.com/mirror-appliance/appliance/registry/store"
)

// server is a registry that notes requests and that tests make misbehave.
type server struct {
	host     string
	handler  http.Handler
	sessions string // the directory of uploads that broke off

	mu       sync.Mutex // guards the rest
	requests []string
	fault    func(w http.ResponseWriter, r *http.Request) bool
}

func serve(t *testing.T, handler http.Handler) *server {
	t.Helper()
	s := &server{handler: handler, sessions: filepath.Join(t.TempDir(), "sessions")}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
		fault := s.fault
		s.mu.Unlock()
		if fault == nil || !fault(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(web.Close)
	s.host = strings.TrimPrefix(web.URL, "http://")
	return s
}

func (s *server) count(method, part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, method+" ") && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// fails makes the registry answer by fault, where it says that it did.
func (s *server) fails(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// plainRegistry is go-containerregistry's, which mounts nothing.
func plainRegistry(t *testing.T) *server {
	t.Helper()
	return serve(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
}

// appliance is our own, which mounts.
func appliance(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return serve(t, oci.New(oci.Options{Store: s}))
}

func open(t *testing.T, s *server) *remote.Run {
	t.Helper()
	r, err := remote.Open(remote.Options{Registry: s.host, PlainHTTP: true, UserAgent: "test", Sessions: s.sessions})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func hasBlob(ctx context.Context, r *remote.Run, repo string, d digest.Digest) (bool, error) {
	existing, _, _, err := r.Existing(ctx, map[string][]digest.Digest{repo: {d}}, nil)
	return len(existing[repo]) == 1, err
}

func blob(text string) ([]byte, ocispec.Descriptor) {
	data := []byte(text)
	return data, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// image is a manifest of one blob that is its config and its layer.
func image(b ocispec.Descriptor) ([]byte, ocispec.Descriptor) {
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, b.Digest, b.Size, b.MediaType, b.Digest, b.Size)
	return body, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
}

func TestRun_isDestination(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *server{"go-containerregistry": plainRegistry, "appliance": appliance} {
		t.Run(name, func(t *testing.T) {
			desttest.Run(t, func(t *testing.T) desttest.Place {
				s := start(t)
				return desttest.Place{
					Begin: func(context.Context) (mirror.Destination, error) { return open(t, s), nil },
					Manifest: func(_ context.Context, repo, ref string) ([]byte, error) {
						if body := get(t, s, repo, ref); body != "" {
							return []byte(body), nil
						}
						return nil, fs.ErrNotExist
					},
				}
			})
		})
	}
}

// get reads a manifest as any client would; "" if there is none.
func get(t *testing.T, s *server, repo, ref string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.host+"/v2/"+repo+"/manifests/"+ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Accept"] = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusNotFound {
		return ""
	}
	return string(data)
}

func TestRun_Existing(t *testing.T) {
	s := plainRegistry(t)
	r := open(t, s)
	want, ask := map[string][]digest.Digest{}, map[string][]digest.Digest{}
	for i := range 50 {
		repo := fmt.Sprint("repo", i%5)
		data, desc := blob(fmt.Sprint("layer ", i))
		ask[repo] = append(ask[repo], desc.Digest)
		if i%3 == 0 {
			if err := r.PutBlob(t.Context(), repo, desc, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			want[repo] = append(want[repo], desc.Digest)
		}
	}
	existing, _, _, err := r.Existing(t.Context(), ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, lists := range []map[string][]digest.Digest{existing, want} {
		for _, list := range lists {
			slices.Sort(list)
		}
	}
	if !maps.EqualFunc(existing, want, slices.Equal) {
		t.Errorf("existing are %v, want %v", existing, want)
	}
	t.Run("what it cannot tell of one, it tells of none", func(t *testing.T) {
		s.fails(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodHead || !strings.Contains(r.URL.Path, "repo3") {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			return true
		})
		_, _, _, err := open(t, s).Existing(t.Context(), ask, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "destination registry "+s.host+": ") || !strings.Contains(err.Error(), "400") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("until it is called off", func(t *testing.T) {
		r := open(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		s.fails(func(_ http.ResponseWriter, r *http.Request) bool {
			cancel()
			<-r.Context().Done()
			return true
		})
		if _, _, _, err := r.Existing(ctx, ask, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestOpen_plainHTTPOnlyWhenAskedFor(t *testing.T) {
	s := plainRegistry(t)
	r, err := remote.Open(remote.Options{Registry: s.host})
	if err != nil {
		t.Fatal(err)
	}
	_, desc := blob("x")
	if _, err := hasBlob(t.Context(), r, "a", desc.Digest); err == nil {
		t.Error("a plain registry was taken for one with TLS")
	}
	if n := s.count("", "/"); n != 0 {
		t.Errorf("%d requests went out in the clear: %v", n, s.requests)
	}
}

func TestRun_Hint(t *testing.T) {
	s := plainRegistry(t)
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	body, m := image(ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1})
	err := open(t, s).PutManifest(t.Context(), "a", m, body)
	if !strings.Contains(hint.Of(err), "podman login "+s.host) {
		t.Errorf("error %v", err)
	}
}

func TestRun_cancelled(t *testing.T) {
	s := plainRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		io.Copy(io.Discard, r.Body) // until then the server does not notice that the client has gone
		cancel()
		<-r.Context().Done()
		return true
	}
	data, desc := blob("some layer")
	if err := open(t, s).PutBlob(ctx, "a", desc, bytes.NewReader(data)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestCommit_aTagThatIsRightIsLeftAlone(t *testing.T) {
	s := plainRegistry(t)
	data, desc := blob("x")
	body, m := image(desc)
	other, n := image(ocispec.Descriptor{MediaType: desc.MediaType + "2", Digest: desc.Digest, Size: desc.Size})
	commit := func(tags map[string]digest.Digest) {
		t.Helper()
		r := open(t, s)
		for _, err := range []error{
			r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)), r.PutManifest(t.Context(), "a", m, body), r.PutManifest(t.Context(), "a", n, other),
			r.Tag(t.Context(), map[string]map[string]digest.Digest{"a": tags}), r.Commit(t.Context()),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	commit(map[string]digest.Digest{"same": m.Digest, "moves": m.Digest})
	commit(map[string]digest.Digest{"same": m.Digest, "moves": n.Digest})
	if a, b := s.count(http.MethodPut, "/manifests/same"), s.count(http.MethodPut, "/manifests/moves"); a != 1 || b != 2 {
		t.Errorf("the tag that stays was set %d times and the other %d times", a, b)
	}
	if get(t, s, "a", "same") != string(body) || get(t, s, "a", "moves") != string(other) {
		t.Error("a tag names something else")
	}
}

// Some registries do not let a tag be moved.
func TestCommit_aTagThatIsRefusedStopsNoOther(t *testing.T) {
	s := plainRegistry(t)
	r := open(t, s)
	data, desc := blob("x")
	body, m := image(desc)
	const others = 100
	tags := map[string]digest.Digest{}
	for i := range others {
		tags[fmt.Sprint("v", i)] = m.Digest
	}
	for _, err := range []error{
		r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)), r.PutManifest(t.Context(), "a", m, body),
		r.Tag(t.Context(), map[string]map[string]digest.Digest{"a": {"fixed": m.Digest}}), r.Tag(t.Context(), map[string]map[string]digest.Digest{"a": tags}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/manifests/fixed") {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	err := r.Commit(t.Context())
	if err == nil || !strings.Contains(err.Error(), "destination registry "+s.host+": tag a:fixed: ") {
		t.Errorf("error %v", err)
	}
	if n := s.count(http.MethodPut, "/v2/a/manifests/v"); n != others {
		t.Errorf("%d of %d other tags were set", n, others)
	}
	t.Run("and an error has an end", func(t *testing.T) {
		s.fails(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return true })
		err := r.Commit(t.Context())
		if err == nil || strings.Count(err.Error(), "\n") != 10 || !strings.Contains(err.Error(), "and 91 other tags") {
			t.Errorf("error %v", err)
		}
	})
}
