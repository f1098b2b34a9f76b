package blobfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

var sum = digest.FromString("content")

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "storage"))
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *Dir) has(t *testing.T, blob digest.Digest, want string) {
	t.Helper()
	if got, err := os.ReadFile(d.Blob(blob).path()); err != nil || string(got) != want {
		t.Errorf("the file has %q, %v, want %q", got, err, want)
	}
}

func TestOpen_refusesADirectoryThatIsNotWritable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root writes everywhere")
	}
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o500))
	if _, err := Open(dir); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

func TestHasBlobs(t *testing.T) {
	d := open(t)
	for _, step := range []struct {
		path string
		want bool
	}{{"sha256/README", false}, {"sha256/ab/README", false}, {Name(sum), true}} {
		path := filepath.Join(d.Root(), step.path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, nil, 0o600))
		if got, err := HasBlobs(d.Root()); err != nil || got != step.want {
			t.Errorf("with %s: %v, %v", step.path, got, err)
		}
	}
	if got, err := HasBlobs(filepath.Join(d.Root(), "nowhere")); err != nil || got {
		t.Errorf("without a storage: %v, %v", got, err)
	}
}

func TestDir_Place(t *testing.T) {
	for name, prepare := range map[string]func(d *Dir) error{
		"a free name":    func(*Dir) error { return nil },
		"a damaged file": func(d *Dir) error { return d.Blob(sum).Replace([]byte("damaged")) },
		"its directory was removed": func(d *Dir) error {
			return errors.Join(d.Blob(sum).Replace(nil), os.RemoveAll(filepath.Dir(d.Blob(sum).path())))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			must(t, prepare(d))
			u, err := d.NewUpload("app", time.Now())
			must(t, err)
			_, err = u.Write([]byte("content"))
			must(t, err)
			_, err = u.Place(t.Context(), sum)
			must(t, err)
			must(t, u.Discard())
			d.has(t, sum, "content")
			if left, err := d.Uploads(); err != nil || len(left) != 0 {
				t.Errorf("uploads are left: %v, %v", left, err)
			}
		})
	}
}

func TestBlob_Create(t *testing.T) {
	d := open(t)
	made, err := d.Blob(sum).Create([]byte("content"))
	if err != nil || made == nil {
		t.Fatalf("got %v, %v", made, err)
	}
	if again, err := d.Blob(sum).Create([]byte("other")); err != nil || again != nil {
		t.Errorf("a second time: %v, %v", again, err)
	}
	d.has(t, sum, "content")
	if !d.Blob(sum).Has([]byte("content")) || d.Blob(sum).Has([]byte("conten")) || d.Blob(sum).Has([]byte("contents")) {
		t.Error("Has compares wrongly")
	}
	must(t, d.Blob(sum).Replace([]byte("content")))
	must(t, d.Blob(sum).RemoveIf(t.Context(), made))
	if !d.Blob(sum).Exists() || d.Blob(sum).IsStill(t.Context(), made) {
		t.Error("the file of another was removed")
	}
}

func TestDir_Sync_reportsAFailure(t *testing.T) {
	d := open(t)
	_, err := d.Blob(sum).Create([]byte("content"))
	must(t, err)
	gone := digest.FromString("gone") // was collected meanwhile
	for _, all := range []bool{false, true} {
		must(t, d.Sync([]digest.Digest{sum, gone}, all))
	}
	must(t, d.Close())
	if err := d.Sync([]digest.Digest{sum}, true); err == nil {
		t.Error("a sync that failed is not reported")
	}
}

func TestBlob_Open(t *testing.T) {
	d := open(t)
	if _, err := d.Blob(sum).Open(t.Context(), 7); !blobstore.IsLoss(err) {
		t.Errorf("a missing file: %v", err)
	}
	must(t, d.Blob(sum).Replace([]byte("short")))
	for _, err := range []error{d.Blob(sum).Check(t.Context(), 7), func() error { _, err := d.Blob(sum).Open(t.Context(), 7); return err }()} {
		if !blobstore.IsLoss(err) || !strings.Contains(err.Error(), "5 bytes, not 7") {
			t.Errorf("a short file: %v", err)
		}
	}
	must(t, d.Blob(sum).Replace([]byte("content")))
	tries := 0
	d.OpenFile = func(path string) (*os.File, error) {
		if tries++; tries < triesOfRead {
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
		}
		return os.Open(path)
	}
	f, err := d.Blob(sum).Open(t.Context(), 7)
	must(t, err)
	must(t, f.Close())
	tries = -100
	if _, err := d.Blob(sum).Open(t.Context(), 7); !errors.Is(err, syscall.EMFILE) || blobstore.IsLoss(err) {
		t.Errorf("without descriptors: %v", err)
	}
}

