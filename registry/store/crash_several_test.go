//go:build s3

package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

var kills = flag.Int("kills", 6, "TestSeveral_KilledOnPostgreSQL: how often a daemon is killed; make several kills 200 times")

// Invariants 1 and 2 of several daemons. Three processes push, sync, delete, upload and collect with one
// database and one bucket. Again and again one of them is killed, and another takes its place. What any
// of them acknowledged is there, and what the killed ones left is collected.
func TestSeveral_KilledOnPostgreSQL(t *testing.T) {
	f := &fixture{t: t, dir: t.TempDir(), several: true, bucket: s3test.Start(t)}
	f.ctx, f.clock = context.Background(), &clock{t: time.Now()}
	c := &crowd{fixture: f.daemon()}
	c.now = time.Now
	for range 3 {
		c.begin()
	}
	for round := range *kills {
		c.killOne(round)
		c.check(round)
		if t.Failed() {
			t.Fatalf("after %d kills", round+1)
		}
	}
	c.stop()
	c.settled()
	t.Logf("%d kills: %d images pushed and acknowledged, %d by runs, %d uploads continued, %d blobs collected while others were pushed, %d after the last kill",
		*kills, c.pushed, c.ran, c.continued, c.collected, c.left)
	if c.pushed < *kills || c.ran == 0 || c.continued == 0 || c.collected == 0 {
		t.Error("that is too little to prove anything")
	}
}

// crowd are daemons in processes of their own, and one in this process that looks.
type crowd struct {
	*fixture
	members []*crashing

	checked                                 []ack // before the last round
	pushed, ran, continued, collected, left int
}

// crashing is one of the processes.
type crashing struct {
	cmd    *exec.Cmd
	stderr *strings.Builder
	said   chan struct{} // has a token after an acknowledgement
	over   chan struct{} // closed when all that it said is read

	mu     sync.Mutex // guards what follows
	member string
	acks   []ack
}

func (c *crowd) begin() {
	exe, err := os.Executable()
	c.must(err)
	storage, _ := c.bucket.Address(c.t, "")
	p := &crashing{cmd: exec.Command(exe), stderr: &strings.Builder{}, said: make(chan struct{}, 1), over: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), crashDatabase+"="+databaseIn(c.t, c.dir), crashStorage+"="+storage, crashCredentials+"="+c.bucket.Credentials, crashObjects+"="+c.bucket.Dir)
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	c.must(err)
	c.must(p.cmd.Start())
	c.t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // where the test has failed
	go p.read(out)
	c.members = append(c.members, p)
}

func (p *crashing) read(out io.Reader) {
	defer close(p.over)
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadBytes('\n')
		var a ack
		if err != nil || json.Unmarshal(line, &a) != nil { // a line half written was not said
			return
		}
		p.mu.Lock()
		if a.Member != "" {
			p.member = a.Member
		} else {
			p.acks = append(p.acks, a)
		}
		p.mu.Unlock()
		select {
		case p.said <- struct{}{}:
		default:
		}
	}
}

// take returns what a process has acknowledged since the last call.
func (p *crashing) take() []ack {
	p.mu.Lock()
	defer p.mu.Unlock()
	acks := p.acks
	p.acks = nil
	return acks
}

// killOne kills a process at any moment after some acknowledgements, and starts another.
func (c *crowd) killOne(round int) {
	i := rand.IntN(len(c.members))
	p := c.members[i]
	for range 1 + rand.IntN(12) {
		select {
		case <-p.said:
		case <-p.over:
			c.t.Fatalf("a daemon ended by itself: %v %s", p.cmd.Wait(), p.stderr)
		}
	}
	time.Sleep(time.Duration(rand.Int64N(int64(50 * time.Millisecond)))) // any moment is as good as another
	c.kill(p)
	c.members = append(c.members[:i], c.members[i+1:]...)
	if round%2 == 0 { // as if its lease had ended; the others wait for that
		c.exec(`DELETE FROM daemons WHERE id = ?`, p.member)
	}
	c.take(p)
	c.begin()
}

func (c *crowd) kill(p *crashing) {
	_ = p.cmd.Process.Kill()
	<-p.over
	_ = p.cmd.Wait()
	if status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
		c.t.Fatalf("a daemon ended by itself: %s", p.stderr)
	}
}

func (c *crowd) take(p *crashing) {
	for _, a := range p.take() {
		c.checked = append(c.checked, a)
		c.collected += a.Removed
		switch {
		case a.Pushed:
			c.pushed++
		case a.Manifest != "":
			c.ran++
		}
	}
}

