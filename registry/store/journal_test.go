package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// keepJournal stops the settling of the journal, so that what is pushed from now on stays in it
// until flush is called, or the store is opened again.
func (f *fixture) keepJournal() {
	f.t.Helper()
	f.journal.close()
}

// journaled counts the rows that there are.
func (f *fixture) journaled() (n int) {
	f.t.Helper()
	f.must(f.db.Reader().QueryRow(`SELECT count(*) FROM blob_journal`).Scan(&n))
	return n
}

func (f *fixture) inode(d digest.Digest) uint64 {
	f.t.Helper()
	info, err := os.Stat(f.path(d))
	f.must(err)
	return info.Sys().(*syscall.Stat_t).Ino
}

// powerCut does to the files what it may do to those that were not synced.
var powerCut = map[string]func(path string) error{
	"gone":                 os.Remove,
	"empty":                func(path string) error { return os.Truncate(path, 0) },
	"zeros":                func(path string) error { return os.WriteFile(path, make([]byte, 12), 0o600) },
	"gone with its folder": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	"there":                func(string) error { return nil }, // for all that one knows, only in memory
}

func TestStore_Open_WritesJournaledBlobsAgain(t *testing.T) {
	for name, cut := range powerCut {
		t.Run(name, func(t *testing.T) {
			f := newFileFixture(t)
			f.keepJournal()
			m := f.pushImage("app", "app", "v1")
			empty := f.blob("app", "").Digest
			if n := f.journaled(); n != 3 {
				t.Fatalf("%d blobs are journaled", n)
			}
			inode := f.inode(layerOf(m))
			held, err := os.Open(f.path(layerOf(m))) // so that no new file gets the number of this one
			f.must(err)
			defer held.Close()
			for _, d := range []digest.Digest{layerOf(m), empty} {
				f.must(cut(f.path(d)))
			}
			f.reopen()
			f.mustHave("app", "v1")
			_, err = f.Blobs.Stat(f.ctx, "app", empty)
			f.must(err)
			f.mustBeClean()
			if n := f.journaled(); n != 0 {
				t.Errorf("%d blobs are journaled still", n)
			}
			if f.inode(layerOf(m)) == inode {
				t.Error("a file is relied on that nobody has synced")
			}
		})
	}
}

// The files of what was collected or is in quarantine are not written again.
func TestStore_Open_WritesNoCollectedBlobAgain(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	d := f.blob("app", "content").Digest
	before := f.clock.add(guard.PushTakes)
	if removed, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d}); err != nil || removed != 1 {
		t.Fatalf("collection removes %d, %v", removed, err)
	}
	f.reopen()
	if _, err := os.Stat(f.path(d)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
	if n := f.journaled(); n != 0 {
		t.Errorf("%d blobs are journaled still", n)
	}
}

// An Open that fails leaves the bytes of an earlier process alone: it has not written the files.
func TestStore_Open_ThatFailsKeepsTheJournal(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	m := f.pushImage("app", "app", "v1")
	blobs := filepath.Join(f.storage(), "sha256")
	f.must(f.Close())
	f.must(os.Rename(blobs, blobs+".away"))
	o := Options{Database: databaseIn(f.t, f.dir), Storage: filepath.Join(f.dir, "storage")}
	if _, err := Open(f.ctx, o); err == nil || !strings.Contains(err.Error(), blobs+" does not exist") || hint.Of(err) == "" {
		t.Fatalf("opening it without its blobs gives %v", err)
	}
	f.must(os.Rename(blobs+".away", blobs))
	f.must(os.Remove(f.path(layerOf(m))))
	f.Store = nil
	f.reopen()
	f.mustHave("app", "v1")
	f.mustBeClean()
}

func TestStore_JournaledBlobsAreSettled(t *testing.T) {
	for name, few := range map[string]int{"one by one": fewFiles, "all at once": 0} {
		t.Run(name, func(t *testing.T) { flushed(t, few) })
	}
}

func flushed(t *testing.T, few int) {
	f := newFileFixture(t)
	f.keepJournal()
	f.journal.few = few
	m := f.pushImage("app", "app", "v1")
	inode := f.inode(layerOf(m))
	if !f.journal.flush(f.ctx) {
		t.Fatal("it is not flushed")
	}
	if n := f.journaled(); n != 0 {
		t.Errorf("%d blobs are journaled still", n)
	}
	if rows := f.journal.pending(); len(rows) != 0 {
		t.Errorf("%d rows are to be flushed still", len(rows))
	}
	if f.inode(layerOf(m)) != inode {
		t.Error("a file that was synced was written again")
	}
	f.mustHave("app", "v1")
}

// The background does it too, and Close does not leave it to the next Open.
func TestStore_JournalSettlesItself(t *testing.T) {
	f := newFileFixture(t)
	f.blob("app", "content")
	for f.journaled() > 0 { // or the test does not end
		time.Sleep(time.Millisecond)
	}
	f.blob("app", "more content")
	f.must(f.Close())
	db := f.direct()
	defer db.Close()
	var n int
	f.must(db.QueryRow(`SELECT count(*) FROM blob_journal`).Scan(&n))
	if n != 0 {
		t.Errorf("Close leaves %d blobs in the journal", n)
	}
	f.Store = nil
}

