package store

import (
	"cmp"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// cacheMin and cacheMax bound the bytes of the cache, see cacheLimit.
	cacheMin = 8 << 20
	cacheMax = 256 << 20
	// cacheShare is the part of the memory that the cache may have: one in so many bytes.
	cacheShare = 16
	// cacheLargest keeps a few huge manifests from filling the cache.
	cacheLargest = 64 << 10
	// cacheChanges is how many changed rows of one transaction are invalidated one by one.
	cacheChanges = 10_000
)

// manifestCache keeps manifests that were read lately, since a cluster requests the same ones again
// and again: the statement, with its locks on the WAL and the cost of database/sql, is half of an
// answer.
//
// A commit drops the entries that it changed before it is acknowledged. The database names each
// changed row of the tables that an entry is read from, so a new method that writes cannot miss it.
//
// Where several processes have the store, one does not see the commits of another. Then an entry
// spares the body of a manifest only: that the repository has it, that the tag names it and what it
// is declared as are read for each request, by one statement (selectLink).
type manifestCache struct {
	limit int // bytes; 0: cacheMin

	links     linkWatches // which note notifies as well
	forgotten func()      // called after each commit; nil: no call

	mu      sync.RWMutex
	epoch   uint64 // counts the commits that invalidated an entry
	bytes   int
	known   map[cacheKey]Manifest
	linked  map[linkKey]map[cacheKey]bool // the keys of a repository's manifest: its digest and its tags
	tagged  map[changedTag]cacheKey
	changed changes // by the transaction under way
}

// changes are rows that a transaction has changed.
type changes struct {
	all   bool
	links map[linkKey]bool
	tags  map[changedTag]bool
}

type changedTag struct {
	repository int64
	name       string
}

// cacheKey is a request: a repository, and a digest or tag, which never look alike.
type cacheKey struct{ repo, reference string }

// get returns a manifest, or, for put, the epoch in which it was absent.
func (r *manifestCache) get(k cacheKey) (m Manifest, epoch uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok = r.known[k]
	return m, r.epoch, ok
}

// put keeps a manifest, unless there was a commit since get, which may have changed it.
func (r *manifestCache) put(k cacheKey, m Manifest, epoch uint64) {
	if len(m.Body) > cacheLargest {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		return
	}
	if _, known := r.known[k]; known { // by a concurrent read
		return
	}
	for other, old := range r.known { // any: one in use comes back
		if r.bytes+cacheCost(m) <= r.max() {
			break
		}
		r.drop(other, old)
	}
	if r.known == nil {
		r.known, r.linked, r.tagged = map[cacheKey]Manifest{}, map[linkKey]map[cacheKey]bool{}, map[changedTag]cacheKey{}
	}
	r.known[k] = m
	r.bytes += cacheCost(m)
	link := linkKey{m.repository, m.Digest}
	if r.linked[link] == nil {
		r.linked[link] = map[cacheKey]bool{}
	}
	r.linked[link][k] = true
	r.tagged[changedTag{m.repository, k.reference}] = k
}

// remove drops an entry that another process has made wrong.
func (r *manifestCache) remove(k cacheKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.known[k]; ok {
		r.drop(k, m)
	}
}

// drop is called with mu held.
func (r *manifestCache) drop(k cacheKey, m Manifest) {
	r.bytes -= cacheCost(m)
	delete(r.known, k)
	delete(r.tagged, changedTag{m.repository, k.reference})
	link := linkKey{m.repository, m.Digest}
	if delete(r.linked[link], k); len(r.linked[link]) == 0 {
		delete(r.linked, link)
	}
}

func (r *manifestCache) max() int { return cmp.Or(r.limit, cacheMin) }

// cacheCost counts the body, the annotations as about as much, and 1 KiB for three map entries.
func cacheCost(m Manifest) int { return 2*len(m.Body) + 1024 }

