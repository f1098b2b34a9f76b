package follow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/follow"
	"github.com/mirror-appliance/appliance/registry/oci"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/storetest"
)

// host is an appliance as far as followers see it: a store, /v2 and the control API over TLS.
type host struct {
	*store.Store
	t      testing.TB
	ctx    context.Context
	dir    string
	place  storetest.Place
	server *httptest.Server
	page   int // of its followers; 0: as always

	mu       sync.Mutex
	handler  http.Handler
	wrap     func(http.Handler) http.Handler
	requests map[string]int // by kind, see kindOf
}

func newHost(t testing.TB) *host {
	t.Helper()
	dir := t.TempDir()
	return newHostAt(t, dir, storetest.New(t, dir))
}

// newFileHost is newHost for a test of another process or of the files themselves.
func newFileHost(t testing.TB) *host {
	t.Helper()
	return newHostIn(t, t.TempDir())
}

func newHostIn(t testing.TB, dir string) *host {
	t.Helper()
	return newHostAt(t, dir, storetest.Files(dir))
}

func newHostAt(t testing.TB, dir string, place storetest.Place) *host {
	t.Helper()
	h := &host{t: t, ctx: context.Background(), dir: dir, place: place, requests: map[string]int{}}
	h.open()
	h.server = httptest.NewTLSServer(http.HandlerFunc(h.serve))
	t.Cleanup(func() {
		h.server.Close()
		h.must(h.Close())
	})
	return h
}

func (h *host) open() {
	h.t.Helper()
	s, err := store.Open(h.ctx, h.place.Options)
	h.must(err)
	mux := http.NewServeMux()
	mux.Handle("/v2/", oci.New(oci.Options{Store: s}))
	mux.Handle("/api/", admin.NewHandler(admin.Options{Store: s, Drain: h.ctx}))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Store, h.handler = s, mux
}

// reopen is a restart. Nothing may use the store.
func (h *host) reopen() {
	h.t.Helper()
	h.must(h.Close())
	h.open()
}

func (h *host) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.requests[kindOf(r)]++
	handler := h.handler
	if h.wrap != nil {
		handler = h.wrap(handler)
	}
	h.mu.Unlock()
	handler.ServeHTTP(w, r)
}

// through has requests go through a handler before the host's, until the function that it returns is called.
func (h *host) through(wrap func(http.Handler) http.Handler) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrap = wrap
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.wrap = nil
	}
}

func kindOf(r *http.Request) string {
	for _, kind := range []string{"/changes", "/followers", "/manifests/", "/blobs/"} {
		if strings.Contains(r.URL.Path, kind) {
			return r.Method + " " + strings.Trim(kind, "/")
		}
	}
	return "other"
}

// counted returns the requests since the last call.
func (h *host) counted() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.requests
	h.requests = map[string]int{}
	return n
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// options are those by which other follows h.
func (h *host) options(other *host) follow.Options {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw})
	return follow.Options{Store: other.Store, URL: h.server.URL, User: "admin", Password: "x", CA: string(ca), Users: true,
		Own:   store.Follower{ID: "of " + other.dir, Address: "follower:8443", Token: "t"},
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
}

// following is a Run under way.
type following struct {
	*follow.Follower
	t    testing.TB
	stop func() // it returns once Run has
}

// start has other follow h.
func (h *host) start(other *host) *following {
	h.t.Helper()
	return h.startWith(h.options(other))
}

// startWith is start with other options.
func (h *host) startWith(o follow.Options) *following {
	h.t.Helper()
	f, err := follow.New(o)
	h.must(err)
	if h.page > 0 {
		f.SetPage(h.page)
	}
	ctx, cancel := context.WithCancel(h.ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			h.t.Errorf("following ended with %v", err)
		}
	})
	h.t.Cleanup(stop)
	return &following{f, h.t, stop}
}

// catchUp waits until the follower has what the first has.
func (f *following) catchUp() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := f.CatchUp(ctx); err != nil {
		f.t.Fatalf("catch up: %v", err)
	}
}

// follower returns what a host knows of its follower.
func (h *host) follower() store.Follower {
	h.t.Helper()
	all, err := h.Feed.List(h.ctx)
	h.must(err)
	if len(all) != 1 {
		h.t.Fatalf("the followers are %v", all)
	}
	return all[0]
}

// equal compares what two hosts show.
func equal(t testing.TB, first, second *host) {
	t.Helper()
	a, b := first.content(), second.content()
	for key, was := range a {
		if got, ok := b[key]; !ok {
			t.Errorf("the follower lacks %s: %s", key, was)
		} else if got != was {
			t.Errorf("%s is\n%s at the first, and\n%s at the follower", key, was, got)
		}
	}
	for key, got := range b {
		if _, ok := a[key]; !ok {
			t.Errorf("the follower has %s: %s", key, got)
		}
	}
}

// content is what a host shows, by the name of each thing.
func (h *host) content() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	tags, err := h.Tags.All(h.ctx, store.Tag{}, 1_000_000)
	h.must(err)
	for _, tag := range tags {
		all["tag "+tag.Repository+":"+tag.Name] = tag.Digest.String()
	}
	repos, _, err := h.Repositories(h.ctx, "", -1)
	h.must(err)
	for _, repo := range repos {
		all["repository "+repo] = ""
		for _, d := range h.everyDigest() {
			h.addManifest(all, repo, d)
		}
	}
	pulled, err := h.Manifests.PulledIn(h.ctx, "*")
	h.must(err)
	for _, p := range pulled {
		pinned, err := h.Manifests.PinnedHere(h.ctx, p.Repository, p.Digest)
		h.must(err)
		all["manifest "+p.Repository+"@"+p.Digest.String()] += fmt.Sprintf(" pulled, pinned: %v", pinned)
	}
	h.addRest(all)
	return all
}

