package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

func write(t *testing.T, u *Upload, content string) {
	t.Helper()
	if _, err := u.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
}

// list lists what is in a directory of the storage, below it and all.
func (f *fixture) read(repo string, d digest.Digest) string {
	f.t.Helper()
	b, err := f.Blobs.Open(f.ctx, repo, d)
	f.must(err)
	defer b.Close()
	content, err := io.ReadAll(b)
	f.must(err)
	if int64(len(content)) != b.Size {
		f.t.Errorf("%d bytes, said to be %d", len(content), b.Size)
	}
	return string(content)
}

func TestUpload_InChunksAcrossRestarts(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	f.must(u.Close()) // as the answer to POST does, with nothing written yet
	want := ""
	for _, chunk := range []string{"one", "", strings.Repeat("two", 100_000), "three"} {
		f.reopen()
		v, err := f.Uploads.Resume(f.ctx, "app", u.ID())
		f.must(err)
		if v.Size() != int64(len(want)) || !v.bytes.Started().Equal(u.bytes.Started()) {
			t.Fatalf("size %d of %d, started %v, %v", v.Size(), len(want), v.bytes.Started(), u.bytes.Started())
		}
		_, err = v.ReadFrom(strings.NewReader(chunk))
		f.must(err)
		f.must(v.Close())
		want += chunk
	}
	f.reopen()
	u, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	f.must(err)
	size, err := u.Commit(f.ctx, digest.FromString(want))
	f.must(err)
	f.must(u.Close())
	if got := f.read("app", digest.FromString(want)); got != want || size != int64(len(want)) {
		t.Errorf("%d bytes, %d, want %d", len(got), size, len(want))
	}
	if left := f.list("uploads"); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	_, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	isNotFound(t, err)
}

func TestUpload_ResumeAfterCrash(t *testing.T) {
	for _, test := range []struct {
		name  string
		crash func(f *fixture, id string)
		want  string // what the session holds; "" when it is unknown
	}{
		{"bytes that were not acknowledged are dropped", func(f *fixture, id string) {
			data, err := os.OpenFile(f.uploadPath(id), os.O_APPEND|os.O_WRONLY, 0)
			f.must(err)
			_, err = data.WriteString("never acknowledged")
			f.must(err)
			f.must(data.Close())
		}, "held"},
		{"a file that lost bytes is unknown", func(f *fixture, id string) {
			f.must(os.Truncate(f.uploadPath(id), 2))
		}, ""},
		{"bytes without a state are unknown", func(f *fixture, id string) {
			f.must(os.Remove((f.uploadPath(id) + ".json")))
		}, ""},
		{"a state without bytes is unknown", func(f *fixture, id string) {
			f.must(os.Remove(f.uploadPath(id)))
		}, ""},
		{"a torn state is unknown", func(f *fixture, id string) {
			f.must(os.Truncate((f.uploadPath(id) + ".json"), 20))
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFileFixture(t)
			u, err := f.Uploads.New(f.ctx, "app")
			f.must(err)
			write(t, u, "held")
			f.must(u.Close())
			test.crash(f, u.ID())
			f.reopen()
			u, err = f.Uploads.Resume(f.ctx, "app", u.ID())
			if test.want == "" {
				isNotFound(t, err)
				return
			}
			f.must(err)
			write(t, u, "+more")
			d := digest.FromString(test.want + "+more")
			_, err = u.Commit(f.ctx, d)
			f.must(err)
			if got := f.read("app", d); got != test.want+"+more" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestUpload_WrongDigestLeavesNothing(t *testing.T) {
	for _, want := range []digest.Digest{dA, dC} {
		f := newFixture(t)
		u, err := f.Uploads.New(f.ctx, "app")
		f.must(err)
		write(t, u, "not what it says")
		_, err = u.Commit(f.ctx, want)
		var wrong *DigestError
		if !errors.As(err, &wrong) || wrong.Want != want || wrong.Got != want.Algorithm().FromString("not what it says") {
			t.Fatalf("got %v", err)
		}
		if left := f.list("."); len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
		_, err = f.Blobs.Stat(f.ctx, "app", want)
		isNotFound(t, err)
	}
}

func TestUpload_SHA512(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	write(t, u, "con")
	f.must(u.Close())
	u, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	f.must(err)
	write(t, u, "tent")
	d := digest.SHA512.FromString("content")
	_, err = u.Commit(f.ctx, d)
	f.must(err)
	if got := f.read("app", d); got != "content" {
		t.Errorf("got %q", got)
	}
}

func TestUpload_MalformedDigestLeavesTheSession(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	write(t, u, "a")
	var invalid *InvalidError
	if _, err := u.Commit(f.ctx, "sha256:../../x"); !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	_, err = u.Commit(f.ctx, dA)
	f.must(err)
	if _, err := u.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a write after Commit gave %v: it would change the blob", err)
	}
	if _, err := u.Commit(f.ctx, dA); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a second Commit gave %v", err)
	}
}

func TestUpload_FailedCommitEndsTheSession(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	write(t, u, "a")
	refuse := `CREATE TRIGGER refuse BEFORE INSERT ON blobs BEGIN SELECT RAISE(ABORT, 'refused'); END`
	if onServer != nil {
		refuse = `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
			CREATE TRIGGER refuse BEFORE INSERT ON blobs FOR EACH ROW EXECUTE FUNCTION refuse()`
	}
	db := f.direct()
	_, err = db.Exec(refuse)
	f.must(errors.Join(err, db.Close()))
	if _, err := u.Commit(f.ctx, dA); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("got %v", err)
	}
	if _, err := u.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a write after a failed Commit gave %v: the file may be in place already", err)
	}
	_, err = f.Blobs.Stat(f.ctx, "app", dA)
	isNotFound(t, err)
}