// check checks what was acknowledged since the last call, and now and then all of it.
func (c *crowd) check(round int) {
	from := len(c.checked)
	for _, p := range c.members {
		c.take(p)
	}
	if round%20 == 19 {
		from = 0
	}
	for i, a := range c.checked[from:] {
		switch {
		case a.Upload != "":
			c.resume(a)
			c.checked[from+i] = ack{}
		case a.Manifest != "":
			c.has(a)
		}
	}
}

// has checks an image and its layers.
func (c *crowd) has(a ack) {
	m, err := c.Manifests.ByTag(c.ctx, "app", a.Tag)
	if err != nil || m.Digest != a.Manifest {
		c.t.Errorf("acknowledged %s as %s: %s, %v", a.Manifest, a.Tag, m.Digest, err)
		return
	}
	var parts struct {
		Layers []struct{ Digest digest.Digest }
	}
	c.must(json.Unmarshal(m.Body, &parts))
	for _, l := range parts.Layers {
		content, err := os.ReadFile(c.path(l.Digest)) // to open it would count as a use
		if err != nil || digest.FromBytes(content) != l.Digest {
			c.t.Errorf("layer %s of %s: %d bytes, %v", l.Digest, a.Tag, len(content), err)
		}
	}
}

// resume continues an upload of another daemon, and commits it.
func (c *crowd) resume(a ack) {
	u, err := c.Uploads.Resume(c.ctx, "app", a.Upload)
	if err != nil {
		c.t.Errorf("upload %s: %v", a.Upload, err)
		return
	}
	if u.Size() != a.Offset {
		c.t.Errorf("upload %s has %d bytes, %d were acknowledged", a.Upload, u.Size(), a.Offset)
	}
	_, err = io.WriteString(u, "the rest")
	c.must(err)
	_, err = u.Commit(c.ctx, digest.FromString(strings.Repeat(a.Tag, 100)+"the rest"))
	c.must(err)
	c.continued++
}

// stop kills all processes, and checks all that they acknowledged.
func (c *crowd) stop() {
	for _, p := range c.members {
		c.kill(p)
		c.take(p)
		c.exec(`DELETE FROM daemons WHERE id = ?`, p.member)
	}
	c.members = nil
	for _, a := range c.checked {
		switch {
		case a.Upload != "":
			c.resume(a)
		case a.Manifest != "":
			c.has(a)
		}
	}
}

// settled checks that nothing is left once leases have ended and a collection has run: no row without
// its object, and no object, upload, claim or removal that nothing uses.
func (c *crowd) settled() {
	for c.rows(`SELECT count(*) FROM daemons`) > 1 { // those whose leases have yet to end
		c.must(retry.Sleep(c.ctx, 100*time.Millisecond))
	}
	c.must(c.guard.shared.Tidy(c.ctx))
	c.verify()
	c.verifyRuns()
	c.mustBeClean()
	later := c.clock.add(2*guard.PushTakes + 48*time.Hour) // which began when the test did
	c.now = c.clock.now
	var plan []digest.Digest
	c.must(c.Garbage.StaleUploads(c.ctx, later, func(id string, _ int64) error {
		_, err := c.Garbage.RemoveUpload(c.ctx, later, id)
		return err
	}))
	c.must(c.Garbage.StaleRuns(c.ctx, later, func(id string) error { return c.Garbage.RemoveRun(c.ctx, later, id) }))
	c.must(c.Garbage.GarbageBlobs(c.ctx, later, func(d digest.Digest, _ int64) error { plan = append(plan, d); return nil }))
	var err error
	c.left, _, err = c.Garbage.RemoveBlobs(c.ctx, later, plan)
	c.must(err)
	c.must(c.guard.shared.Tidy(c.ctx))
	for what, text := range map[string]string{
		"removals are not done":     `SELECT count(*) FROM condemned WHERE done = 0`,
		"claims are left":           `SELECT count(*) FROM claims`,
		"upload sessions are left":  `SELECT count(*) FROM uploads`,
		"runs are left open":        `SELECT count(*) FROM runs WHERE committed = 0`,
		"blobs have no manifest":    `SELECT count(*) FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = b.digest)`,
		"deleted links are watched": `SELECT count(*) FROM lost_links`,
	} {
		if n := c.rows(text); n != 0 {
			c.t.Errorf("%d %s", n, what)
		}
	}
	if left, err := c.Store.blobs.Uploads(c.ctx); err != nil || len(left) > 0 {
		c.t.Errorf("uploads are left in the bucket: %v, %v", left, err)
	}
	objects := 0
	for _, algorithm := range []string{"sha256", "sha512"} {
		err := filepath.WalkDir(filepath.Join(c.bucket.Dir, algorithm), func(_ string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !e.IsDir() {
				objects++
			}
			return err
		})
		c.must(err)
	}
	if rows := c.verify(); objects != rows {
		c.t.Errorf("%d objects and %d rows of blobs are left", objects, rows)
	}
	c.mustBeClean()
}