func (h *host) addRest(all map[string]string) {
	origins, err := h.Tags.Origins(h.ctx, store.Origin{}, 1_000_000)
	h.must(err)
	for _, o := range origins {
		all["origin "+o.Repository+":"+o.Tag+" "+o.Origin] = fmt.Sprintf("%s %s %v", o.Digest, o.About, o.Recorded)
	}
	users, err := h.Users.List(h.ctx)
	h.must(err)
	for _, u := range users {
		all["user "+u.Name] = fmt.Sprintf("%s %v %s %v", u.Role, u.Repositories, u.PasswordHash, u.Updated)
	}
	clusters, err := h.Clusters.List(h.ctx)
	h.must(err)
	for _, c := range clusters {
		needs, _, err := h.Clusters.Count(h.ctx, c.ID)
		h.must(err)
		all["cluster "+c.ID] = fmt.Sprintf("%s %s %s %v, needs %d", c.Name, c.User, c.Facts, c.Updated, needs)
	}
	wants, err := h.Runs.Wants(h.ctx)
	h.must(err)
	for key, text := range wants {
		all["wants "+key] = text
	}
}

// made are the manifests that tests made, which have no list in the API of the store.
var made struct {
	sync.Mutex
	digests []digest.Digest
}

func (h *host) everyDigest() []digest.Digest {
	made.Lock()
	defer made.Unlock()
	return slices.Clone(made.digests)
}

func (h *host) addManifest(all map[string]string, repo string, d digest.Digest) {
	m, err := h.Manifests.Get(h.ctx, repo, d)
	if errors.Is(err, store.ErrNotFound) {
		return
	}
	h.must(err)
	whole, err := h.Manifests.Whole(h.ctx, repo, d)
	h.must(err)
	referrers, err := h.Manifests.Referrers(h.ctx, repo, d, "")
	h.must(err)
	slices.Sort(referrers)
	all["manifest "+repo+"@"+d.String()] = fmt.Sprintf("%s %s, whole: %v, referrers: %v", m.MediaType, digest.FromBytes(m.Body), whole, referrers)
}

// image is a manifest with its blobs.
type image struct {
	body  []byte
	blobs [][]byte
}

func (i image) digest() digest.Digest { return digest.FromBytes(i.body) }

// note makes everyDigest list a manifest.
func note(body []byte) {
	made.Lock()
	defer made.Unlock()
	if d := digest.FromBytes(body); !slices.Contains(made.digests, d) {
		made.digests = append(made.digests, d)
	}
}

func blob(content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

// newImage makes an image by its name. All share their first layer.
func newImage(name string, subject *ocispec.Descriptor, layers ...[]byte) image {
	config := fmt.Appendf(nil, `{"config of":%q}`, name)
	blobs := append([][]byte{config, []byte("base")}, layers...)
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Subject: subject}
	m.Config = blob(config)
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	for _, l := range blobs[1:] {
		m.Layers = append(m.Layers, blob(l))
	}
	body, _ := json.Marshal(m)
	note(body)
	return image{body, blobs}
}

// newIndex makes an index of images, which names no media type.
func newIndex(images ...image) []byte {
	all := []ocispec.Descriptor{}
	for _, i := range images {
		all = append(all, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: i.digest(), Size: int64(len(i.body))})
	}
	body, _ := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": all})
	note(body)
	return body
}

func (h *host) pushBlob(repo string, content []byte) {
	h.t.Helper()
	u, err := h.Uploads.New(h.ctx, repo)
	h.must(err)
	_, err = u.ReadFrom(bytes.NewReader(content))
	h.must(err)
	_, err = u.Commit(h.ctx, digest.FromBytes(content))
	h.must(err)
}

func (h *host) push(repo string, i image, tags ...string) digest.Digest {
	h.t.Helper()
	for _, b := range i.blobs {
		h.pushBlob(repo, b)
	}
	m, err := h.Manifests.Put(h.ctx, repo, i.body, store.PutOptions{Tags: tags})
	h.must(err)
	return m.Digest
}

// run puts images into a run, each with a tag of a repository.
func (h *host) run(name string, images map[[2]string]image) *store.Run {
	h.t.Helper()
	r, err := h.Runs.Begin(h.ctx, name)
	h.must(err)
	for at, i := range images {
		for _, b := range i.blobs {
			h.must(r.PutBlob(h.ctx, at[0], blob(b), bytes.NewReader(b)))
		}
		h.must(r.PutManifest(h.ctx, at[0], ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: i.digest(), Size: int64(len(i.body))}, i.body))
		h.must(r.Tag(h.ctx, map[string]map[string]digest.Digest{at[0]: {at[1]: i.digest()}}))
		h.must(r.Origins(h.ctx, map[string]map[string]map[string]json.RawMessage{at[0]: {at[1]: {"quay.io/" + at[0]: json.RawMessage(fmt.Sprintf(`{"by": %q}`, name))}}}))
	}
	return r
}

// pull has an image come by pull-through, with some of its blobs.
func (h *host) pull(repo string, i image, blobs int, tags ...string) {
	h.t.Helper()
	_, err := h.Manifests.PutPulled(h.ctx, repo, i.body, store.PutOptions{Tags: tags})
	h.must(err)
	h.pullBlobs(repo, i, blobs)
}

func (h *host) pullBlobs(repo string, i image, n int) {
	h.t.Helper()
	for _, b := range i.blobs[:n] {
		u, err := h.Uploads.NewPulled(h.ctx, repo, int64(len(b)), func(int) {})
		h.must(err)
		_, err = u.Write(b)
		h.must(err)
		_, err = u.Commit(h.ctx, digest.FromBytes(b))
		h.must(err)
	}
}
