package node_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/node"
	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/finding"
)

// fixture is a mirror with a release: the sample upstream, whose answers may be others.
type fixture struct {
	*sample.Content
	t      *testing.T
	server *httptest.Server
	answer func(w http.ResponseWriter, r *http.Request) bool // true: answered
	facts  node.Facts
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t}
	inner := func() http.Handler { return f.Handler() }
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.answer == nil || !f.answer(w, r) {
			inner().ServeHTTP(w, r)
		}
	}))
	f.server.EnableHTTP2 = true
	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	host := f.server.Listener.Addr().String()
	var err error
	if f.Content, err = sample.New("registry.vendor.example:5000"); err != nil {
		t.Fatal(err)
	}
	f.facts = node.Facts{
		Sources: cluster.Sources{{Source: "registry.vendor.example:5000", Mirrors: []string{host}}},
		Bundle:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw}),
	}
	release, _ := f.Release("4.18.2", "amd64")
	f.facts.Releases = []string{release.Payload}
	return f
}

// found returns what was found, by check; of several the worst.
func (f *fixture) found() map[string]finding.Finding {
	f.t.Helper()
	order := map[finding.Level]int{finding.OK: 0, finding.Warning: 1, finding.Failed: 2}
	found := map[string]finding.Finding{}
	err := node.Check(context.Background(), f.facts, node.Options{Tell: func(one finding.Finding) {
		if before, known := found[one.Check]; !known || order[one.Level] > order[before.Level] {
			found[one.Check] = one
		}
	}, Progress: func(int, int) {}})
	if err != nil {
		f.t.Error(err)
	}
	return found
}

func (f *fixture) wants(check string, level finding.Level, text string) {
	f.t.Helper()
	if got := f.found()[check]; got.Level != level || !strings.Contains(got.Text, text) {
		f.t.Errorf("%+v, want %s: %s", got, level, text)
	}
}

func TestCheck(t *testing.T) {
	f := newFixture(t)
	for _, check := range []string{"name", "certificate", "clock", "release", "mirrors", "images", "signatures", "boot image"} {
		if got := f.found()[check]; got.Level != finding.OK {
			t.Errorf("%s: %+v", check, got)
		}
	}
}

// Of the answers about a signature that is not there, nodes accept these.
func TestCheck_signatures(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		level  finding.Level
	}{
		"MANIFEST_UNKNOWN":     {404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`, finding.OK},
		"UNKNOWN":              {404, `{"errors":[{"code":"UNKNOWN","message":"artifact sha256-a.sig not found"}]}`, finding.OK},
		"no body":              {404, ``, finding.OK},
		"NAME_UNKNOWN":         {404, `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`, finding.Failed},
		"UNKNOWN, another one": {404, `{"errors":[{"code":"UNKNOWN","message":"no"}]}`, finding.Failed},
		"403":                  {403, `{"errors":[{"code":"DENIED","message":"denied"}]}`, finding.Failed},
		"500":                  {500, ``, finding.Failed},
		"a page":               {200, `<html>log in</html>`, finding.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, ".sig") {
					return false
				}
				if strings.HasPrefix(c.body, "{") {
					w.Header().Set("Content-Type", "application/json")
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
				return true
			}
			f.wants("signatures", c.level, "")
		})
	}
}

func TestCheck_clock(t *testing.T) {
	f := newFixture(t)
	f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		return false
	}
	f.wants("clock", finding.Warning, "it is 1h0m")
}

func TestCheck_layerThatIsNotThere(t *testing.T) {
	f := newFixture(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	f.wants("images", finding.Failed, "404")
}

// The installer asks the first mirror only.
func TestCheck_secondMirror(t *testing.T) {
	f := newFixture(t)
	host := f.server.Listener.Addr().String()
	f.facts.Sources[0].Mirrors = []string{host + "/first", host}
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v2/first/") {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	f.wants("mirrors", finding.Warning, "which comes first, does not")
	f.wants("images", finding.OK, "")
}

// beside adds a mirror behind the first, whose answers may be others.
func (f *fixture) beside(answer func(w http.ResponseWriter, r *http.Request) bool) (host string) {
	f.t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer == nil || !answer(w, r) {
			f.Handler().ServeHTTP(w, r)
		}
	}))
	f.t.Cleanup(server.Close)
	host = server.Listener.Addr().String()
	f.facts.Sources[0].Mirrors = append(f.facts.Sources[0].Mirrors, host)
	return host
}

// Each registry has to have all, and what one lacks is told of that one: of an image that a source names, and of one
// that the first names.
func TestCheck_eachRegistry(t *testing.T) {
	notFound := func(w http.ResponseWriter, code string) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"none"}]}`, code)
		return true
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request) bool
		level  finding.Level
		text   string
	}{
		"whole": {nil, finding.OK, ""},
		"a manifest": {func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/manifests/sha256:") && notFound(w, "MANIFEST_UNKNOWN")
		}, finding.Warning, "SECOND"},
		"a layer": {func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/blobs/") && notFound(w, "BLOB_UNKNOWN")
		}, finding.Warning, "SECOND"},
		"a signature": {func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, ".sig") && notFound(w, "MANIFEST_UNKNOWN")
		}, finding.Warning, "has the signatures of 0 manifests"},
		"the answer about signatures": {func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, ".sig") && notFound(w, "NAME_UNKNOWN")
		}, finding.Warning, "nodes take this for an error"},
	} {
		for _, named := range []bool{false, true} {
			t.Run(fmt.Sprint(name, named), func(t *testing.T) {
				f := newFixture(t)
				second := f.beside(c.answer)
				if named {
					f.facts.Releases[0] = strings.Replace(f.facts.Releases[0], f.facts.Sources[0].Source, f.facts.Sources[0].Mirrors[0], 1)
				}
				f.wants("images", c.level, strings.ReplaceAll(c.text, "SECOND", second))
				f.wants("signatures", finding.OK, "")
				f.wants("release", finding.OK, "")
			})
		}
	}
}