func TestUpload_Cancel(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	write(t, u, "a")
	f.must(u.Close())
	u, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	f.must(err)
	f.must(u.Cancel(f.ctx))
	f.must(u.Cancel(f.ctx))
	if left := f.list("uploads"); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	_, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	isNotFound(t, err)
}

func TestUpload_ForeignSessions(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	f.must(u.Close())
	secret := filepath.Join(f.dir, "secret.json")
	f.must(os.WriteFile(secret, []byte(`{"repository":"app"}`), 0o600))
	for _, test := range []struct{ repo, id string }{
		{"other", u.ID()}, {"app", "../../secret"}, {"app", ""}, {"app", "."}, {"app", strings.ToUpper(u.ID())},
	} {
		_, err := f.Uploads.Resume(f.ctx, test.repo, test.id)
		isNotFound(t, err)
	}
	_, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	f.must(err)
}

func TestUpload_OneRequestAtATime(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	f.patience = 0
	var busy *BusyError
	if _, err := f.Uploads.Resume(f.ctx, "app", u.ID()); !errors.As(err, &busy) {
		t.Fatalf("two have the session: %v", err)
	}
	ended, end := context.WithCancel(f.ctx)
	end()
	f.patience = 1 << 40
	if _, err := f.Uploads.Resume(ended, "app", u.ID()); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	// The next request waits for the one that is closing.
	got := make(chan error)
	go func() {
		v, err := f.Uploads.Resume(f.ctx, "app", u.ID())
		if err == nil && v.Size() != 1 {
			err = errors.New("it did not wait for Close")
		}
		got <- err
	}()
	write(t, u, "a")
	f.must(u.Close())
	f.must(<-got)
}