// After a sync that failed the kernel thinks that what it has is on disk. It was seen to be wrong.
func TestStore_JournaledBlobsAreWrittenAgainAfterAFailedSync(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	f.journal.few = 0
	m := f.pushImage("app", "app", "v1")
	inode := f.inode(layerOf(m))
	f.journal.sync = func([]digest.Digest, bool) error { return errors.New("the disk has failed") }
	_, failures, _ := f.journal.next()
	if !f.journal.flush(f.ctx) {
		t.Fatal("it is not flushed")
	}
	if f.inode(layerOf(m)) == inode {
		t.Error("a file is relied on whose sync has failed")
	}
	if n := f.journaled(); n != 0 {
		t.Errorf("%d blobs are journaled still", n)
	}
	f.journal.sync = f.files.Sync

	// Likewise that of a push that wrote its file before the failure, and committed afterwards.
	late := f.blob("app", "late").Digest
	rows := f.journal.pending()
	rows[0].failures = failures
	inode = f.inode(late)
	f.journal.flush(f.ctx)
	if f.inode(late) == inode {
		t.Error("a file is relied on that was written before a sync that has failed")
	}
	f.mustHave("app", "v1")
	f.mustBeClean()
}

// What Open could not write again is written when it is asked for. It is not damage.
func TestStore_JournaledBlobThatCannotBeWritten(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	m := f.pushImage("app", "app", "v1")
	f.must(f.Close())
	path := f.path(layerOf(m))
	f.must(os.Remove(path))
	f.must(os.MkdirAll(filepath.Join(path, "in the way"), 0o700))
	f.Store = nil
	f.reopen()
	f.keepJournal()
	if n := f.journaled(); n != 2 {
		t.Fatalf("%d blobs are journaled", n)
	}
	if _, err := f.Blobs.Open(f.ctx, "app", layerOf(m)); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a blob that cannot be written: %v", err)
	}
	if damage, err := f.Integrity().ScrubBlob(f.ctx, layerOf(m), unpaced); damage != "" || err == nil {
		t.Errorf("scrub says %q, %v", damage, err)
	}
	f.mustBeClean()
	f.must(os.RemoveAll(path))
	if damage, err := f.Integrity().ScrubBlob(f.ctx, layerOf(m), unpaced); damage != "" || err != nil {
		t.Errorf("scrub says %q, %v", damage, err)
	}
	f.must(os.Remove(path))
	if got := f.read("app", layerOf(m)); got != "layer of app" {
		t.Errorf("it reads %q", got)
	}
}

func unpaced(context.Context, int) error { return nil }

// With the disk full to the last byte the reserve is given up for what was acknowledged.
func TestStore_JournalOnAFullDisk_SQLite(t *testing.T) {
	dir, fill := diskspacetest.Small(t)
	f := newFileFixtureIn(t, dir)
	f.keepJournal()
	var blobs []digest.Digest
	for i := range 10 { // more than is given up at once
		blobs = append(blobs, f.blob("app", strings.Repeat(string(rune('a'+i)), smallBlob)).Digest)
	}
	f.must(f.Close())
	for _, d := range blobs {
		f.must(os.Remove(f.path(d)))
	}
	fill()
	f.Store = nil
	f.reopen()
	if n := f.journaled(); n != 0 {
		t.Errorf("%d blobs are journaled still", n)
	}
	for i, d := range blobs {
		if f.read("app", d) != strings.Repeat(string(rune('a'+i)), smallBlob) {
			t.Errorf("blob %d is another", i)
		}
	}
	f.mustBeClean()
}

// A blob that is pushed again has nothing written for it; where its file is not what it should be,
// or no row speaks for it, it is given a new one that is synced.
func TestStore_SmallBlobPushedAgain(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	d := f.blob("app", "content").Digest
	inode := f.inode(d)
	f.blob("other", "content")
	if f.inode(d) != inode || f.journaled() != 1 {
		t.Errorf("pushed again it has another file, or %d rows", f.journaled())
	}
	f.must(os.WriteFile(f.path(d), []byte("damaged"), 0o600))
	f.blob("app", "content")
	if got := f.read("app", d); got != "content" {
		t.Errorf("it reads %.20q", got)
	}

	stray := digest.FromString("stray")
	f.must(os.MkdirAll(filepath.Dir(f.path(stray)), 0o700))
	f.must(os.WriteFile(f.path(stray), []byte("stray"), 0o600))
	inode = f.inode(stray)
	f.blob("app", "stray")
	if f.inode(stray) == inode {
		t.Error("a file is relied on that nobody has synced")
	}
	f.mustBeClean()
}

