package follow_test

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/powercut"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/storetest"
)

var cuts = flag.Int("cuts", 6, "of the power of each side of a pair")

// servedDir is the environment of the test binary when it is a first whose power is cut, and servedSeed what it does.
const (
	servedDir  = "FOLLOW_SERVED_DIR"
	servedSeed = "FOLLOW_SERVED_SEED"
)

// stepsOfServed is how much a first does until its power is cut.
const stepsOfServed = 12

// moment does one thing of which a follower may show all or nothing.
func (w *world) moment() string {
	things := []struct {
		name string
		do   func()
	}{
		{"push", func() { w.push(w.repo(), w.image(), w.tag()) }},
		{"push", func() { w.push(w.repo(), w.image(), w.tag(), w.tag()) }},
		{"push signature", w.pushSignature},
		{"delete tag", func() { w.allowed(w.Tags.Delete(w.ctx, w.repo(), w.tag())) }},
		{"delete image", func() { _, err := w.Manifests.DeleteImage(w.ctx, w.repo(), w.image().digest()); w.allowed(err) }},
		{"run", w.commitRun},
		{"run", w.commitRun},
		{"rollback", w.rollback},
		{"user", func() {
			w.must(w.Users.Put(w.ctx, store.User{Name: w.tag(), Role: "pull", PasswordHash: fmt.Append(nil, w.Int())}))
		}},
		{"want", func() { w.must(w.Runs.Want(w.ctx, w.tag(), json.RawMessage(fmt.Sprint(w.IntN(3))))) }},
	}
	thing := things[w.IntN(len(things))]
	thing.do()
	return thing.name
}

func newWorld(h *host, seed uint64) *world {
	return &world{host: h, Rand: rand.New(rand.NewPCG(seed, 1)), images: 10, large: true}
}

// shown is what a host shows, as far as one step of a world changes it at one moment.
func (h *host) shown() string {
	h.t.Helper()
	tags, err := h.Tags.All(h.ctx, store.Tag{}, 1000)
	h.must(err)
	var all []string
	for _, tag := range tags {
		all = append(all, fmt.Sprintf("%s:%s %s", tag.Repository, tag.Name, tag.Digest))
		if whole, err := h.Manifests.Whole(h.ctx, tag.Repository, tag.Digest); err != nil || !whole {
			h.t.Errorf("%s:%s is shown and not whole: %v", tag.Repository, tag.Name, err)
		}
	}
	users, err := h.Users.List(h.ctx)
	h.must(err)
	for _, u := range users {
		all = append(all, fmt.Sprintf("user %s %s", u.Name, u.PasswordHash))
	}
	wants, err := h.Runs.Wants(h.ctx)
	h.must(err)
	for key, text := range wants {
		all = append(all, fmt.Sprintf("wants %s %s", key, text))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// comesUp opens what a power cut has left, of which all must be whole.
func (h *host) comesUp(p *powercut.Process, random *rand.Rand) {
	h.t.Helper()
	h.must(p.Leave(h.dir, random))
	h.open()
	report, err := h.Integrity().Verify(h.ctx, store.VerifyOptions{Content: true})
	h.must(err)
	for _, problem := range report.Problems {
		h.t.Errorf("after the power cut: %s", problem)
	}
}

// powerCutSeed returns the seed of a test, and logs it.
func powerCutSeed(t *testing.T) uint64 {
	with := *seed
	if with == 0 {
		with = rand.Uint64()
	}
	t.Logf("-seed %d -cuts %d", with, *cuts)
	return with
}

// powered runs the test binary on the directory of a host, whose store is closed, until its power is cut before
// an operation on files.
func (h *host) powered(at int, stdout *os.File, env ...string) *powercut.Process {
	h.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), env...)
	c.Stdout, c.Stderr = stdout, os.Stderr
	p, err := powercut.Start(c, h.dir, at)
	h.must(err)
	h.t.Cleanup(p.Cut)
	return p
}

// The power of the follower is cut before any of its operations on files. What it shows then the first has shown,
// whole, and it goes on from there.
func TestFollower_powerCut(t *testing.T) {
	with := powerCutSeed(t)
	first, second := newHostIn(t, powercut.TempDir(t)), newHostIn(t, powercut.TempDir(t))
	w := newWorld(first, with)
	w.push("repo0", w.image(), "t0")
	moments := map[string]bool{"": true, first.shown(): true}
	most, between := 200, 0
	for n := 0; n < *cuts || between == 0 && n < 10**cuts; n++ {
		second.must(second.Close())
		o := first.options(second)
		p := second.powered(1+w.IntN(most), nil, killedDir+"="+second.dir, killedURL+"="+o.URL, killedCA+"="+o.CA)
		for range 4 {
			w.moment()
			moments[first.shown()] = true
		}
		if !first.awaitFollower(p) {
			most = max(most, p.Operations())
		} else {
			between++
		}
		p.Cut()
		second.must(p.Err())
		second.comesUp(p, w.Rand)
		if !moments[second.shown()] {
			t.Errorf("after cut %d the follower shows what the first never did:\n%s", n, second.shown())
		}
		if w.IntN(3) == 0 {
			f := first.start(second)
			mustCatchUp(t, f)
			f.stop()
			equal(t, first, second)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	f := first.start(second)
	mustCatchUp(t, f)
	equal(t, first, second)
	if t.Logf("%d cuts of at least %d came while it followed, of at most %d operations", between, *cuts, most); between == 0 {
		t.Error("no cut came while it followed")
	}
}

// awaitFollower returns once a follower has everything, or has ended, and reports which.
func (h *host) awaitFollower(p *powercut.Process) (ended bool) {
	h.t.Helper()
	for {
		select {
		case <-p.Ended():
			return true
		case <-time.After(5 * time.Millisecond):
		}
		all, err := h.Feed.List(h.ctx)
		h.must(err)
		if len(all) == 1 && all[0].Pending == 0 && !all[0].Relist {
			return false
		}
	}
}

// served is the process whose power is cut: a first that does what its seed says, and prints where it serves,
// and a line after each step.
func served(dir string) error {
	var with uint64
	if _, err := fmt.Sscan(os.Getenv(servedSeed), &with); err != nil {
		return err
	}
	h := &host{t: alone{}, ctx: context.Background(), dir: dir, place: storetest.Files(dir), requests: map[string]int{}}
	h.open()
	h.server = httptest.NewTLSServer(http.HandlerFunc(h.serve))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw})
	if err := json.NewEncoder(os.Stdout).Encode([]string{h.server.URL, string(ca)}); err != nil {
		return err
	}
	w := newWorld(h, with)
	for range stepsOfServed {
		name := w.moment()
		fmt.Println(name)
	}
	select {}
}