// Requests that fight over a session must not mix their bytes: each chunk is whole, and the
// hash is of what is there.
func TestUpload_ManyRequestsStayInOrder(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	f.must(u.Close())
	f.patience = time.Hour // the last waits for the syncs of all others
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			v, err := f.Uploads.Resume(f.ctx, "app", u.ID())
			if err != nil {
				t.Error(err)
				return
			}
			_, err = v.ReadFrom(iotest.OneByteReader(strings.NewReader(strings.Repeat(string(rune('a'+i)), 500))))
			if err = errors.Join(err, v.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	content := f.uploaded(u.ID())
	for i := 0; i < len(content); i += 500 {
		if !bytes.Equal(content[i:i+500], bytes.Repeat(content[i:i+1], 500)) {
			t.Fatal("chunks are mixed")
		}
	}
	u, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	f.must(err)
	_, err = u.Commit(f.ctx, digest.FromBytes(content))
	f.must(err)
}

func TestUpload_BrokenSourceKeepsWhatCame(t *testing.T) {
	f := newFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	broken := errors.New("connection reset")
	_, err = u.ReadFrom(io.MultiReader(strings.NewReader("came"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	f.must(u.Close())
	u, err = f.Uploads.Resume(f.ctx, "app", u.ID())
	f.must(err)
	if u.Size() != 4 {
		t.Errorf("size %d", u.Size())
	}
}

func TestUpload_FullDisk(t *testing.T) {
	f := newFileFixture(t)
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	large := strings.Repeat("x", smallBlob+1)
	write(t, u, large)
	u.want = u.Size() + 5
	restore := f.replace(f.uploadPath(u.ID()), "/dev/full")
	_, err = u.Write([]byte("hello"))
	restore()
	var full *FullError
	if !errors.As(err, &full) || full.Path != f.storage() || full.Short != 5 || full.Hint() == "" || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %#v", err)
	}
	// What comes after there is space again is right.
	write(t, u, "hello")
	_, err = u.Commit(f.ctx, digest.FromString(large+"hello"))
	f.must(err)
}

func TestUpload_ReplacesADamagedFile(t *testing.T) {
	f := newFixture(t)
	d := f.blob("app", "content").Digest
	f.must(os.WriteFile(f.path(d), []byte("damaged"), 0o600))
	f.blob("app", "content")
	if got := f.read("app", d); got != "content" {
		t.Errorf("got %q", got)
	}
}

func TestStore_BlobVisibility(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	layer := digest.FromString("layer of app")
	_, err := f.Blobs.Stat(f.ctx, "other", layer)
	isNotFound(t, err)
	_, err = f.Blobs.Open(f.ctx, "other", layer)
	isNotFound(t, err)
	_, err = f.Blobs.Mount(f.ctx, "third", "other", layer)
	isNotFound(t, err)
	_, err = f.Blobs.Mount(f.ctx, "third", "", dA)
	isNotFound(t, err)
	size, err := f.Blobs.Mount(f.ctx, "third", "", layer)
	f.must(err)
	if size != int64(len("layer of app")) || f.read("third", layer) != "layer of app" {
		t.Error("mounted, but not there")
	}

	f.must(f.Blobs.Delete(f.ctx, "third", layer))
	isNotFound(t, f.Blobs.Delete(f.ctx, "third", layer))
	_, err = f.Blobs.Stat(f.ctx, "third", layer)
	isNotFound(t, err)

	// A blob that a manifest is made of is not deleted, however often that is asked for.
	for range 2 {
		if err := f.Blobs.Delete(f.ctx, "app", layer); !errors.As(err, new(*InUseError)) {
			t.Errorf("deleting it gives %v", err)
		}
	}
	_, err = f.Blobs.Stat(f.ctx, "app", layer)
	f.must(err)
	isNotFound(t, f.Blobs.Delete(f.ctx, "other", layer)) // where it has no link
	isNotFound(t, f.Blobs.Delete(f.ctx, "unheard/of", layer))
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	f.must(f.Blobs.Delete(f.ctx, "app", layer))
	_, err = f.Blobs.Stat(f.ctx, "app", layer)
	isNotFound(t, err)
}

func BenchmarkUpload(b *testing.B) {
	f := newFixture(b)
	content := make([]byte, 8<<20)
	if _, err := rand.Read(content); err != nil {
		b.Fatal(err)
	}
	d := digest.FromBytes(content)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		u, err := f.Uploads.New(f.ctx, "app")
		f.must(err)
		_, err = u.ReadFrom(bytes.NewReader(content))
		f.must(err)
		_, err = u.Commit(f.ctx, d)
		f.must(err)
	}
}

// What every signature needs (the empty config) is looked for in another way than what few need.
func TestStore_DeleteBlob_ofWhatManyManifestsNeed(t *testing.T) {
	f := newFixture(t)
	config := f.blob("many", "{}")
	var g errgroup.Group
	g.SetLimit(pushers)
	for i := range 1001 {
		g.Go(func() error {
			body := mustJSON(map[string]any{"schemaVersion": 2, "mediaType": "x/y", "config": config, "annotations": map[string]string{"n": fmt.Sprint(i)}})
			_, err := f.Manifests.Put(f.ctx, "many", body, PutOptions{})
			return err
		})
	}
	f.must(g.Wait())
	f.blob("other", "something else")
	f.blob("third", "{}")
	f.must(f.Blobs.Delete(f.ctx, "third", config.Digest))
	_, err := f.Blobs.Stat(f.ctx, "other", config.Digest)
	isNotFound(t, err)

	f.blob("other", "{}")
	_, err = f.Manifests.Put(f.ctx, "other", manifestOf(config), PutOptions{})
	f.must(err)
	if err := f.Blobs.Delete(f.ctx, "other", config.Digest); !errors.As(err, new(*InUseError)) {
		t.Errorf("deleting what a manifest of the repository needs gives %v", err)
	}
}

// unsynced gives an upload whose file cannot be synced.
func (f *fixture) unsynced(content string) *blobfile.Upload {
	f.t.Helper()
	u, err := f.files.NewUpload("app", f.now())
	f.must(err)
	f.t.Cleanup(func() { _ = u.Discard() })
	_, err = u.Write([]byte(content))
	f.must(err)
	f.replace(f.uploadPath(u.ID()), "/dev/null")
	return u
}

// A file that was placed and could not be synced: a disk that turned out to be full, say.
func TestStore_keep_ofAFileThatCannotBeSynced(t *testing.T) {
	content := strings.Repeat("content", smallBlob/7+1)
	for name, c := range map[string]struct {
		others bool // put the same blob meanwhile
		stays  bool
	}{
		"alone":       {false, false},
		"with others": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFileFixture(t)
			d := digest.FromString(content)
			u := f.unsynced(content)
			if c.others {
				f.must(f.blobGuard().Enter(f.ctx, d))
				defer f.blobGuard().Leave(d)
			}
			err := f.commitFile(f.ctx, u, d, func(context.Context, *sql.Tx) error {
				t.Error("a row was written")
				return nil
			})
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("error is %v", err)
			}
			if _, err := os.Stat(f.path(d)); (err == nil) != c.stays {
				t.Errorf("looking at its file gives %v", err)
			}
			f.blob("app", content) // neither keeps it from being pushed
		})
	}
	t.Run("a file that is there stays", func(t *testing.T) {
		f := newFileFixture(t)
		held := f.blob("app", content)
		if err := f.commitFile(f.ctx, f.unsynced(content), held.Digest, nil); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("error is %v", err)
		}
		b, err := f.Blobs.Open(f.ctx, "app", held.Digest)
		f.must(err)
		f.must(b.Close())
	})
}
