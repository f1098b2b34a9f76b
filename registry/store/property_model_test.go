package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// world is all that a history can speak of. It is small, so that things meet.
type world struct {
	repos, tags []string
	blobs       []worldBlob
	manifests   []worldManifest // children before the indexes that have them
	parted      bool            // all that comes in parts does
}

type worldBlob struct {
	name    string
	digest  digest.Digest
	content string
}

type worldManifest struct {
	name    string
	digest  digest.Digest
	desc    ocispec.Descriptor
	body    []byte
	subject digest.Digest
	need    []digest.Digest // config and layers, which must be held
	names   []digest.Digest // all that it is made of, held or not
	parts   []int           // those of its children that are manifests of this world

	declared bool // its body names no media type
}

// mediaTypes are what a manifest may be declared as whose body names none.
func (w worldManifest) mediaTypes() []string {
	return []string{w.desc.MediaType, "application/vnd.acme+json"}
}

func newWorld(r *rand.Rand) *world {
	w := &world{repos: []string{"a", "b/c", "d"}, tags: []string{"v1", "latest"}, parted: r.IntN(2) == 0}
	for i := range 7 {
		content := strings.Repeat(fmt.Sprintf("blob %d of %d;", i, r.Uint64()), 1+r.IntN(20))
		w.blobs = append(w.blobs, worldBlob{fmt.Sprint("blob", i), digest.FromString(content), content})
	}
	twin := w.blobs[0]
	w.blobs = append(w.blobs, worldBlob{"blob0-512", digest.SHA512.FromString(twin.content), twin.content})
	for i := range 4 {
		w.addImage(r, i)
	}
	for i := range 5 {
		w.addIndex(r, i)
	}
	for _, m := range w.manifests[:2] {
		w.tags = append(w.tags, signatureTag(m.digest))
	}
	return w
}

func (b worldBlob) desc(mediaType string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: b.digest, Size: int64(len(b.content))}
}

// addImage makes one whose layers others have too. Some have a layer that is
// elsewhere, some a subject.
func (w *world) addImage(r *rand.Rand, i int) {
	config := w.blobs[r.IntN(len(w.blobs))]
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: pick([]string{ocispec.MediaTypeImageManifest, ""}, r.IntN(2)),
		Config: config.desc(ocispec.MediaTypeImageConfig), Layers: []ocispec.Descriptor{},
		Annotations: map[string]string{"image": fmt.Sprint(i)},
	}
	need := []digest.Digest{config.digest}
	names := need
	for range r.IntN(4) {
		layer := w.blobs[r.IntN(len(w.blobs))]
		m.Layers = append(m.Layers, layer.desc(ocispec.MediaTypeImageLayerGzip))
		need, names = append(need, layer.digest), append(names, layer.digest)
	}
	if r.IntN(3) == 0 {
		foreign := w.blobs[r.IntN(len(w.blobs))].desc(ocispec.MediaTypeImageLayerGzip)
		foreign.URLs = []string{"https://elsewhere.test/layer"}
		m.Layers = append(m.Layers, foreign)
		names = append(slices.Clip(names), foreign.Digest)
	}
	if len(w.manifests) > 0 && r.IntN(2) == 0 {
		m.Subject = &w.manifests[r.IntN(len(w.manifests))].desc
	}
	w.add(r, fmt.Sprint("image", i), ocispec.MediaTypeImageManifest, mustJSON(m), m.Subject, need, names, nil)
}