// alone is the test of a process without one.
type alone struct{ testing.TB }

func (alone) Helper()                         {}
func (alone) Fatal(args ...any)               { panic(fmt.Sprint(args...)) }
func (alone) Errorf(text string, args ...any) { panic(fmt.Sprintf(text, args...)) }

// The power of the first is cut. It has then what it has acknowledged, and no follower is ahead of it: what the
// first gives other changes, their numbers are not those of changes that a follower has.
func TestFirst_powerCut(t *testing.T) {
	with := powerCutSeed(t)
	first, second := newHostIn(t, powercut.TempDir(t)), newHostIn(t, powercut.TempDir(t))
	random := rand.New(rand.NewPCG(with, 2))
	most, all := 0, 0
	for n := range *cuts {
		at := 0
		if n > 0 {
			at = 1 + random.IntN(most)
		}
		operations, acknowledged := first.servedUntil(second, at, with+uint64(n), random)
		most, all = max(most, operations), all+acknowledged
		w := newWorld(first, random.Uint64())
		for range 3 { // other changes than those that were lost, if some were
			w.moment()
		}
		f := first.start(second)
		mustCatchUp(t, f)
		f.stop()
		equal(t, first, second)
		if t.Failed() {
			t.FailNow()
		}
	}
	if t.Logf("%d steps were acknowledged, with at most %d operations", all, most); all < *cuts {
		t.Error("that is too little to prove anything")
	}
}

// servedUntil has the first serve in a process of its own until its power is cut, and compares what it and its
// follower have then with a twin that does the same. It returns how many operations on files and
// acknowledged steps there were.
func (h *host) servedUntil(second *host, at int, with uint64, random *rand.Rand) (operations, acknowledged int) {
	h.t.Helper()
	h.must(h.Close())
	twin := newWorld(h.copied(), with)
	moments := []string{twin.shown()}
	r, stdout, err := os.Pipe()
	h.must(err)
	defer r.Close()
	p := h.powered(at, stdout, servedDir+"="+h.dir, fmt.Sprintf("%s=%d", servedSeed, with))
	h.must(stdout.Close())
	lines := bufio.NewReader(r)
	var place []string
	var f *following
	if line, err := lines.ReadBytes('\n'); err == nil { // or it is cut while it opens
		h.must(json.Unmarshal(line, &place))
		o := h.options(second)
		o.URL, o.CA = place[0], place[1]
		f = h.startWith(o)
	}
	for f != nil && acknowledged < stepsOfServed {
		if _, err := lines.ReadString('\n'); err != nil {
			break
		}
		acknowledged++
		twin.moment()
		moments = append(moments, twin.shown())
	}
	if acknowledged == stepsOfServed && random.IntN(2) == 0 {
		ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
		_ = f.CatchUp(ctx) // or it is cut meanwhile
		cancel()
	}
	p.Cut()
	h.must(p.Err())
	if f != nil {
		f.stop()
	}
	h.comesUp(p, random)
	twin.moment()
	moments = append(moments, twin.shown())
	h.compareMoments(second, moments)
	return p.Operations(), acknowledged
}

// copied returns another host with the same content. The store is closed.
func (h *host) copied() *host {
	h.t.Helper()
	twin := newHostIn(h.t, powercut.TempDir(h.t))
	twin.must(twin.Close())
	h.must(os.RemoveAll(twin.dir))
	h.must(os.CopyFS(twin.dir, os.DirFS(h.dir)))
	twin.open()
	return twin
}

// compareMoments compares what a first and its follower have after a cut. The last but one of the moments was
// acknowledged.
func (h *host) compareMoments(second *host, moments []string) {
	h.t.Helper()
	here, there := h.shown(), second.shown()
	acknowledged, next := moments[len(moments)-2], moments[len(moments)-1]
	if here != acknowledged && here != next {
		h.t.Errorf("the first has\n%s\nafter it has acknowledged\n%s", here, acknowledged)
	}
	if there == "" { // it has never been equal
		return
	}
	at, last := slices.Index(moments, there), 0
	for i, m := range moments {
		if m == here {
			last = i
		}
	}
	switch {
	case at < 0:
		h.t.Errorf("the follower shows what the first never did:\n%s", there)
	case at > last:
		h.t.Errorf("the follower is ahead: it has\n%s\nand the first\n%s", there, here)
	}
}