// A journal that is not flushed fast enough lets pushes sync their own files.
func TestStore_JournalHasAnEnd(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	f.journal.mu.Lock()
	f.journal.bytes = journalBytes
	f.journal.mu.Unlock()
	d := f.blob("app", "content").Digest
	if n := f.journaled(); n != 0 {
		t.Errorf("%d blobs are journaled", n)
	}
	if got := f.read("app", d); got != "content" {
		t.Errorf("it reads %.20q", got)
	}
}

// Up to smallBlob bytes are journaled, however they come, and one more is not.
func TestUpload_sizes(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	for _, one := range []struct {
		size, piece, rows int
	}{{0, 1, 1}, {1, 1, 1}, {smallBlob, smallBlob, 1}, {smallBlob, 1000, 1}, {smallBlob + 1, 1000, 0}, {smallBlob + 1, smallBlob + 1, 0}} {
		was := f.journaled()
		content := strings.Repeat(string(rune('a'+one.piece%26)), one.size)
		u, err := f.Uploads.New(f.ctx, "app")
		f.must(err)
		for rest := content; rest != ""; {
			n := min(one.piece, len(rest))
			_, err := u.Write([]byte(rest[:n]))
			f.must(err)
			rest = rest[n:]
		}
		d := digest.FromString(content)
		_, err = u.Commit(f.ctx, d)
		f.must(err)
		if n := f.journaled() - was; n != one.rows {
			t.Errorf("%d bytes in pieces of %d: %d rows", one.size, one.piece, n)
		}
		if got := f.read("app", d); got != content {
			t.Errorf("it reads %.20q", got)
		}
	}
	if left, err := os.ReadDir(filepath.Join(f.storage(), "uploads")); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// A transaction that fails leaves neither row nor bytes nor file.
func TestStore_SmallBlobThatIsNotCommitted(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	refused := errors.New("refused")
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	write(t, u, "content")
	d := digest.FromString("content")
	if err := u.commitTo(f.ctx, d, func(context.Context, *sql.Tx) error { return refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if n := f.journaled(); n != 0 || len(f.journal.pending()) != 0 {
		t.Errorf("%d blobs are journaled", n)
	}
	if _, err := os.Stat(f.path(d)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
}

// The row of a small blob is committed while its file is written. What fails then is told, and what
// is committed stands: its bytes are in the database.
func TestStore_SmallBlobWhoseFileCannotBeMade(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	d := digest.FromString("content")
	dir := filepath.Dir(f.path(d))
	f.must(os.Symlink("nowhere", dir))
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	write(t, u, "content")
	if _, err := u.Commit(f.ctx, d); err == nil {
		t.Error("it is acknowledged")
	}
	f.mustBeClean()
	f.must(os.Remove(dir))
	if got := f.read("app", d); got != "content" {
		t.Errorf("it reads %q", got)
	}
	if !f.journal.flush(f.ctx) || f.journaled() != 0 {
		t.Errorf("%d blobs are journaled still", f.journaled())
	}
}

// Many push the same small blob at once, and are all told the truth.
func TestStore_SmallBlobPushedByMany(t *testing.T) {
	f := newFixture(t)
	for i := range 20 {
		content := strings.Repeat(string(rune('a'+i)), smallBlob)
		var g errgroup.Group
		for p := range 8 {
			g.Go(func() error {
				u, err := f.Uploads.New(f.ctx, fmt.Sprint("app", p))
				if err == nil {
					_, err = u.Write([]byte(content))
				}
				if err == nil {
					_, err = u.Commit(f.ctx, digest.FromString(content))
				}
				return err
			})
		}
		f.must(g.Wait())
		for p := range 8 {
			if f.read(fmt.Sprint("app", p), digest.FromString(content)) != content {
				t.Errorf("blob %d is another in repository %d", i, p)
			}
		}
	}
	f.mustBeClean()
}

// Between the row of a small blob and its file there may be a moment. Verify and a
// backup that see it wait.
func TestStore_FileAMomentBehindItsRow_SQLite(t *testing.T) {
	f := newFileFixture(t)
	f.keepJournal()
	d := f.blob("app", "content").Digest
	path := f.path(d)
	for name, look := range map[string]func() (problems int, err error){
		"verify": func() (int, error) {
			report, err := f.Integrity().Verify(f.ctx, VerifyOptions{})
			return len(report.Problems), err
		},
		"backup": func() (int, error) {
			report, err := f.backup(filepath.Join(t.TempDir(), "backup"))
			return int(report.Damaged), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f.must(f.blobGuard().Enter(f.ctx, d))
			f.must(os.Rename(path, path+".later"))
			var g errgroup.Group
			g.Go(func() error {
				problems, err := look()
				if problems != 0 {
					t.Errorf("it finds %d problems", problems)
				}
				return err
			})
			time.Sleep(50 * time.Millisecond) // if it has not looked by then, this proves nothing
			f.must(os.Rename(path+".later", path))
			f.blobGuard().Leave(d)
			f.must(g.Wait())
		})
	}
}
