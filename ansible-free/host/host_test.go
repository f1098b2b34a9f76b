package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// newHost is a host whose root is a temporary directory, and on which the users root and appliance
// are the user that runs the test.
func newHost(t *testing.T) (*Host, string) {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	write(t, root, "etc/passwd", fmt.Sprintf("root:x:%d:%d:root:/root:/bin/sh\nappliance:x:%[1]d:%[2]d::/:/sbin/nologin\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/data/users/bob:/bin/sh\n", os.Getuid(), os.Getgid()))
	return Under(root, func(context.Context, string, ...string) ([]byte, error) {
		return nil, exec.ErrNotFound
	}), root
}

func write(t *testing.T, root, path, content string) {
	t.Helper()
	name := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// snapshot is everything below root: type, mode, owner, and content or target.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		what := fi.Mode().String()
		switch {
		case fi.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %x", sha256.Sum256(content))
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " -> " + target
		}
		tree[strings.TrimPrefix(path, root)] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(tree, func(path, _ string) bool { return strings.HasPrefix(path, undoDir) })
	return tree
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for path := range want {
		if got[path] != want[path] {
			t.Errorf("%s: %s is %q, want %q", what, path, got[path], want[path])
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: %s was not there before", what, path)
		}
	}
}

// TestSteps holds for each step what makes it one: it changes something once, has nothing to do the
// second time, and is taken back by another process, which finds the host as it was.
func TestSteps(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(binary, []byte("new program"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		setUp  func(t *testing.T, root string)
		step   func(h *Host) Step
		after  string // a path below root that is there afterwards
		gone   string // a path that is not
		keeps  bool   // Undo is known not to bring everything back
		noop   bool   // nothing to do, even the first time
		refuse bool   // Apply fails and changes nothing
	}{
		{name: "a directory is made", step: func(h *Host) Step {
			return &Dir{Host: h, Path: "/srv", Mode: 0o750, Owner: "appliance"}
		}, after: "srv"},
		{name: "a directory gets its mode", setUp: func(t *testing.T, root string) { write(t, root, "srv/x", "") }, step: func(h *Host) Step {
			return &Dir{Host: h, Path: "/srv", Mode: 0o700}
		}},
		{name: "a directory that is to be kept keeps its mode", setUp: func(t *testing.T, root string) { write(t, root, "srv/x", "") }, step: func(h *Host) Step {
			return &Dir{Host: h, Path: "/srv", Mode: 0o700, Keep: true}
		}, noop: true},
		{name: "a directory behind a link is taken for one", setUp: func(t *testing.T, root string) {
			write(t, root, "data/x", "")
			link(t, root, "data", "srv")
		}, step: func(h *Host) Step { return &Dir{Host: h, Path: "/srv", Mode: 0o700} }},
		{name: "a file where the directory should be is refused", setUp: func(t *testing.T, root string) { write(t, root, "srv", "") }, step: func(h *Host) Step {
			return &Dir{Host: h, Path: "/srv", Mode: 0o700}
		}, refuse: true},
		{name: "a file is written", step: func(h *Host) Step {
			return &File{Host: h, Path: "/etc/a", Content: []byte("a"), Mode: 0o640, Owner: "root"}
		}, after: "etc/a"},
		{name: "a file is replaced", setUp: func(t *testing.T, root string) { write(t, root, "etc/a", "before") }, step: func(h *Host) Step {
			return &File{Host: h, Path: "/etc/a", Content: []byte("a"), Mode: 0o600}
		}},
		{name: "a file only gets its mode", setUp: func(t *testing.T, root string) { write(t, root, "etc/a", "a") }, step: func(h *Host) Step {
			return &File{Host: h, Path: "/etc/a", Content: []byte("a"), Mode: 0o600}
		}},
		{name: "a link in place of the file is refused", setUp: func(t *testing.T, root string) { link(t, root, "/dev/null", "etc/a") }, step: func(h *Host) Step {
			return &File{Host: h, Path: "/etc/a", Content: []byte("a"), Mode: 0o600}
		}, refuse: true},
		{name: "a file of an unknown user is refused", step: func(h *Host) Step {
			return &File{Host: h, Path: "/etc/a", Content: []byte("a"), Mode: 0o600, Owner: "nobody-here"}
		}, refuse: true},
		{name: "a file gets its mode whatever it holds", setUp: func(t *testing.T, root string) { write(t, root, "etc/a", "b") }, step: func(h *Host) Step {
			return &File{Host: h, AnyContent: true, Path: "/etc/a", Mode: 0o600, Owner: "appliance"}
		}},
		{name: "a link in place of a file does not lead to a directory's mode", setUp: func(t *testing.T, root string) {
			write(t, root, "srv/x", "")
			link(t, root, "../srv", "etc/a")
		}, step: func(h *Host) Step {
			return &File{Host: h, AnyContent: true, Path: "/etc/a", Mode: 0o600, Owner: "appliance"}
		}, refuse: true},
		{name: "a program is copied", step: func(h *Host) Step {
			return &File{Host: h, Source: binary, Path: "/etc/app", Mode: 0o755}
		}, after: "etc/app"},
		{name: "a program is replaced", setUp: func(t *testing.T, root string) { write(t, root, "etc/app", "old program") }, step: func(h *Host) Step {
			return &File{Host: h, Source: binary, Path: "/etc/app", Mode: 0o755}
		}},
		{name: "a program that has lost its mode is replaced", setUp: func(t *testing.T, root string) { write(t, root, "etc/app", "new program") }, step: func(h *Host) Step {
			return &File{Host: h, Source: binary, Path: "/etc/app", Mode: 0o755}
		}},
		{name: "a file is removed", setUp: func(t *testing.T, root string) { write(t, root, "etc/a", "a") }, step: func(h *Host) Step {
			return &Remove{Host: h, Path: "/etc/a"}
		}, gone: "etc/a"},
		{name: "a link is removed, and not what it leads to", setUp: func(t *testing.T, root string) {
			write(t, root, "etc/a", "a")
			link(t, root, "a", "etc/b")
		}, step: func(h *Host) Step { return &Remove{Host: h, Path: "/etc/b"} }, gone: "etc/b", after: "etc/a"},
		{name: "what a killed write left is removed", setUp: func(t *testing.T, root string) {
			write(t, root, "etc/.a[1].tmp-ABCDEFGH", "half")
		}, step: func(h *Host) Step { return &Remove{Host: h, Path: "/etc/a[1]"} }, gone: "etc/.a[1].tmp-ABCDEFGH", keeps: true},
		{name: "an absent file needs no removal", step: func(h *Host) Step {
			return &Remove{Host: h, Path: "/etc/a/b"}
		}, noop: true},
		{name: "an existing user is not created", step: func(h *Host) Step {
			return &SystemUser{Host: h, Name: "appliance", File: "/etc/sysusers.d/appliance.conf"}
		}, noop: true},
		{name: "without systemd-sysusers a user is refused", step: func(h *Host) Step {
			return &SystemUser{Host: h, Name: "other", File: "/etc/sysusers.d/appliance.conf"}
		}, refuse: true},
		{name: "a tree that belongs to its user is left alone", setUp: func(t *testing.T, root string) { write(t, root, "srv/x", "") }, step: func(h *Host) Step {
			return &Own{Host: h, Path: "/srv", User: "appliance"}
		}, noop: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, root := newHost(t)
			if tt.setUp != nil {
				tt.setUp(t, root)
			}
			before := snapshot(t, root)
			s := tt.step(h)
			if s.String() == "" {
				t.Error("the step does not say what it does")
			}
			// The process may be killed between the line in the journal and the change.
			begun := tt.step(h)
			if found, err := begun.Check(t.Context()); err == nil && found != nil && !tt.keeps {
				if _, err := begun.Undo(t.Context(), found); err != nil {
					t.Error(err)
				}
				same(t, "after Undo of what was not applied", snapshot(t, root), before)
			}
			j := begin(t, h)
			changed, err := j.Do(t.Context(), s)
			after := snapshot(t, root)
			if tt.refuse {
				if err == nil {
					t.Fatal("Apply has done it")
				}
				same(t, "after a refusal", after, before)
				return
			}
			if err != nil || changed == tt.noop {
				t.Fatalf("Apply: changed %v, %v", changed, err)
			}
			if tt.noop {
				same(t, "after nothing was to do", after, before)
			}
			if _, ok := after["/"+tt.after]; tt.after != "" && !ok {
				t.Errorf("%s is not there", tt.after)
			}
			if _, ok := after["/"+tt.gone]; tt.gone != "" && ok {
				t.Errorf("%s is still there", tt.gone)
			}
			if before, err := tt.step(h).Check(t.Context()); before != nil || err != nil {
				t.Errorf("there is something to do again: %+v, %v", before, err)
			}
			j = reload(t, h) // as another process would
			if err := j.Undo(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := j.Discard(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !tt.keeps {
				same(t, "after Undo", snapshot(t, root), before)
			}
			if _, err := h.Stat(undoDir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the journal is still there: %v", err)
			}
		})
	}
}

const undoDir = "/undo"

func kinds(h *Host) Kinds {
	return func() map[string]Step {
		return map[string]Step{
			"directory": &Dir{Host: h}, "file": &File{Host: h}, "remove": &Remove{Host: h},
			"link": &Link{Host: h}, "own": &Own{Host: h}, "take": &Take{Host: h}, "user": &SystemUser{Host: h},
		}
	}
}

// begin starts a journal.
func begin(t *testing.T, h *Host) *Journal {
	t.Helper()
	j := reload(t, h)
	if _, err := j.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return j
}

// reload reads the journal that another process has left.
func reload(t *testing.T, h *Host) *Journal {
	t.Helper()
	j := &Journal{Host: h, Dir: undoDir, Kinds: kinds(h)}
	if err := j.Load(); err != nil {
		t.Fatal(err)
	}
	return j
}

// do applies a step in a journal of its own and returns what undoes it.
func do(t *testing.T, s Step) (undo func()) {
	t.Helper()
	j := &Journal{}
	if _, err := j.Do(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := j.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRemovals is about what an uninstall removes.
func TestRemovals(t *testing.T) {
	tree := func(path string) func(context.Context, *Host) (bool, error) {
		return func(ctx context.Context, h *Host) (bool, error) { return h.RemoveTree(ctx, path) }
	}
	undo := func(step func(h *Host) Step) func(context.Context, *Host) (bool, error) {
		return func(ctx context.Context, h *Host) (bool, error) { return step(h).Undo(ctx, &Before{}) }
	}
	for _, tt := range []struct {
		name   string
		setUp  func(t *testing.T, root string)
		remove func(ctx context.Context, h *Host) (bool, error)
		after  string
		gone   string
		noop   bool
		refuse bool
	}{
		{name: "a tree is removed", setUp: func(t *testing.T, root string) { write(t, root, "srv/quay/a/b", "") },
			remove: tree("/srv/quay"), gone: "srv/quay", after: "srv"},
		{name: "a tree that is not there is no error", remove: tree("/srv/quay/a"), noop: true},
		{name: "links in a tree are not followed", setUp: func(t *testing.T, root string) {
			write(t, root, "data/precious", "")
			link(t, root, filepath.Join(root, "data"), "srv/quay/out")
			link(t, root, "../../data", "srv/quay/out2")
		}, remove: tree("/srv/quay"), gone: "srv/quay", after: "data/precious"},
		{name: "a link in place of the tree is removed alone", setUp: func(t *testing.T, root string) {
			write(t, root, "data/precious", "")
			link(t, root, "../data", "srv/quay")
		}, remove: tree("/srv/quay"), gone: "srv/quay", after: "data/precious"},
		{name: "a home directory is not removed", setUp: func(t *testing.T, root string) { write(t, root, "home/alice/x", "") },
			remove: tree("/home/alice"), refuse: true},
		{name: "a directory above a home is not removed", setUp: func(t *testing.T, root string) { write(t, root, "data/users/bob/x", "") },
			remove: tree("/data/x/../users"), refuse: true},
		{name: "the root is not removed", remove: tree("/"), refuse: true},
		{name: "a directory of the system is not removed", remove: tree("/etc"), refuse: true},
		{name: "an empty directory is removed", setUp: func(t *testing.T, root string) {
			write(t, root, "srv/x", "")
			if err := os.Mkdir(filepath.Join(root, "srv/empty"), 0o710); err != nil {
				t.Fatal(err)
			}
		}, remove: undo(func(h *Host) Step { return &Dir{Host: h, Path: "/srv/empty"} }), gone: "srv/empty"},
		{name: "a directory that holds something stays", setUp: func(t *testing.T, root string) { write(t, root, "srv/x", "") },
			remove: undo(func(h *Host) Step { return &Dir{Host: h, Path: "/srv"} }), noop: true},
		{name: "what a killed write left is removed with the file", setUp: func(t *testing.T, root string) {
			write(t, root, "etc/a", "")
			write(t, root, "etc/.a.tmp-ABCDEFGH", "half")
		}, remove: undo(func(h *Host) Step { return &File{Host: h, Path: "/etc/a"} }), gone: "etc/.a.tmp-ABCDEFGH"},
		{name: "without userdel a user stays",
			remove: undo(func(h *Host) Step { return &SystemUser{Host: h, Name: "appliance"} }), noop: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, root := newHost(t)
			if tt.setUp != nil {
				tt.setUp(t, root)
			}
			before := snapshot(t, root)
			removed, err := tt.remove(t.Context(), h)
			after := snapshot(t, root)
			if tt.refuse || tt.noop {
				if (err != nil) != tt.refuse || removed {
					t.Errorf("removed %v, %v", removed, err)
				}
				same(t, "afterwards", after, before)
				return
			}
			if err != nil || !removed {
				t.Fatalf("removed %v, %v", removed, err)
			}
			if _, ok := after["/"+tt.after]; tt.after != "" && !ok {
				t.Errorf("%s is not there", tt.after)
			}
			if _, ok := after["/"+tt.gone]; ok {
				t.Errorf("%s is still there", tt.gone)
			}
			if removed, err := tt.remove(t.Context(), h); removed || err != nil {
				t.Errorf("the second time: removed %v, %v", removed, err)
			}
		})
	}
}

func link(t *testing.T, root, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(root, path)); err != nil {
		t.Fatal(err)
	}
}

// A killed write leaves its temporary file; the next one of the same path removes
// it, and only that.
func TestHost_WriteAfterKill(t *testing.T) {
	h, root := newHost(t)
	write(t, root, "etc/.a.tmp-ABCDEFGH", "half")
	write(t, root, "etc/.ab.tmp-ABCDEFGH", "of another")
	if err := h.Write("/etc/a", strings.NewReader("new"), 0o600, asIs()); err != nil {
		t.Fatal(err)
	}
	if names, err := h.Names("/etc"); err != nil || strings.Join(names, " ") != ".ab.tmp-ABCDEFGH a passwd" {
		t.Errorf("in the directory are %q, %v", names, err)
	}
}

// A write that fails leaves the old file and nothing beside it.
func TestHost_WriteFails(t *testing.T) {
	h, root := newHost(t)
	write(t, root, "etc/a", "before")
	before := snapshot(t, root)
	broken := errors.New("source broke")
	if err := h.Write("/etc/a", failingReader{broken}, 0o600, asIs()); !errors.Is(err, broken) {
		t.Errorf("Write: %v", err)
	}
	same(t, "after a failed write", snapshot(t, root), before)
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestRemoveTree_StopsWithItsContext(t *testing.T) {
	h, root := newHost(t)
	write(t, root, "srv/quay/a", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.RemoveTree(ctx, "/srv/quay"); !errors.Is(err, context.Canceled) {
		t.Errorf("RemoveTree: %v", err)
	}
}

// systemd-sysusers and userdel are stood in for by a host on which they edit the passwd file.
func TestSystemUser(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
	write(t, root, "etc/group", "root:x:0:\n")
	before := snapshot(t, root)
	var ran []string
	h := Under(root, func(_ context.Context, name string, args ...string) ([]byte, error) {
		ran = append(ran, strings.Join(append([]string{name}, args...), " "))
		switch name {
		case "systemd-sysusers":
			write(t, root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nappliance:x:990:990::/:/sbin/nologin\n")
			write(t, root, "etc/group", "root:x:0:\nappliance:x:990:\n")
		case "userdel":
			write(t, root, "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
		case "groupdel":
			write(t, root, "etc/group", "root:x:0:\n")
		}
		return nil, nil
	})
	s := &SystemUser{Host: h, Name: "appliance", File: "/etc/sysusers.d/appliance.conf"}
	undo := do(t, s)
	if owner, err := h.User("appliance"); err != nil || owner.UID != 990 {
		t.Errorf("User: %v, %v", owner, err)
	}
	undo()
	same(t, "after Undo", snapshot(t, root), before)
	want := "systemd-sysusers " + root + "/etc/sysusers.d/appliance.conf, userdel appliance, groupdel appliance"
	if got := strings.Join(ran, ", "); got != want {
		t.Errorf("ran %s, want %s", got, want)
	}
}

func TestOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	h, root := newHost(t)
	write(t, root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nappliance:x:990:991::/:/sbin/nologin\n")
	write(t, root, "srv/quay/a/b", "")
	write(t, root, "srv/other", "")
	link(t, root, "../other", "srv/quay/out")
	s := &Own{Host: h, Path: "/srv/quay", User: "appliance"}
	undo := do(t, s)
	for path, want := range map[string]int{"/srv/quay": 990, "/srv/quay/a/b": 990, "/srv/quay/out": 990, "/srv/other": 0} {
		if info, err := h.Stat(path); err != nil || info.Owner.UID != want {
			t.Errorf("%s belongs to %d, %v; want %d", path, info.Owner.UID, err, want)
		}
	}
	undo()
	for _, path := range []string{"/srv/quay", "/srv/quay/a/b", "/srv/quay/out"} {
		if info, err := h.Stat(path); err != nil || info.Owner.UID != 0 {
			t.Errorf("after Undo %s belongs to %d, %v", path, info.Owner.UID, err)
		}
	}
}
