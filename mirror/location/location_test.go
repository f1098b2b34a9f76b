package location_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/location"
	"github.com/mirror-appliance/appliance/mirror/sourcetest"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// silent is a registry at which nothing listens.
const silent = "127.0.0.1:1"

// place is a registry that counts what it is asked.
type place struct {
	host string

	mu    sync.Mutex // guards asked
	asked []string
}

func newPlace(t *testing.T, handler http.Handler) *place {
	t.Helper()
	p := &place{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			p.mu.Lock()
			p.asked = append(p.asked, r.Method+" "+r.URL.Path)
			p.mu.Unlock()
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.host = server.Listener.Addr().String()
	return p
}

// withImage returns a registry that has an image, and its digest.
func withImage(t *testing.T, repository string) (*place, digest.Digest) {
	t.Helper()
	p := newPlace(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(p.host+"/"+repository+":v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	p.requests()
	return p, digest.Digest(d.String())
}

// requests returns what was asked since the last call.
func (p *place) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

// read returns what a registries.conf leads to.
func read(t *testing.T, conf string) (*location.Locations, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "registries.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_REGISTRIES_CONF", file)
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true, Retries: 1,
			Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}, nil
	})
	t.Cleanup(registries.Close)
	return location.Read("", func(p location.Place) (location.Source, error) {
		return registries.Repository(p.Registry, p.Repository)
	}, slog.New(slog.DiscardHandler))
}

func open(t *testing.T, conf, registry, repository string) location.Source {
	t.Helper()
	all, err := read(t, conf)
	if err != nil {
		t.Fatal(err)
	}
	s, err := all.Open(registry, repository)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLocations_Open_isSource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, c sourcetest.Content) mirror.Source {
		p := newPlace(t, c.Handler())
		return open(t, fmt.Sprintf("[[registry]]\nprefix=%q\nlocation=%[1]q\nblocked=true\n[[registry.mirror]]\nlocation=%[2]q\n[[registry.mirror]]\nlocation=%[3]q\n",
			silent+"/far", p.host+"/none", p.host+"/a"), silent, "far/b")
	})
}

func TestLocations_Open_readsWhereTheFileSays(t *testing.T) {
	good, d := withImage(t, "copy/app")
	empty := newPlace(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	mirrors := func(lines string, places ...string) string {
		conf := fmt.Sprintf("[[registry]]\nprefix=%q\nlocation=%q\n%s\n", silent+"/ns", silent+"/ns", lines)
		for _, p := range places {
			conf += fmt.Sprintf("[[registry.mirror]]\nlocation=%s\n", p)
		}
		return conf
	}
	quoted := func(s string) string { return fmt.Sprintf("%q", s) }
	copies, none := quoted(good.host+"/copy"), quoted(empty.host+"/copy")
	for name, test := range map[string]struct {
		conf, registry string
		tag, digest    bool
	}{
		"at a mirror":                     {mirrors("", copies), silent, true, true},
		"at the second mirror":            {mirrors("", none, copies), silent, true, true},
		"at the second, after silence":    {mirrors("", quoted(silent+"/x"), copies), silent, true, true},
		"by digest only":                  {mirrors("mirror-by-digest-only=true", copies), silent, false, true},
		"by digest only, of one mirror":   {mirrors("", copies+"\npull-from-mirror=\"digest-only\""), silent, false, true},
		"by tag only, of one mirror":      {mirrors("", copies+"\npull-from-mirror=\"tag-only\""), silent, true, false},
		"although itself is blocked":      {mirrors("blocked=true", copies), silent, true, true},
		"elsewhere":                       {fmt.Sprintf("[[registry]]\nprefix=%q\nlocation=%s\n", silent+"/ns", copies), silent, true, true},
		"below a wildcard":                {fmt.Sprintf("[[registry]]\nprefix=\"*.example.invalid\"\nlocation=%s\n", copies), "quay.example.invalid", true, true},
		"by the longest prefix":           {mirrors("", none) + fmt.Sprintf("[[registry]]\nprefix=%q\nlocation=%s\n", silent+"/ns/app", quoted(good.host+"/copy/app")), silent, true, true},
		"not at a mirror that is blocked": {mirrors("", copies) + fmt.Sprintf("[[registry]]\nlocation=%s\nblocked=true\n", copies), silent, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			repository := "ns/app"
			if test.registry != silent {
				repository = "app"
			}
			s := open(t, test.conf, test.registry, repository)
			for ref, want := range map[string]bool{"v1": test.tag, d.String(): test.digest} {
				desc, body, err := s.Manifest(t.Context(), ref)
				if (err == nil) != want || want && (desc.Digest != d || len(body) == 0) {
					t.Errorf("%s: %s, %v", ref, desc.Digest, err)
				}
			}
		})
	}
}