// addIndex makes one of images and earlier indexes, which other indexes have too; some children are
// absent, and some are blobs, as in what builders push for a cache.
func (w *world) addIndex(r *rand.Rand, i int) {
	m := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: pick([]string{ocispec.MediaTypeImageIndex, ""}, r.IntN(2)),
		Manifests: []ocispec.Descriptor{}, Annotations: map[string]string{"index": fmt.Sprint(i)},
	}
	var names []digest.Digest
	var parts []int
	for range r.IntN(5) {
		switch r.IntN(8) {
		case 0:
			absent := descriptor(ocispec.MediaTypeImageManifest, fmt.Append(nil, r.Uint64()))
			m.Manifests = append(m.Manifests, absent)
		case 1:
			m.Manifests = append(m.Manifests, w.blobs[r.IntN(len(w.blobs))].desc(ocispec.MediaTypeImageLayerGzip))
		default:
			child := r.IntN(len(w.manifests))
			parts = append(parts, child)
			m.Manifests = append(m.Manifests, w.manifests[child].desc)
		}
		names = append(names, m.Manifests[len(m.Manifests)-1].Digest)
	}
	if r.IntN(4) == 0 {
		m.Subject = &w.manifests[r.IntN(len(w.manifests))].desc
	}
	w.add(r, fmt.Sprint("index", i), ocispec.MediaTypeImageIndex, mustJSON(m), m.Subject, nil, names, parts)
}

func (w *world) add(r *rand.Rand, name, mediaType string, body []byte, subject *ocispec.Descriptor, need, names []digest.Digest, parts []int) {
	algorithm := digest.SHA256
	if r.IntN(6) == 0 {
		algorithm = digest.SHA512
	}
	m := worldManifest{name: name, digest: algorithm.FromBytes(body), body: body, need: need, names: names, parts: parts}
	m.declared = !bytes.HasPrefix(body, []byte(`{"schemaVersion":2,"mediaType"`))
	m.desc = ocispec.Descriptor{MediaType: mediaType, Digest: m.digest, Size: int64(len(body))}
	if subject != nil {
		m.subject = subject.Digest
	}
	w.manifests = append(w.manifests, m)
}

// model is the store as its documentation tells it, in maps.
type model struct {
	*world
	now     time.Time
	blobs   map[digest.Digest]time.Time // when they were first held
	checks  map[digest.Digest]time.Time // when they were last asked for
	awaited map[place]promise           // put or asked for there by who pushes, and in no manifest of his since
	strays  map[digest.Digest]time.Time // files that no row names
	repos   map[string]*modelRepo
	runs    [slots]*modelRun
	uploads [slots]*modelUpload

	several bool // stores have it at the same time
}

type modelRepo struct {
	blobs     map[digest.Digest]time.Time // pushed or mounted, and when last
	manifests map[digest.Digest]time.Time // put first
	types     map[digest.Digest]string    // what those were last declared as whose body names no media type
	pushed    map[digest.Digest]bool      // those that did not come by pull-through alone
	tags      map[string]digest.Digest
}

type place struct{ repo, name string }

type modelRun struct {
	blobs     map[place]bool   // name is a digest
	manifests map[place]string // likewise: the media type that it was declared as, "" for the one that it has
	tags      map[place]digest.Digest
	seen      time.Time
	committed bool
	gone      bool
}

type modelUpload struct {
	repo    string
	blob    worldBlob
	offset  int
	touched time.Time // of the files, since its last Close
	open    bool      // a request has it
	begun   bool      // which has written a byte
}

func newModel(w *world, now time.Time) *model {
	return &model{
		world: w, now: now, repos: map[string]*modelRepo{},
		blobs: map[digest.Digest]time.Time{}, checks: map[digest.Digest]time.Time{}, awaited: map[place]promise{}, strays: map[digest.Digest]time.Time{},
	}
}

// repo makes it where there is none.
func (m *model) repo(name string) *modelRepo {
	if m.repos[name] == nil {
		m.repos[name] = &modelRepo{map[digest.Digest]time.Time{}, map[digest.Digest]time.Time{}, map[digest.Digest]string{}, map[digest.Digest]bool{}, map[string]digest.Digest{}}
	}
	return m.repos[name]
}

func (m *model) manifest(d digest.Digest) worldManifest {
	return m.manifests[slices.IndexFunc(m.manifests, func(w worldManifest) bool { return w.digest == d })]
}

// has says whether a blob is held.
func (m *model) has(d digest.Digest) bool { return !m.blobs[d].IsZero() }

// visible reports whether a repository shows a blob: it was put or mounted there. That a manifest
// names it is no reason.
func (m *model) visible(repo string, d digest.Digest) bool {
	r := m.repos[repo]
	return r != nil && m.has(d) && !r.blobs[d].IsZero()
}

