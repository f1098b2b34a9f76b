package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

var (
	playSeed  = flag.Uint64("seed", 0, "TestStore_Histories: play the one history of this seed, step by step")
	histories = flag.Int("histories", 160, "TestStore_Histories: how many histories to play")
)

const (
	steps = 60 // of a history
	slots = 3  // runs and uploads that can be under way at once
	every = 10 // steps between two comparisons; a history that fails is played again with one after each step
)

// TestStore_Histories plays random histories on a store and on a plain model of it, and compares
// what the two answer and hold. Each history is that of its seed; one that fails is cut down to the
// steps that it takes to fail.
func TestStore_Histories(t *testing.T) {
	playHistories(t, inOneStore)
}

// playHistories plays those that the flags ask for, at each a site of its own.
func playHistories(t *testing.T, on func(*testing.T) site) {
	t.Helper()
	if *playSeed != 0 {
		playHistory(t, *playSeed, on)
		return
	}
	first := rand.Uint64()
	t.Logf("histories of seeds %d to %d", first, first+uint64(*histories)-1)
	const lanes = 4 // a history waits for the disk as often as for the processor
	for lane := range lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			for i := lane; i < *histories && !t.Failed(); i += lanes {
				playHistory(t, first+uint64(i), on)
			}
		})
	}
}

func playHistory(t *testing.T, seed uint64, on func(*testing.T) site) {
	t.Helper()
	history := newHistory(seed)
	if _, err := play(t, seed, history, every, on(t)); err == nil {
		return
	}
	told, err := play(t, seed, history, 1, on(t))
	if err == nil {
		t.Fatalf("seed %d fails, and not when it is compared after each step", seed)
	}
	history, told, err = shrink(t, seed, history[:len(told)], told, err, on)
	test, _, _ := strings.Cut(t.Name(), "/")
	t.Fatalf("%v\nafter %d steps:\n  %s\nagain: go test ./registry/store -run %s -seed %d",
		err, len(history), strings.Join(told, "\n  "), test, seed)
}

// shrink leaves out of a failing history what it fails without.
func shrink(t *testing.T, seed uint64, history []step, told []string, err error, on func(*testing.T) site) ([]step, []string, error) {
	t.Helper()
	for size := len(history) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(history); {
			fewer := slices.Delete(slices.Clone(history), at, at+size)
			lines, failed := play(t, seed, fewer, 1, on(t))
			if failed == nil {
				at += size
				continue
			}
			history, told, err = fewer[:len(lines)], lines, failed
		}
	}
	return history, told, err
}

// step is one step of a history: what is done, and numbers that say to what. They mean something
// after whatever other steps, so that a history can be cut.
type step struct {
	kind       int
	a, b, c, d int
	at         int // which of several stores
}

func newHistory(seed uint64) []step {
	r := rand.New(rand.NewPCG(seed, 1))
	var weighted []int
	for i, k := range kinds() {
		for range k.weight {
			weighted = append(weighted, i)
		}
	}
	history := make([]step, steps)
	for i := range history {
		history[i] = step{weighted[r.IntN(len(weighted))], r.IntN(5040), r.IntN(5040), r.IntN(5040), r.IntN(5040), r.IntN(5040)}
	}
	return history
}

