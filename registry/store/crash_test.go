package store

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// crashDir, when set, makes the test binary the process that is killed.
const crashDir = "STORE_CRASH_DIR"

// crashDatabase is the database of that process.
const crashDatabase = "STORE_CRASH_DATABASE"

func TestMain(m *testing.M) {
	if os.Getenv(crashStorage) != "" {
		fmt.Fprintln(os.Stderr, writeTogether())
		os.Exit(1)
	}
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeForEver(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(durableDir); dir != "" {
		if err := pushWatched(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runImages is how many images a run has that may be killed.
const runImages = 12

// ack is what the process says once a call has returned.
type ack struct {
	Manifest digest.Digest `json:",omitempty"` // tagged with Tag in repository app
	Tag      string        `json:",omitempty"`
	Upload   string        `json:",omitempty"`
	Offset   int64         `json:",omitempty"`
	Secret   []byte        `json:",omitempty"`
	Member   string        `json:",omitempty"` // id of this daemon, first
	Pushed   bool          `json:",omitempty"` // by pushOne and its like
	Removed  int           `json:",omitempty"` // blobs, by a collection
}

// writeForEver writes to the store and says to stdout what was acknowledged, until it is killed.
func writeForEver(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Database: os.Getenv(crashDatabase), Storage: filepath.Join(dir, "storage")})
	if err != nil {
		return err
	}
	s.part = 0 // so that what is long is long
	say := json.NewEncoder(os.Stdout)
	secret, err := s.Secret(ctx, "secret")
	if err == nil {
		err = say.Encode(ack{Secret: secret})
	}
	for i := 0; err == nil; i++ {
		name := fmt.Sprint(os.Getpid(), ".", i)
		switch i % 4 {
		case 0, 1:
			err = pushOne(ctx, s, name, say)
		case 2:
			err = runOne(ctx, s, name, say)
		case 3:
			if err = uploadHalf(ctx, s, name, say); err == nil {
				err = collectOnce(ctx, s)
			}
		}
	}
	return err
}

func pushOne(ctx context.Context, s *Store, name string, say *json.Encoder) error {
	layer := strings.Repeat(name, 20_000)
	for _, content := range []string{"{}", layer} {
		u, err := s.Uploads.New(ctx, "app")
		if err != nil {
			return err
		}
		if _, err := u.ReadFrom(strings.NewReader(content)); err != nil {
			return err
		}
		if _, err := u.Commit(ctx, digest.FromString(content)); err != nil {
			return err
		}
	}
	m, err := s.Manifests.Put(ctx, "app", manifestOf(descriptor("x/y", []byte("{}")), descriptor("x/y", []byte(layer))), PutOptions{Tags: []string{name}})
	if err != nil {
		return err
	}
	return say.Encode(ack{Manifest: m.Digest, Tag: name})
}

func runOne(ctx context.Context, s *Store, name string, say *json.Encoder) error {
	r, err := s.Runs.Begin(ctx, name)
	if err != nil {
		return err
	}
	var acks []ack
	for i := range runImages {
		name := fmt.Sprint(name, "-", i)
		config := descriptor("x/y", []byte(name))
		if err := r.PutBlob(ctx, "app", config, strings.NewReader(name)); err != nil {
			return err
		}
		body := manifestOf(config)
		desc := descriptor("application/vnd.oci.image.manifest.v1+json", body)
		if err := errors.Join(r.PutManifest(ctx, "app", desc, body), r.Tag(ctx, tagged("app", name, desc.Digest))); err != nil {
			return err
		}
		acks = append(acks, ack{Manifest: desc.Digest, Tag: name})
	}
	if err := r.Commit(ctx); err != nil {
		return err
	}
	for _, a := range acks {
		if err := say.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

// verifyRuns checks that of each run all is visible or nothing, and that Maintain clears what those
// leave that were killed.
func (f *fixture) verifyRuns() {
	f.t.Helper()
	for what, text := range map[string]string{
		"runs that have moved some of their tags": `SELECT count(*) FROM (SELECT 1 FROM tag_history WHERE run <> '' GROUP BY run HAVING count(*) <> ?) few`,
		"moves of tags by runs that are open":     `SELECT count(*) FROM tag_history h JOIN runs r ON r.id = h.run WHERE r.committed <= 0 AND ? > 0`,
		"committed runs that have moved no tags":  `SELECT count(*) FROM runs WHERE committed > 0 AND ? > (SELECT count(*) FROM tag_history h WHERE h.run = runs.id)`,
	} {
		if n := f.count(text, runImages); n != 0 {
			f.t.Errorf("%d %s", n, what)
		}
	}
	f.must(f.Maintain(f.ctx))
	if n := f.count(`SELECT count(*) FROM run_tags s JOIN runs r ON r.id = s.run WHERE r.committed <> 0`); n != 0 {
		f.t.Errorf("%d tags are left staged", n)
	}
}

func uploadHalf(ctx context.Context, s *Store, name string, say *json.Encoder) error {
	u, err := s.Uploads.New(ctx, "app")
	if err != nil {
		return err
	}
	if _, err := u.Write([]byte(strings.Repeat(name, 1000))); err != nil {
		return err
	}
	if err := u.Close(); err != nil {
		return err
	}
	return say.Encode(ack{Upload: u.ID(), Offset: u.Size()})
}

// collectOnce makes garbage and collects it.
func collectOnce(ctx context.Context, s *Store) error {
	u, err := s.Uploads.New(ctx, "garbage")
	if err != nil {
		return err
	}
	if _, err := u.Write([]byte(u.ID())); err != nil {
		return err
	}
	if _, err := u.Commit(ctx, digest.FromString(u.ID())); err != nil {
		return err
	}
	var plan []digest.Digest
	before := time.Now()
	err = s.Garbage.GarbageBlobs(ctx, before, func(d digest.Digest, _ int64) error { plan = append(plan, d); return nil })
	if err != nil {
		return err
	}
	_, _, err = s.Garbage.RemoveBlobs(ctx, before, plan)
	return err
}

// Invariants 1 and 2. A process that pushes, syncs, uploads and collects is killed at random
// moments. What it acknowledged is there afterwards, and every row's file is whole.
func TestStore_KilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	var acks []ack
	for _, patience := range rand.Perm(20)[:12] { // in any order, and never small ones alone
		acks = append(acks, writeUntilKilled(t, dir, patience)...)
		verifyAcks(t, dir, acks)
	}
	if len(acks) < 50 {
		t.Errorf("only %d calls were acknowledged: the process was killed too early to prove anything", len(acks))
	}
}

// Invariant 1, at the one moment that a kill at random hardly ever meets: between a row and its
// file there are some microseconds. Whatever commits a blob has its whole file in place when it
// writes the row, or writes its bytes with it.
func TestStore_AFileIsThereBeforeItsRow(t *testing.T) {
	for name, size := range map[string]int{"small": smallBlob, "large": smallBlob + 1} {
		t.Run(name, func(t *testing.T) {
			open := newFixture
			if size <= smallBlob { // which files have in the journal
				open = newFileFixture
			}
			f := open(t)
			u, err := f.Uploads.New(f.ctx, "app")
			f.must(err)
			content := strings.Repeat("c", size)
			write(t, u, content)
			d := digest.FromString(content)
			looked := false
			f.must(u.commitTo(f.ctx, d, func(ctx context.Context, tx *sql.Tx) error {
				looked = true
				var there []byte
				err := tx.QueryRowContext(ctx, `SELECT body FROM blob_journal WHERE digest = ?`, d).Scan(&there)
				if name == "large" {
					there, err = os.ReadFile(f.path(d))
				}
				if string(there) != content {
					t.Errorf("when its row is written, there are %d bytes, %v", len(there), err)
				}
				return nil
			}))
			if !looked {
				t.Error("nobody has looked")
			}
			if there, err := os.ReadFile(f.path(d)); string(there) != content {
				t.Errorf("when it is acknowledged, the file has %d bytes, %v", len(there), err)
			}
		})
	}
}

// writeUntilKilled runs the writing process, kills it a random moment after more than patience of
// its acknowledgements, and returns what it acknowledged.
func writeUntilKilled(t *testing.T, dir string, patience int) []ack {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashDatabase+"="+databaseIn(t, dir))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acks []ack
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // a line half written was not said
			break
		}
		var a ack
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		acks = append(acks, a)
		if len(acks) == patience+1 {
			// Not a wait for something to happen: any moment is as good as another.
			time.AfterFunc(time.Duration(rand.Int64N(int64(5*time.Millisecond))), func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() {
		t.Fatalf("the process ended by itself: %s", stderr.String())
	}
	return acks
}

func verifyAcks(t *testing.T, dir string, acks []ack) {
	t.Helper()
	f := &fixture{t: t, ctx: context.Background(), clock: &clock{t: time.Now()}, dir: dir, inFiles: true}
	f.reopen()
	defer func() { f.must(f.Close()) }()
	f.verify()
	f.verifyRuns()
	for _, a := range acks {
		switch {
		case a.Upload != "":
			u, err := f.Uploads.Resume(f.ctx, "app", a.Upload)
			f.must(err)
			if u.Size() != a.Offset {
				t.Errorf("upload %s has %d bytes, %d were acknowledged", a.Upload, u.Size(), a.Offset)
			}
			f.must(u.Close())
		case a.Secret != nil:
			secret, err := f.Secret(f.ctx, "secret")
			f.must(err)
			if string(secret) != string(a.Secret) {
				t.Error("the secret is another")
			}
		default:
			m, err := f.Manifests.ByTag(f.ctx, "app", a.Tag)
			if err != nil || m.Digest != a.Manifest {
				t.Errorf("acknowledged %s as %s: %s, %v", a.Manifest, a.Tag, m.Digest, err)
			}
		}
	}
	f.must(f.db.Structures(f.ctx, func(what string) { t.Errorf("the database is damaged: %s", what) }))
}