// needed reports whether a manifest of a repository is made of a blob.
func (m *model) needed(r *modelRepo, d digest.Digest) bool {
	for held := range r.manifests {
		if slices.Contains(m.manifest(held).need, d) {
			return true
		}
	}
	return false
}

// held are the manifests that a repository shows or an open run has staged.
func (m *model) held() map[digest.Digest]bool {
	held := map[digest.Digest]bool{}
	for _, r := range m.repos {
		for d := range r.manifests {
			held[d] = true
		}
	}
	for _, r := range m.runs {
		if r != nil {
			for p := range r.manifests {
				held[digest.Digest(p.name)] = true
			}
		}
	}
	return held
}

// promise is what clients were told of a blob in a repository: that a manifest which needs
// it may be put there now.
type promise struct {
	last      time.Time
	manifests int // that may come: each push, mount or check by a client is for one
}

// again is p after a client was told once more.
func (p promise) again(now time.Time) promise {
	if now.Sub(p.last) >= guard.PushTakes {
		p.manifests = 0 // none of them comes any more
	}
	return promise{last: now, manifests: p.manifests + 1}
}

// garbage reports whether collection may take a blob, and has to: no client relies on it, and
// none has since before.
func (m *model) garbage(d digest.Digest, before time.Time) bool {
	for p, told := range m.awaited {
		if p.name == d.String() && m.now.Sub(told.last) < guard.PushTakes {
			return false
		}
	}
	if placed, stray := m.strays[d]; stray {
		return placed.Before(before)
	}
	if !m.has(d) || !m.blobs[d].Before(before) {
		return false
	}
	if checked, ever := m.checks[d]; ever && !checked.Before(before) {
		return false
	}
	for held := range m.held() {
		if slices.Contains(m.manifest(held).names, d) {
			return false
		}
	}
	for _, r := range m.runs {
		if r != nil && slices.ContainsFunc(slices.Collect(maps.Keys(r.blobs)), func(p place) bool { return p.name == d.String() }) {
			return false
		}
	}
	for _, r := range m.repos {
		if linked, ok := r.blobs[d]; ok && !linked.Before(before) {
			return false
		}
	}
	return true
}

// link makes a blob visible as of now.
func (m *model) link(repo string, d digest.Digest) { m.repo(repo).blobs[d] = m.now }

// await says that a manifest is to come which needs a blob; unawait that it has come.
func (m *model) await(repo string, d digest.Digest) {
	at := place{repo, d.String()}
	m.awaited[at] = m.awaited[at].again(m.now)
}

func (m *model) unawait(repo string, d digest.Digest) {
	at := place{repo, d.String()}
	p, ok := m.awaited[at]
	if p.manifests--; ok && p.manifests > 0 {
		m.awaited[at] = p
	} else {
		delete(m.awaited, at)
	}
}

// linkOnce does so unless it is visible already, and leaves the time of that.
func (m *model) linkOnce(repo string, d digest.Digest) {
	if _, linked := m.repo(repo).blobs[d]; !linked {
		m.link(repo, d)
	}
}

// hold makes a blob held.
func (m *model) hold(d digest.Digest) {
	delete(m.strays, d)
	if !m.has(d) {
		m.blobs[d] = m.now
	}
}

// show makes a manifest visible as a media type, and what is held of its parts.
func (m *model) show(repo string, d digest.Digest, mediaType string, parts []digest.Digest) {
	if _, shown := m.repo(repo).manifests[d]; !shown {
		m.repo(repo).manifests[d] = m.now
	}
	if m.manifest(d).declared {
		m.repo(repo).types[d] = mediaType
	}
	for _, part := range parts {
		if m.has(part) {
			m.linkOnce(repo, part)
		}
	}
}

