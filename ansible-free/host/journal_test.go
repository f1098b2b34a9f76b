package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What came into a directory after it was made goes only if the directory was ours alone.
func TestDir_Undo(t *testing.T) {
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("whole %v", whole), func(t *testing.T) {
			h, root := newHost(t)
			s := &Dir{Host: h, Path: "/opt", Mode: 0o755}
			inner := &Dir{Host: h, Path: "/opt/quay", Mode: 0o755, Whole: whole}
			do(t, s)
			undo := do(t, inner)
			write(t, root, "opt/quay/blob", "later")
			undo()
			if _, ok := snapshot(t, root)["/opt/quay/blob"]; ok == whole {
				t.Errorf("what came later is there: %v", ok)
			}
		})
	}
}

// The previous content is copied before the file changes: Undo brings it back also if the file is
// gone by then, but not a copy that is damaged.
func TestJournal_UndoAfterTheFileIsGone(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		h, root := newHost(t)
		write(t, root, "etc/a", "before")
		before := snapshot(t, root)
		j := begin(t, h)
		if _, err := j.Do(t.Context(), &File{Host: h, Path: "/etc/a", Content: []byte("after"), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(root, "etc/a")); err != nil {
			t.Fatal(err)
		}
		if damaged {
			write(t, root, undoDir+"/0", "befor")
		}
		j = reload(t, h)
		if err := j.Undo(t.Context()); (err != nil) != damaged {
			t.Fatal(err)
		}
		if !damaged {
			same(t, "after Undo", snapshot(t, root), before)
		}
	}
}

// A step begins when its line is on disk as a whole.
func TestJournal_LastLineIsTorn(t *testing.T) {
	h, root := newHost(t)
	j := begin(t, h)
	for _, path := range []string{"/etc/a", "/etc/b"} {
		if _, err := j.Do(t.Context(), &File{Host: h, Path: path, Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(root, undoDir, "journal")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(text)-3)); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = begin(t, h)
	if _, err := j.Do(t.Context(), &File{Host: h, Path: "/etc/c", Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if n := len(reload(t, h).Entries); n != 2 {
		t.Errorf("%d entries, want those of a and c", n)
	}
}

// A journal belongs to one process at a time, and one that claims it finds all that the other wrote.
func TestJournal_Claim(t *testing.T) {
	h, _ := newHost(t)
	j := begin(t, h)
	other := reload(t, h)
	if _, err := j.Do(t.Context(), &File{Host: h, Path: "/etc/a", Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if ok, err := other.Claim(); ok || err != nil {
		t.Fatalf("while it is written: %v, %v", ok, err)
	}
	if _, err := reload(t, h).Start(t.Context(), ""); !errors.Is(err, errHeld) {
		t.Errorf("another run: %v", err)
	}
	j.Close()
	if ok, err := other.Claim(); !ok || err != nil || len(other.Entries) != 1 {
		t.Errorf("afterwards: %v, %v, %d entries", ok, err, len(other.Entries))
	}
}

// What has ended is not undone.
func TestJournal_Finish(t *testing.T) {
	h, root := newHost(t)
	j := begin(t, h)
	if _, err := j.Do(t.Context(), &File{Host: h, Path: "/etc/a", Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if err := j.Finish(); err != nil {
		t.Fatal(err)
	}
	j = reload(t, h)
	if err := j.Undo(t.Context()); err != nil || len(j.Entries) != 1 {
		t.Errorf("Undo: %v; %d entries", err, len(j.Entries))
	}
	if _, err := os.Stat(filepath.Join(root, "etc/a")); err != nil {
		t.Error(err)
	}
}

func TestHost_Missing(t *testing.T) {
	h, root := newHost(t)
	write(t, root, "opt/x", "")
	got, err := h.Missing("/opt/a/b/")
	if err != nil || strings.Join(got, " ") != "/opt/a /opt/a/b" {
		t.Errorf("Missing: %v, %v", got, err)
	}
	if got, err := h.Missing("/opt"); err != nil || len(got) != 0 {
		t.Errorf("Missing of what is there: %v, %v", got, err)
	}
}

func TestHost_Closed(t *testing.T) {
	h, root := newHost(t)
	write(t, root, "root/quay/x", "")
	if err := os.Chmod(filepath.Join(root, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	stranger := Owner{UID: os.Getuid() + 1, GID: os.Getgid() + 1}
	if got, err := h.Closed("/root/quay/new/dir", stranger); err != nil || strings.Join(got, " ") != "/root" {
		t.Errorf("Closed to a stranger: %v, %v", got, err)
	}
	if got, err := h.Closed("/root/quay", Owner{UID: os.Getuid(), GID: os.Getgid()}); err != nil || len(got) != 0 {
		t.Errorf("Closed to the owner: %v, %v", got, err)
	}
}

// A killed Start leaves a temporary directory, which the next one removes. What Start
// made is in its journal.
func TestJournal_StartMakesTheDirectoriesAbove(t *testing.T) {
	h, root := newHost(t)
	write(t, root, "opt/other", "")
	before := snapshot(t, root)
	write(t, root, "opt/.quay.tmp-ABCDEFGH/config/x", "of a run that was killed")
	above := []*Dir{{Host: h, Path: "/opt", Keep: true}, {Host: h, Path: "/opt/quay", Mode: 0o755}, {Host: h, Path: "/opt/quay/config", Mode: 0o750}}
	j := &Journal{Host: h, Dir: "/opt/quay/config/undo", Kinds: kinds(h)}
	if made, err := j.Start(t.Context(), "", above...); err != nil || !made {
		t.Fatalf("Start: %v, %v", made, err)
	}
	if info, err := h.Stat("/opt/quay"); err != nil || info.Mode.Perm() != 0o755 {
		t.Errorf("the directory above is %+v, %v", info, err)
	}
	j = &Journal{Host: h, Dir: j.Dir, Kinds: kinds(h)}
	if err := j.Load(); err != nil || len(j.Entries) != 2 {
		t.Fatalf("Load: %v; %d entries", err, len(j.Entries))
	}
	if err := j.Discard(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := j.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "after Undo", snapshot(t, root), before)
}

// A directory that is there without its mode and owner would be taken for one that
// was there before.
func TestDir_KilledBeforeItHasItsMode(t *testing.T) {
	h, root := newHost(t)
	write(t, root, "opt/x", "")
	before := snapshot(t, root)
	write(t, root, "opt/.quay.tmp-ABCDEFGH/x", "")
	s := &Dir{Host: h, Path: "/opt/quay", Mode: 0o751}
	undo := do(t, s)
	if names, err := h.Names("/opt"); err != nil || strings.Join(names, " ") != "quay x" {
		t.Errorf("there are %v, %v", names, err)
	}
	write(t, root, "opt/.quay.tmp-ABCDEFGH/x", "")
	undo()
	same(t, "after Undo", snapshot(t, root), before)
}