// note is called for each row that the writer changes, before the commit. A savepoint that is rolled
// back leaves its notes: dropping too much is harmless.
func (r *manifestCache) note(row database.Change) {
	switch row.Table {
	case "": // any
		r.noteAll()
		r.links.noteAll()
		return
	case "tags", "repository_manifests":
	case "repository_blobs":
		r.links.note(row)
		return
	case "manifests", "repositories":
		// No entry is read from a new row, and a deleted row has lost its links before.
		if row.Op == database.Update {
			r.noteAll()
		}
		return
	default:
		return
	}
	columns := make([]any, 2) // which the engine sets
	if row.Op != database.Insert {
		r.noteRow(row.Table == "tags", columns, row.Old(columns...))
	}
	if row.Op != database.Delete {
		r.noteRow(row.Table == "tags", columns, row.New(columns...))
	}
}

func (r *manifestCache) noteAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = changes{all: true}
}

// noteRow notes one version of a row of tags or repository_manifests: the columns of its key, or
// the error of reading them.
func (r *manifestCache) noteRow(tag bool, columns []any, err error) {
	id, isID := columns[0].(int64)
	name, isName := columns[1].(string)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c := &r.changed; {
	case err != nil, !isID, !isName, c.all, len(c.links)+len(c.tags) >= cacheChanges:
		*c = changes{all: true}
	case tag:
		if c.tags == nil {
			c.tags = map[changedTag]bool{}
		}
		c.tags[changedTag{id, name}] = true
	default:
		if c.links == nil {
			c.links = map[linkKey]bool{}
		}
		c.links[linkKey{id, digest.Digest(name)}] = true
	}
}

// forget drops the entries that a transaction changed which has been committed or has failed to.
func (r *manifestCache) forget() {
	r.dropChanged()
	if r.forgotten != nil {
		r.forgotten()
	}
}

func (r *manifestCache) dropChanged() {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.changed
	r.changed = changes{}
	if !c.all && c.links == nil && c.tags == nil {
		return
	}
	r.epoch++
	if c.all {
		r.bytes = 0
		clear(r.known)
		clear(r.linked)
		clear(r.tagged)
		return
	}
	for t := range c.tags {
		if k, ok := r.tagged[t]; ok {
			r.drop(k, r.known[k])
		}
	}
	for l := range c.links {
		for k := range r.linked[l] {
			r.drop(k, r.known[k])
		}
	}
}

// cacheLimit returns the bytes of the cache: a share of the memory that this process may use.
func cacheLimit() int {
	limit := debug.SetMemoryLimit(-1) // which only reads it; without GOMEMLIMIT it is beyond any memory
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		limit = min(limit, int64(info.Totalram)*int64(info.Unit))
	}
	if text, err := os.ReadFile("/sys/fs/cgroup" + cgroup() + "/memory.max"); err == nil {
		if most, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			limit = min(limit, most)
		}
	}
	return int(max(cacheMin, min(cacheMax, limit/cacheShare)))
}

// cgroup returns the path of this process's control group, "" if it is unknown.
func cgroup() string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return ""
}

// cachedManifest returns a manifest of the cache, or reads and keeps it. Callers share it and do
// not change it. read reads a manifest, or all of it but its content.
func (s *core) cachedManifest(repo, reference string, read func(content bool) (Manifest, error)) (Manifest, error) {
	s.reading.count.Add(1)
	k := cacheKey{repo, reference}
	m, epoch, ok := s.cache.get(k)
	if ok && s.several {
		now, err := read(false)
		if err != nil {
			return now, err
		}
		if ok = now.Digest == m.Digest && now.Created.Equal(m.Created); ok {
			m.MediaType, m.repository, m.pulled = now.MediaType, now.repository, now.pulled
		} else {
			s.cache.remove(k)
		}
	}
	if !ok {
		var err error
		if m, err = read(true); err == nil {
			err = s.hashes(m)
		}
		if err != nil {
			return Manifest{}, err
		}
		s.cache.put(k, m, epoch)
	}
	if m.pulled != (linkKey{}) {
		s.accesses.record(m.pulled, s.now())
	}
	return m, nil
}
