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
	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// recentLeast and recentMost bound how much of manifests is kept in memory, see recentLimit.
	recentLeast = 8 << 20
	recentMost  = 256 << 20
	// recentShare is which part of the memory that there is may be used for them.
	recentShare = 16
	// recentLargest keeps a few huge manifests from being all that is kept.
	recentLargest = 64 << 10
	// recentChanges is how many changed rows of one transaction are told apart.
	recentChanges = 10_000
)

// recent keeps manifests that were read lately, since a cluster asks for the same ones over and over: the
// statement, with its locks on the WAL and what database/sql adds, is half of what an answer costs.
//
// A commit forgets what it changed before it is acknowledged. SQLite's pre-update hook names each changed row of the tables
// that an answer is read from, so that no method that writes can be forgotten here.
type recent struct {
	limit int // bytes; 0: recentLeast

	links     linkWatches // which the hook tells, too
	forgotten func()      // is called after each commit; nil: nothing is

	mu      sync.RWMutex
	epoch   uint64 // counts the commits that changed something that is read here
	bytes   int
	known   map[recentKey]Manifest
	linked  map[use]map[recentKey]bool // the keys of a repository's manifest: its digest and its tags
	tagged  map[changedTag]recentKey
	changed changes // by the transaction under way
}

// changes are rows that a transaction has changed.
type changes struct {
	all   bool
	links map[use]bool
	tags  map[changedTag]bool
}

type changedTag struct {
	repository int64
	name       string
}

// recentKey is what a manifest was asked for as. Neither a digest is a tag nor the other way round.
type recentKey struct{ repo, reference string }

// get returns a manifest, or what put wants to be told: the epoch in which it was not known.
func (r *recent) get(k recentKey) (m Manifest, epoch uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok = r.known[k]
	return m, r.epoch, ok
}

// put keeps a manifest, unless something was written since get: it may have been read before that.
func (r *recent) put(k recentKey, m Manifest, epoch uint64) {
	if len(m.Body) > recentLargest {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		return
	}
	if _, known := r.known[k]; known { // by another who asked at the same time
		return
	}
	for other, old := range r.known { // any: what is wanted comes back
		if r.bytes+recentCost(m) <= r.max() {
			break
		}
		r.drop(other, old)
	}
	if r.known == nil {
		r.known, r.linked, r.tagged = map[recentKey]Manifest{}, map[use]map[recentKey]bool{}, map[changedTag]recentKey{}
	}
	r.known[k] = m
	r.bytes += recentCost(m)
	link := use{m.repository, m.Digest}
	if r.linked[link] == nil {
		r.linked[link] = map[recentKey]bool{}
	}
	r.linked[link][k] = true
	r.tagged[changedTag{m.repository, k.reference}] = k
}

// drop is called with mu held.
func (r *recent) drop(k recentKey, m Manifest) {
	r.bytes -= recentCost(m)
	delete(r.known, k)
	delete(r.tagged, changedTag{m.repository, k.reference})
	link := use{m.repository, m.Digest}
	if delete(r.linked[link], k); len(r.linked[link]) == 0 {
		delete(r.linked, link)
	}
}

func (r *recent) max() int { return cmp.Or(r.limit, recentLeast) }

// recentCost counts the body, the annotations as about as much, and 1 KiB for the entries of three maps and their strings.
func recentCost(m Manifest) int { return 2*len(m.Body) + 1024 }

// note is called by SQLite for each row that the writer changes, before the commit. A savepoint that is rolled back leaves
// what was noted: dropping too much from the cache is harmless.
func (r *recent) note(row modernc.SQLitePreUpdateData) {
	if row.DatabaseName != "main" { // what VACUUM copies
		return
	}
	switch row.TableName {
	case "tags", "repository_manifests":
	case "repository_blobs":
		r.links.note(row)
		return
	case "manifests", "repositories":
		// Nothing that is known is read from a new row, and one that goes has lost its links before.
		if row.Op == sqlite3.SQLITE_UPDATE {
			r.noteAll()
		}
		return
	default:
		return
	}
	columns := make([]any, 2) // which the driver fills
	if row.Op != sqlite3.SQLITE_INSERT {
		r.noteRow(row.TableName == "tags", columns, row.Old(columns...))
	}
	if row.Op != sqlite3.SQLITE_DELETE {
		r.noteRow(row.TableName == "tags", columns, row.New(columns...))
	}
}

func (r *recent) noteAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = changes{all: true}
}

// noteRow notes one version of a row of tags or of repository_manifests: the columns that name it, or why they cannot
// be read.
func (r *recent) noteRow(tag bool, columns []any, err error) {
	id, isID := columns[0].(int64)
	name, isName := columns[1].(string)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c := &r.changed; {
	case err != nil, !isID, !isName, c.all, len(c.links)+len(c.tags) >= recentChanges:
		*c = changes{all: true}
	case tag:
		if c.tags == nil {
			c.tags = map[changedTag]bool{}
		}
		c.tags[changedTag{id, name}] = true
	default:
		if c.links == nil {
			c.links = map[use]bool{}
		}
		c.links[use{id, digest.Digest(name)}] = true
	}
}

// forget drops what the transaction that has just been committed, or failed to, has changed.
func (r *recent) forget() {
	r.dropChanged()
	if r.forgotten != nil {
		r.forgotten()
	}
}

func (r *recent) dropChanged() {
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

// recentLimit is how many bytes of manifests are kept: a share of what this process may use of memory.
func recentLimit() int {
	limit := debug.SetMemoryLimit(-1) // which only asks; without GOMEMLIMIT it is beyond any memory
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		limit = min(limit, int64(info.Totalram)*int64(info.Unit))
	}
	if text, err := os.ReadFile("/sys/fs/cgroup" + cgroup() + "/memory.max"); err == nil {
		if most, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			limit = min(limit, most)
		}
	}
	return int(max(recentLeast, min(recentMost, limit/recentShare)))
}

// cgroup is the path of this process's control group, "" where it cannot be told.
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

// recall answers from what is known, or reads and keeps it. Nobody may change what it returns.
func (s *core) recall(repo, reference string, read func() (Manifest, error)) (Manifest, error) {
	s.reading.count.Add(1)
	k := recentKey{repo, reference}
	m, epoch, ok := s.recent.get(k)
	if !ok {
		var err error
		if m, err = read(); err != nil {
			return m, err
		}
		s.recent.put(k, m, epoch)
	}
	if m.pulled != (use{}) {
		s.uses.record(m.pulled, s.now())
	}
	return m, nil
}