// A dead mirror costs its retries once, and a repository stays where it was found.
func TestLocations_Open_asksAgainWhereItWasAnswered(t *testing.T) {
	good, d := withImage(t, "copy/app")
	empty := newPlace(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	s := open(t, fmt.Sprintf("[[registry]]\nlocation=%q\n[[registry.mirror]]\nlocation=%q\n[[registry.mirror]]\nlocation=%q\n", silent+"/ns", empty.host+"/copy", good.host+"/copy"), silent, "ns/app")
	for range 3 {
		if _, _, err := s.Manifest(t.Context(), d.String()); err != nil {
			t.Fatal(err)
		}
	}
	if got := empty.requests(); len(got) != 1 {
		t.Errorf("a mirror without the image was asked %q", got)
	}
	good.requests()
	signature := "sha256-" + d.Encoded() + ".sig"
	if _, _, err := s.Manifest(t.Context(), signature); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unsigned image: %v", err)
	}
	if got := slices.Concat(empty.requests(), good.requests()); !slices.Equal(got, []string{"GET /v2/copy/app/manifests/" + signature}) {
		t.Errorf("for the signature of an image, asked %q", got)
	}
}

func TestLocations_Open_tellsWhyAllFailed(t *testing.T) {
	empty := newPlace(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	s := open(t, fmt.Sprintf("[[registry]]\nlocation=%q\n[[registry.mirror]]\nlocation=%q\n", silent+"/ns", empty.host+"/copy"), silent, "ns/app")
	for range 2 {
		_, _, err := s.Manifest(t.Context(), "v1")
		if err == nil || !strings.Contains(err.Error(), empty.host) || !strings.Contains(err.Error(), silent) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	}
	s = open(t, fmt.Sprintf("[[registry]]\nlocation=%q\n[[registry.mirror]]\nlocation=%q\n", empty.host+"/ns", empty.host+"/copy"), empty.host, "ns/app")
	if _, _, err := s.Manifest(t.Context(), "v1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("all say that it does not exist: %v", err)
	}
}

func TestLocations_Open_refuses(t *testing.T) {
	all, err := read(t, "[[registry]]\nlocation=\"quay.io/ns\"\nblocked=true\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all.Open("quay.io", "ns/app"); err == nil || !strings.Contains(err.Error(), "quay.io/ns is blocked") || !strings.Contains(hint.Of(err), "registries.conf") {
		t.Errorf("a blocked registry: %v, hint %q", err, hint.Of(err))
	}
	if _, err := all.Open("quay.io", "other/app"); err != nil {
		t.Errorf("another namespace: %v", err)
	}
	for _, conf := range []string{"[[registry", "[registries.search]\nregistries=[\"quay.io\"]\n", "[[registry]]\nlocation=\"https://quay.io\"\n"} {
		if _, err := read(t, conf); err == nil || !strings.Contains(err.Error(), os.Getenv("CONTAINERS_REGISTRIES_CONF")) || hint.Of(err) == "" {
			t.Errorf("%q: %v", conf, err)
		}
	}
	if all, err = read(t, "[[registry]]\nlocation=\"quay.io\"\n[[registry.mirror]]\nlocation=\"proxy.example\"\nnamespace-proxy=\"quay.io\"\n"); err == nil {
		_, err = all.Open("quay.io", "ns/app")
	}
	if err == nil || !strings.Contains(err.Error(), "namespace-proxy is not supported yet") {
		t.Errorf("a proxy of namespaces: %v", err)
	}
}