// A first mirror that cannot be asked is told of once, and not as one that lacks images.
func TestCheck_firstMirrorIsDown(t *testing.T) {
	f := newFixture(t)
	f.beside(nil)
	f.server.Close()
	f.wants("certificate", finding.Failed, "no connection to ")
	f.wants("mirrors", finding.OK, "")
	f.wants("images", finding.OK, "")
}

// Of a list, hosts of one architecture may be all that it is for.
func TestCheck_sparse(t *testing.T) {
	f := newFixture(t)
	single, _ := f.Release("4.18.2", "arm64")
	release, _ := f.Release("4.18.2", "multi")
	f.facts.Releases = []string{release.Payload}
	gone := map[string]bool{}
	for _, image := range single.Components {
		_, d, _ := strings.Cut(image, "@")
		gone[d] = true
	}
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if d, err := digest.Parse(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]); err != nil || !gone[d.String()] {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	f.wants("images", finding.Warning, "but not those for arm64")
	f.facts.Machine = "x86_64"
	f.wants("images", finding.OK, "")
	f.facts.Machine = "aarch64"
	f.wants("images", finding.Failed, "404")
}

// What the files themselves have wrong is told.
func TestCheck_files(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *fixture)
		check  string
		level  finding.Level
		text   string
	}{
		"an entry without mirrors": {func(f *fixture) {
			f.facts.Releases[0] = strings.Replace(f.facts.Releases[0], f.facts.Sources[0].Source, f.facts.Sources[0].Mirrors[0], 1)
			f.facts.Sources[0].Mirrors = nil
		}, "mirrors", finding.Failed, "no mirror is named for registry.vendor.example:5000/"},
		"an entry of a registry":                {func(f *fixture) { f.facts.InstallConfig, f.facts.Policy = true, "Always" }, "mirrors", finding.Warning, "is of more than a repository"},
		"CAs for a proxy":                       {func(f *fixture) { f.facts.InstallConfig = true }, "certificate", finding.Warning, "is not Always"},
		"what an upstream may have yet to give": {func(f *fixture) { f.facts.Through = f.facts.Sources[0].Mirrors }, "images", finding.OK, "10 of 10 images are at an upstream's place"},
		"a signature of another type": {func(f *fixture) {
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, ".sig") {
					w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
					fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"a/b","digest":"%s","size":1},"layers":[]}`, digest.FromString("x"))
				}
				return strings.HasSuffix(r.URL.Path, ".sig")
			}
		}, "signatures", finding.Failed, "is of type"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.change(f)
			f.wants(c.check, c.level, c.text)
		})
	}
}

func TestReadRegistries(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registries.conf")
	text := `[[registry]]
location = "quay.io/a"
blocked = true
[[registry.mirror]]
location = "tags.example.com/a"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "mirror.example.com/a"
[[registry]]
location = "quay.io/b"
[[registry.mirror]]
location = "tags.example.com/b"
pull-from-mirror = "tag-only"
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := node.ReadRegistries(file)
	if err != nil || len(f.Sources) != 1 || !f.Sources[0].NeverContact || len(f.Sources[0].Mirrors) != 1 || f.Sources[0].Mirrors[0] != "mirror.example.com/a" {
		t.Errorf("%+v, %v", f.Sources, err)
	}
}