// remove takes a manifest out of a repository, with the children that nothing else has there, and,
// if whole, with what belongs to what goes.
func (m *model) remove(repo string, d digest.Digest, whole bool) {
	r := m.repos[repo]
	var children []digest.Digest
	m.removeAlone(r, d, whole, &children)
	for again := true; again; {
		again = false
		for _, child := range slices.Clone(children) {
			if m.isOrphan(r, child) {
				m.removeAlone(r, child, whole, &children)
				again = true
			}
		}
	}
}

// removeAlone collects the children of what it removes.
func (m *model) removeAlone(r *modelRepo, d digest.Digest, whole bool, children *[]digest.Digest) {
	if r.manifests[d].IsZero() {
		return
	}
	var belonging []digest.Digest
	for other := range r.manifests {
		if whole && m.belongs(r, other, d) {
			belonging = append(belonging, other)
		}
	}
	delete(r.manifests, d)
	delete(r.types, d)
	delete(r.pushed, d)
	maps.DeleteFunc(r.tags, func(_ string, to digest.Digest) bool { return to == d })
	*children = append(*children, m.manifest(d).names...)
	for _, other := range belonging {
		m.removeAlone(r, other, whole, children)
	}
}

// belongs reports whether one manifest of a repository belongs to another, by subject or by tag.
func (m *model) belongs(r *modelRepo, other, d digest.Digest) bool {
	return m.manifest(other).subject == d || other != d && r.tags[signatureTag(d)] == other
}

// signatureTag is what cosign names the signature of a manifest.
func signatureTag(d digest.Digest) string {
	return strings.ReplaceAll(d.String()[:71], ":", "-") + ".sig"
}

// isOrphan reports whether nothing in a repository holds a manifest of it.
func (m *model) isOrphan(r *modelRepo, d digest.Digest) bool {
	if _, shown := r.manifests[d]; !shown || slices.Contains(slices.Collect(maps.Values(r.tags)), d) || m.isReference(r, d) {
		return false
	}
	for subject := range r.manifests {
		if m.belongs(r, d, subject) {
			return false
		}
	}
	return true
}

// isReference reports whether a repository has an index with that child.
func (m *model) isReference(r *modelRepo, child digest.Digest) bool {
	for d := range r.manifests {
		parent := m.manifest(d)
		if parent.desc.MediaType == ocispec.MediaTypeImageIndex && slices.Contains(parent.names, child) {
			return true
		}
	}
	return false
}

// referrers are the manifests of a repository with that subject, oldest first.
func (m *model) referrers(repo string, subject digest.Digest) []digest.Digest {
	var found []digest.Digest
	r := m.repos[repo]
	if r == nil {
		return nil
	}
	for d := range r.manifests {
		if m.manifest(d).subject == subject {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(x, y digest.Digest) int {
		if c := r.manifests[x].Compare(r.manifests[y]); c != 0 {
			return c
		}
		return strings.Compare(x.String(), y.String())
	})
	return found
}

// reopened makes the changes of a restart: checks become as good as links, no push is under way,
// and no request has an upload. Where other stores go on, all of it is rows.
func (m *model) reopened() {
	if m.several {
		return
	}
	for d, checked := range m.checks {
		for _, r := range m.repos {
			if linked, ok := r.blobs[d]; ok && linked.Before(checked) {
				r.blobs[d] = checked
			}
		}
	}
	m.checks, m.awaited = map[digest.Digest]time.Time{}, map[place]promise{}
}

// mediaType is what a repository shows a manifest as.
func (r *modelRepo) mediaType(m worldManifest) string {
	if m.declared {
		return r.types[m.digest]
	}
	return m.desc.MediaType
}

// names reports whether a manifest of a repository names a blob in whatever way.
func (m *model) names(r *modelRepo, d digest.Digest) bool {
	for held := range r.manifests {
		if slices.Contains(m.manifest(held).names, d) {
			return true
		}
	}
	return false
}

// spared reports whether a client was told that a blob is held, or may put a
// manifest that needs it.
func (m *model) spared(d digest.Digest, before time.Time) bool {
	for p, told := range m.awaited {
		if p.name == d.String() && m.now.Sub(told.last) < guard.PushTakes {
			return true
		}
	}
	checked, ever := m.checks[d]
	return ever && !checked.Before(before)
}
