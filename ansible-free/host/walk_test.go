package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// service is a user who is neither root nor the caller.
const service = 64999

// taken is a host whose /srv/service belongs to another user, and in it a link evil
// that leads to /etc.
func taken(t *testing.T) (*Host, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make another user's directory")
	}
	h, root := newHost(t)
	write(t, root, "etc/shadow", "secret\n")
	write(t, root, "srv/service/own", "")
	link(t, root, "../../etc", "srv/service/evil")
	link(t, root, "../../etc/shadow", "srv/service/file")
	link(t, root, "service", "srv/by-root")
	for _, name := range []string{"srv/service", "srv/service/own", "srv/service/evil", "srv/service/file"} {
		if err := os.Lchown(filepath.Join(root, name), service, service); err != nil {
			t.Fatal(err)
		}
	}
	return h, root
}

func TestHost_FollowsNoLinkThatAnotherUserMayHaveMade(t *testing.T) {
	h, root := taken(t)
	before := snapshot(t, root)
	owner := Owner{UID: service, GID: service}
	for name, do := range map[string]func() error{
		"Stat":        func() error { _, err := h.Stat("/srv/service/evil/shadow"); return err },
		"StatTarget":  func() error { _, err := h.StatTarget("/srv/service/evil"); return err },
		"ReadFile":    func() error { _, err := h.ReadFile("/srv/service/file"); return err },
		"Names":       func() error { _, err := h.Names("/srv/service/evil"); return err },
		"Sum":         func() error { _, err := h.Sum("/srv/service/evil/shadow"); return err },
		"mkdir":       func() error { return h.mkdir("/srv/service/evil/made", 0o700, owner) },
		"setFileAttr": func() error { return h.setFileAttr("/srv/service/file", 0o644, owner) },
		"setDirAttr":  func() error { return h.setDirAttr("/srv/service/evil", 0o777, owner) },
		"Remove":      func() error { _, err := h.Remove("/srv/service/evil/shadow"); return err },
		"RemoveTree":  func() error { _, err := h.RemoveTree(t.Context(), "/srv/service/evil/shadow"); return err },
		"Write":       func() error { return h.Write("/srv/service/evil/shadow", strings.NewReader("x"), 0o644, owner) },
		"relink":      func() error { return h.relink("x", "/srv/service/evil/made") },
		"a journal": func() error {
			_, err := (&Journal{Host: h, Dir: "/srv/service/evil/undo"}).Start(t.Context(), "root")
			return err
		},
		"a copy": func() error {
			_, err := (&Journal{Host: h, Dir: "/srv"}).Do(t.Context(), &Remove{Host: h, Path: "/srv/service/evil/shadow"})
			return err
		},
		"look":        func() error { _, err := h.look("/srv/service/evil/shadow"); return err },
		"OpenRoot":    func() error { _, err := h.OpenRoot("/srv/service/evil"); return err },
		"by two ways": func() error { _, err := h.Remove("/srv/by-root/evil/shadow"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := do()
			if !errors.Is(err, errLink) && name != "setFileAttr" || err == nil {
				t.Errorf("it ended with %v", err)
			}
			same(t, "afterwards", snapshot(t, root), before)
		})
	}
}