func TestBlob_Inspect(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(d *Dir) error
		damage  string // by its size
		content string // by its content
	}{
		"whole":       {func(d *Dir) error { return d.Blob(sum).Replace([]byte("content")) }, "", ""},
		"flipped":     {func(d *Dir) error { return d.Blob(sum).Replace([]byte("c0ntent")) }, "", "hashes to"},
		"short":       {func(d *Dir) error { return d.Blob(sum).Replace([]byte("c")) }, "1 bytes, not 7", "1 bytes, not 7"},
		"missing":     {func(*Dir) error { return nil }, "is missing", "is missing"},
		"a directory": {func(d *Dir) error { return os.MkdirAll(d.Blob(sum).path(), 0o700) }, "is not a file", "is not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			must(t, tc.prepare(d))
			for want, p := range []throttle.Pace{nil, throttle.New(0)} {
				want := []string{tc.damage, tc.content}[want]
				found, err := d.Blob(sum).Inspect(t.Context(), 7, p)
				if err != nil || (found.Damage == "") != (want == "") || !strings.Contains(found.Damage, want) {
					t.Errorf("got %q, %v, want %q", found.Damage, err, want)
				}
				if (found.Seen == nil) != (name == "missing") {
					t.Errorf("its file is %v", found.Seen)
				}
			}
		})
	}
}

func TestDir_Quarantine(t *testing.T) {
	d := open(t)
	must(t, d.Blob(sum).Quarantine(t.Context())) // that is missing
	must(t, d.Blob(sum).Replace([]byte("damaged")))
	must(t, d.Blob(sum).Quarantine(t.Context()))
	if d.Blob(sum).Exists() || !d.Quarantined(sum).Exists() {
		t.Error("the file was not moved")
	}
	note := filepath.Join(d.quarantine(), "README")
	must(t, os.WriteFile(note, nil, 0o600))
	for _, keep := range []bool{true, false} {
		must(t, d.TidyQuarantine(func(got digest.Digest) (bool, error) { return keep && got == sum, nil }))
		if d.Quarantined(sum).Exists() != keep {
			t.Errorf("kept: %v", !keep)
		}
	}
	if _, err := os.Stat(note); err != nil {
		t.Errorf("the file of another program: %v", err)
	}
}

// What is from the future would otherwise be kept for as long.
func TestBlob_Old_datesAFileFromTheFuture(t *testing.T) {
	d := open(t)
	now := time.Now()
	must(t, d.Blob(sum).Replace([]byte("content")))
	ahead := now.Add(time.Hour)
	must(t, os.Chtimes(d.Blob(sum).path(), ahead, ahead))
	if _, old, err := d.Blob(sum).Old(t.Context(), now.Add(2*time.Hour), now); err != nil || !old {
		t.Errorf("a look from later: %v, %v", old, err)
	}
	if _, old, err := d.Blob(sum).Old(t.Context(), now, now); err != nil || old {
		t.Errorf("at first: %v, %v", old, err)
	}
	if size, old, err := d.Blob(sum).Old(t.Context(), now.Add(time.Second), now.Add(time.Second)); err != nil || !old || size != 7 {
		t.Errorf("afterwards: %d, %v, %v", size, old, err)
	}
}

func TestUpload_resume(t *testing.T) {
	for name, content := range map[string]string{"in memory": "content", "in a file": strings.Repeat("content", blobstore.InMemory)} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			u, err := d.NewUpload("app", time.Now())
			must(t, err)
			half := len(content) / 2
			_, err = io.WriteString(u, content[:half])
			must(t, err)
			must(t, u.Save(time.Time{}))
			_, err = io.WriteString(u, "not acknowledged")
			must(t, err)
			must(t, u.Close())

			if _, err := d.ResumeUpload("other", u.ID()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("for another repository: %v", err)
			}
			u, err = d.ResumeUpload("app", u.ID())
			must(t, err)
			if u.Size() != int64(half) || u.Repository() != "app" {
				t.Errorf("it has %d bytes for %s", u.Size(), u.Repository())
			}
			_, err = io.WriteString(u, content[half:])
			must(t, err)
			for _, a := range blobstore.Algorithms() {
				if got, err := u.Digest(t.Context(), a); err != nil || got != a.FromString(content) {
					t.Errorf("%s is %s, %v", a, got, err)
				}
			}
			must(t, u.Discard())
			if ids, err := d.Uploads(); err != nil || len(ids) != 0 {
				t.Errorf("left are %v, %v", ids, err)
			}
		})
	}
}