// play plays a history on a fresh store. It returns, in words, the steps up to the one that failed.
func play(t *testing.T, seed uint64, history []step, every int, on site) (told []string, err error) {
	t.Helper()
	p, err := newPlayer(on, newWorld(rand.New(rand.NewPCG(seed, 2))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { err = errors.Join(err, p.end()) }()
	kinds := kinds()
	for i, s := range history {
		p.did, p.next = nil, s.at
		p.turn()
		err := kinds[s.kind].play(p, s)
		if err == nil {
			err = p.flush()
		}
		if err == nil && (i%every == every-1 || i == len(history)-1) {
			err = p.compare()
		}
		told = append(told, fmt.Sprintf("%-10s %s", kinds[s.kind].name, strings.Join(p.did, ", ")))
		if err != nil {
			return told, err
		}
	}
	return told, nil
}

// fastDir is in memory where there is room: thousands of syncs to a disk say nothing more.
func fastDir(t *testing.T) string {
	t.Helper()
	const room = 4 * (diskspace.Least + 16<<20) // for all lanes
	if free, _, err := diskspace.Bytes("/dev/shm"); err == nil && free > room {
		if dir, err := os.MkdirTemp("/dev/shm", "histories"); err == nil {
			return dir
		}
	}
	dir, err := os.MkdirTemp("", "histories")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// site is where histories are played: a database, a storage, and how many stores have them.
type site struct {
	Options
	root   string // of the files of the storage
	count  int
	drop   func() error // all of it
	opened func(*Store) // called with each; nil: not
}

// inOneStore is a store that has its database and its files alone.
func inOneStore(t *testing.T) site {
	dir := fastDir(t)
	storage := filepath.Join(dir, "storage")
	return site{Options: Options{Database: databaseIn(t, dir), Storage: storage, rehearse: rehearsing()}, root: storage,
		count: 1, drop: func() error { return os.RemoveAll(dir) }}
}

// player plays steps on both sides.
type player struct {
	*model
	site
	ctx     context.Context
	clock   *clock
	stores  []*Store
	store   *Store // whose turn it is
	next    int    // of the next turn
	runs    [slots]*Run
	uploads [slots]*Upload // nil while the session is closed
	ids     [slots]string
	plan    []digest.Digest
	before  time.Time // of the plan
	did     []string  // the step, in words
}

func newPlayer(on site, w *world) (*player, error) {
	c := &clock{t: time.Now()}
	p := &player{model: newModel(w, c.t), site: on, ctx: context.Background(), clock: c}
	p.model.several = on.Shared
	p.Now = c.now
	for range on.count {
		s, err := p.open()
		if err != nil {
			return p, errors.Join(err, p.end())
		}
		p.stores = append(p.stores, s)
	}
	p.turn()
	return p, nil
}

func (p *player) open() (*Store, error) {
	s, err := Open(p.ctx, p.Options)
	if err != nil {
		return nil, err
	}
	if p.world.parted {
		s.part = 0
	}
	if p.opened != nil {
		p.opened(s)
	}
	return s, nil
}

// turn gives the next request to a store, as a balancer does.
func (p *player) turn() {
	p.store = pick(p.stores, p.next)
	p.next++
}

// close closes a store, after the requests that it has.
func (p *player) close(s *Store) error {
	for i, u := range p.uploads {
		if u == nil || u.store != s.core {
			continue
		}
		if err := p.pause(i); err != nil {
			return err
		}
	}
	return s.Close()
}

func (p *player) end() error {
	var errs []error
	for _, s := range p.stores {
		errs = append(errs, p.close(s))
	}
	return errors.Join(append(errs, p.drop())...)
}

// flush has the other stores know what one of them writes every few seconds.
func (p *player) flush() error {
	if !p.several {
		return nil
	}
	var errs []error
	for _, s := range p.stores {
		errs = append(errs, s.saveChecks(p.ctx))
	}
	return errors.Join(errs...)
}

func (p *player) path(d digest.Digest) string { return filepath.Join(p.root, blobfile.Name(d)) }

func (p *player) say(format string, args ...any) { p.did = append(p.did, fmt.Sprintf(format, args...)) }

// compare asks both sides for all there is. It asks nothing that the store takes for a
// reason to keep something.
func (p *player) compare() error {
	for i, s := range p.stores {
		p.store = s
		for _, check := range []func() error{p.compareRepositories, p.compareBlobs, p.compareFiles, p.compareSessions, p.compareStats} {
			if err := check(); err != nil {
				return fmt.Errorf("store %d: %w", i, err)
			}
		}
	}
	return nil
}

func (p *player) compareRepositories() error {
	var want []string
	for _, repo := range p.world.repos {
		r := p.model.repos[repo]
		if r != nil && len(r.manifests) > 0 {
			want = append(want, repo)
		}
		if err := p.compareTags(repo, r); err != nil {
			return err
		}
		for _, m := range p.manifests {
			if err := p.compareManifest(repo, r, m); err != nil {
				return err
			}
		}
	}
	if got, _, err := p.store.Repositories(p.ctx, "", -1); err != nil || !slices.Equal(got, want) && len(got)+len(want) > 0 {
		return fmt.Errorf("repositories with content are %v, %v; want %v", got, err, want)
	}
	return nil
}

func (p *player) compareTags(repo string, r *modelRepo) error {
	got, _, err := p.store.Tags.List(p.ctx, repo, "", -1)
	if r == nil {
		return p.expect("list tags of "+repo, err, absent)
	}
	if err != nil || !slices.Equal(got, slices.Sorted(maps.Keys(r.tags))) {
		return fmt.Errorf("tags of %s are %v, %v; want %v", repo, got, err, r.tags)
	}
	for tag, want := range r.tags {
		if m, err := p.store.Manifests.ByTag(p.ctx, repo, tag); err != nil || m.Digest != want {
			return fmt.Errorf("%s:%s is %s, %v; want %s", repo, tag, m.Digest, err, p.name(want))
		}
	}
	return nil
}

func (p *player) compareManifest(repo string, r *modelRepo, want worldManifest) error {
	got, err := p.store.Manifests.Get(p.ctx, repo, want.digest)
	shown := false
	if r != nil {
		_, shown = r.manifests[want.digest]
	}
	if !shown {
		return p.expect("read "+want.name+" of "+repo, err, absent)
	}
	if err != nil || string(got.Body) != string(want.body) || got.MediaType != r.mediaType(want) || got.Subject != want.subject {
		return fmt.Errorf("%s of %s is %+v, %v", want.name, repo, got, err)
	}
	digests, err := p.store.Manifests.Referrers(p.ctx, repo, want.digest, "")
	if err != nil {
		return err
	}
	if refer := p.referrers(repo, want.digest); !slices.Equal(digests, refer) {
		return fmt.Errorf("referrers of %s in %s are %s; want %s", want.name, repo, p.list(digests), p.list(refer))
	}
	return nil
}

// compareBlobs asks the statement that StatBlob and OpenBlob ask, since those count as checks.
func (p *player) compareBlobs() error {
	for _, repo := range p.world.repos {
		for _, b := range p.world.blobs {
			var size int64
			err := orNotFound(p.store.db.Reader().QueryRowContext(p.ctx, visibleBlob, repo, b.digest).Scan(&size), "blob", b.name)
			if !p.visible(repo, b.digest) {
				if err := p.expect("look for "+b.name+" in "+repo, err, absent); err != nil {
					return err
				}
				continue
			}
			if err != nil || size != int64(len(b.content)) {
				return fmt.Errorf("%s in %s has %d bytes, %v", b.name, repo, size, err)
			}
		}
	}
	return nil
}

// compareFiles reads what is on the disk.
func (p *player) compareFiles() error {
	for _, b := range p.world.blobs {
		content, err := os.ReadFile(p.path(b.digest))
		_, stray := p.strays[b.digest]
		switch {
		case stray && err == nil:
		case p.has(b.digest) && err == nil && string(content) == b.content:
		case !stray && !p.has(b.digest) && errors.Is(err, fs.ErrNotExist):
		default:
			return fmt.Errorf("the file of %s has %q, %v; held is %t, stray %t", b.name, content, err, p.has(b.digest), stray)
		}
	}
	return nil
}

// compareSessions compares the uploads that no request has, and the open runs, with
// those of the model.
func (p *player) compareSessions() error {
	far := p.now.Add(1000 * time.Hour)
	if err := p.compareStale(far, far); err != nil {
		return err
	}
	for i, r := range p.model.runs {
		if r == nil {
			continue
		}
		_, err := p.store.Runs.Get(p.ctx, p.runs[i].ID())
		if err := p.expect(fmt.Sprint("find run ", i), err, when(r.gone, absent)); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) compareStats() error {
	got, err := p.store.Stats(p.ctx)
	want := Stats{Manifests: int64(len(p.held())), Blobs: int64(len(p.model.blobs))}
	for _, r := range p.model.repos {
		want.Tags += int64(len(r.tags))
		if len(r.manifests) > 0 {
			want.Repositories++
		}
	}
	for _, b := range p.world.blobs {
		if p.has(b.digest) {
			want.BlobBytes += int64(len(b.content))
		}
	}
	if err != nil || got != want {
		return fmt.Errorf("the store counts %+v, %v; want %+v", got, err, want)
	}
	return nil
}

// name is what a digest is called in this world.
func (p *player) name(d digest.Digest) string {
	for _, b := range p.world.blobs {
		if b.digest == d {
			return b.name
		}
	}
	for _, m := range p.manifests {
		if m.digest == d {
			return m.name
		}
	}
	return d.String()
}

func (p *player) list(ds []digest.Digest) string {
	names := []string{}
	for _, d := range ds {
		names = append(names, p.name(d))
	}
	slices.Sort(names)
	return "[" + strings.Join(names, " ") + "]"
}

// How a call can end.
const (
	done    = ""
	absent  = "not found"
	missing = "missing blobs"
	wrong   = "wrong digest"
	invalid = "invalid"
	inUse   = "in use"
)

// when is outcome if it holds, else done.
func when(holds bool, outcome string) string {
	if holds {
		return outcome
	}
	return done
}

// expect says how a call should have ended, unless it has.
func (p *player) expect(what string, err error, want string) error {
	got := done
	switch {
	case errors.Is(err, ErrNotFound):
		got = absent
	case errors.As(err, new(*MissingError)):
		got = missing
	case errors.As(err, new(*DigestError)):
		got = wrong
	case errors.As(err, new(*InvalidError)):
		got = invalid
	case errors.As(err, new(*InUseError)):
		got = inUse
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	if got != want {
		return fmt.Errorf("%s ends with %q (%v), not with %q", what, got, err, want)
	}
	return nil
}