// TestHost_FollowsLinksOfRoot has the link, and the directory that it lies in, be of each that
// could exchange it or not.
func TestHost_FollowsLinksOfRoot(t *testing.T) {
	h, root := taken(t)
	for name, c := range map[string]struct {
		mode      fs.FileMode // of the directory
		dir, link Owner
		followed  bool
	}{
		"root's in root's":                         {0o755, Owner{}, Owner{}, true},
		"another's in root's":                      {0o755, Owner{}, Owner{UID: service}, false},
		"root's in another's":                      {0o755, Owner{UID: service}, Owner{}, false},
		"root's where all may write":               {0o777, Owner{}, Owner{}, false},
		"root's where a group may write":           {0o775, Owner{GID: service}, Owner{}, false},
		"root's where root's group may write":      {0o775, Owner{}, Owner{}, true},
		"root's in a sticky directory":             {0o777 | fs.ModeSticky, Owner{}, Owner{}, true},
		"another's in a sticky directory":          {0o777 | fs.ModeSticky, Owner{}, Owner{UID: service}, false},
		"root's in a sticky directory of anothers": {0o777 | fs.ModeSticky, Owner{UID: service}, Owner{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(root, "srv/of")
			write(t, root, "srv/of/file", "")
			link(t, root, "../service", "srv/of/link")
			defer os.RemoveAll(dir)
			err := errors.Join(os.Lchown(filepath.Join(dir, "link"), c.link.UID, c.link.GID), os.Chown(dir, c.dir.UID, c.dir.GID), os.Chmod(dir, c.mode))
			if err != nil {
				t.Fatal(err)
			}
			names, err := h.Names("/srv/of/link")
			if c.followed && (err != nil || len(names) != 3) || !c.followed && !errors.Is(err, errLink) {
				t.Errorf("Names: %v, %v", names, err)
			}
		})
	}
}

func TestHost_PutsAFileInThePlaceOfALink(t *testing.T) {
	h, root := taken(t)
	if err := h.Write("/srv/service/file", strings.NewReader("new"), 0o600, asIs()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "etc/shadow")); err != nil || string(got) != "secret\n" {
		t.Errorf("the file of root's holds %q, %v", got, err)
	}
}

// A file of root's that was linked (link(2)) into a directory of the service's keeps its owner.
func TestHost_GivesNoFileAwayThatHasOtherNames(t *testing.T) {
	h, root := taken(t)
	write(t, root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nappliance:x:64999:64999::/:/sbin/nologin\n")
	write(t, root, "srv/old/blob", "")
	for _, name := range []string{"srv/service/hard", "srv/old/hard"} {
		if err := os.Link(filepath.Join(root, "etc/shadow"), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	attr := &File{Host: h, AnyContent: true, Path: "/srv/service/hard", Mode: 0o640, Owner: "appliance"}
	if _, err := new(Journal).Do(t.Context(), attr); !errors.Is(err, errHardLink) {
		t.Errorf("Attr: %v", err)
	}
	own := &Own{Host: h, Path: "/srv/old", User: "appliance"}
	if _, err := new(Journal).Do(t.Context(), own); !errors.Is(err, errHardLink) {
		t.Errorf("Own: %v", err)
	}
	if info, err := h.Stat("/etc/shadow"); err != nil || info.Owner.UID != 0 || info.Mode.Perm() != 0o644 {
		t.Errorf("the file of root's: %+v, %v", info, err)
	}
}

func TestHost_Other(t *testing.T) {
	h, root := taken(t)
	write(t, root, "srv/root/file", "")
	write(t, root, "srv/open/file", "")
	write(t, root, "srv/sticky/file", "")
	write(t, root, "srv/group/file", "")
	if err := os.Chown(filepath.Join(root, "srv/group"), 0, service); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{"srv/open": 0o777, "srv/group": 0o775, "srv/sticky": 0o777 | fs.ModeSticky} {
		if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/srv/root/file":    "",
		"/srv/service/own":  "64999 /srv/service",
		"/srv/by-root/own":  "64999 /srv/service",
		"/srv/open/file":    "-1 /srv/open",
		"/srv/sticky/file":  "",
		"/srv/sticky":       "-1 /srv/sticky",
		"/srv/service/evil": "64999 /srv/service",
		"/srv/by-root":      "64999 /srv/service",
		"/srv/group/file":   "-1 /srv/group",
	} {
		other, err := h.Other(path)
		got := ""
		if other != nil {
			got = fmtOther(other)
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := h.Other("/srv/root/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func fmtOther(o *Other) string { return strconv.Itoa(o.UID) + " " + o.Path }
