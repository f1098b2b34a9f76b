package installer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/relocate"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// eachMove calls f for each way to move, with a host that has an install, and what moves it.
func eachMove(t *testing.T, f func(t *testing.T, b *box, r Request)) {
	for name, renames := range map[string]bool{"rename": true, "copy": false} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, b *box) {
				b.deps.Renames = func(string, string) bool { return renames }
				b.install()
				b.sm.gate = []string{b.deps.unitDir(b.user) + "/appliance.service.wants/" + systemd.Recover, b.deps.Home + "/quay-install/quay-config/undo/moving"}
				b.write(b.storage()+"/mine", "the user's") // as it was put there since
				r := b.request()
				r.QuayStorage, r.SqliteStorage = "/srv/a/images", "/srv/db"
				f(t, b, r)
			})
		})
	}
}

func (b *box) storage() string { return b.deps.Home + "/quay-install/quay-storage" }

// typed does what the command does: it settles what was killed, then upgrades.
func (b *box) typed(r Request) error {
	b.t.Helper()
	if err := Settle(b.t.Context(), r, b.deps, false, func(string) {}); err != nil {
		return err
	}
	return b.upgrade(r)
}

// checkMoved looks at a host on which the content has moved.
func (b *box) checkMoved(what string) {
	b.t.Helper()
	got := b.snapshot()
	for _, path := range []string{"/srv/a/images/sha256/ab/abcd", "/srv/a/images/uploads/u", "/srv/db/appliance.db", b.storage() + "/mine"} {
		if got[path] == "" {
			b.t.Errorf("%s: %s is not there", what, path)
		}
	}
	for path := range got {
		name := filepath.Base(path)
		if strings.HasPrefix(path, b.deps.Home+"/quay-install/sqlite-storage") || within(path, b.storage()) && path != b.storage() && name != "mine" ||
			strings.Contains(name, "recover") || strings.HasSuffix(name, ".upgrade") || name == "undo" || name == "upgrade" ||
			strings.HasSuffix(name, ".service.wants") {
			b.t.Errorf("%s: left: %s", what, path)
		}
	}
	conf := b.read(b.deps.Home + "/quay-install/quay-config/config.yaml")
	unit := b.read(b.sm.unitDir() + "/" + systemd.Service)
	if !strings.Contains(conf, "storage: /srv/a/images\n") || !strings.Contains(conf, "database: /srv/db/appliance.db\n") {
		b.t.Errorf("%s: config.yaml:\n%s", what, conf)
	}
	if !b.user && (!strings.Contains(unit, `"/srv/a/images" "/srv/db"`) || strings.Contains(unit, "quay-storage")) {
		b.t.Errorf("%s: unit:\n%s", what, unit)
	}
	if !b.sm.active[systemd.Service] || !b.sm.active[systemd.Socket] {
		b.t.Errorf("%s: the service does not run", what)
	}
}

func TestMove(t *testing.T) {
	eachMove(t, func(t *testing.T, b *box, r Request) {
		p, err := PlanUpgrade(t.Context(), r, b.deps)
		if err != nil {
			t.Fatal(err)
		}
		b.sm.calls = nil
		if _, err := p.Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		b.checkMoved("after the move")
		if calls := strings.Join(b.sm.calls, ", "); strings.Contains(calls, "stop "+systemd.Socket) {
			t.Errorf("the socket was closed: %s", calls)
		}
		if again := b.install(); again.Changed {
			t.Error("an install changes something")
		}
		before := b.snapshot()
		if err := b.typed(r); err != nil {
			t.Error(err)
		}
		same(t, "the same command", b.snapshot(), before)
		r.QuayStorage, r.SqliteStorage = "", b.deps.Home+"/quay-install/sqlite-storage"
		if err := b.typed(r); err != nil { // back
			t.Error(err)
		}
		if exists(b.path("srv/db")) || b.read(r.SqliteStorage+"/appliance.db") != "rows" {
			t.Error("the database is not back")
		}
		b.uninstall(true)
		if exists(b.path("srv/a")) || exists(b.path(b.storage()+"/sha256")) || !exists(b.path(b.storage()+"/mine")) {
			t.Error("the uninstall leaves something, or takes more")
		}
	})
}

// A directory of the user's stays, with its owner and mode.
func TestMove_directoryOfTheUsers(t *testing.T) {
	b := newBox(t, false)
	if err := os.MkdirAll(b.path("srv/mine"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := b.request()
	r.QuayStorage = "/srv/mine"
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r.QuayStorage = "/srv/other"
	if err := b.typed(r); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(b.path("srv/mine"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestMove_failsAtEachStep(t *testing.T) {
	eachMove(t, func(t *testing.T, b *box, r Request) {
		before := b.snapshot()
		for i := 0; ; i++ {
			p, err := PlanUpgrade(t.Context(), r, b.deps)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := p.steps[i].(*confirm); ok {
				break
			}
			name := p.steps[i].String()
			p.steps[i] = failing{p.steps[i]}
			var failure *applyError
			if _, err = p.Apply(t.Context(), nil); !errors.As(err, &failure) || failure.UndoErr != nil {
				t.Fatalf("step %d (%s): %v", i, name, err)
			}
			same(t, fmt.Sprintf("failed at step %d (%s)", i, name), b.snapshot(), before)
			if b.sm.refuses != nil {
				t.Fatalf("failed at step %d (%s): %s", i, name, b.sm.refuses)
			}
		}
	})
}

// Whatever step a move had come to when it was killed: the same command completes it; --rollback, the
// unit of the boot and an uninstall take it back, until pushes may have come.
func TestMove_killedAtEachStep(t *testing.T) {
	eachMove(t, func(t *testing.T, b *box, r Request) {
		if b.user { // whose steps are fewer
			return
		}
		before := b.snapshot()
		back := r
		back.QuayStorage, back.SqliteStorage = b.storage(), b.deps.Home+"/quay-install/sqlite-storage"
		ways := map[string]func() error{
			"the same command": func() error { return b.typed(r) },
			"--rollback": func() error {
				p, err := PlanRollback(t.Context(), b.request(), b.deps)
				if err == nil {
					_, err = p.Apply(t.Context(), nil)
				}
				return err
			},
			"the unit": func() error {
				b.sm.active[systemd.Service] = false // it is started, after this
				if err := Recover(t.Context(), Request{User: b.user}, b.deps, func(string) {}); err != nil {
					return err
				}
				return b.sm.Start(t.Context(), systemd.Socket, systemd.Service)
			},
		}
		steps := func() []host.Step {
			p, err := PlanUpgrade(t.Context(), r, b.deps)
			if err != nil {
				t.Fatal(err)
			}
			return p.steps
		}
		unfinished := 0
		for way, again := range ways {
			for i, step := range steps() {
				p, err := PlanUpgrade(t.Context(), r, b.deps)
				if err != nil {
					t.Fatal(err)
				}
				b.kill(p, i)
				when := fmt.Sprintf("killed at step %d (%s), then %s", i, step, way)
				site, err := newSite(b.request(), b.deps)
				if err != nil {
					t.Fatal(err)
				}
				site.look()
				moves, stopped := site.moving()
				decided := site.decided()
				for _, m := range moves {
					if names, _ := b.deps.Host.Names(m.To); len(names) > 0 && m.Copy && m.File != "" && !stopped { // in the middle of a file
						b.write(m.To+"/.moving-"+filepath.Base(m.File)+".reserve", "half of it")
						unfinished++
					}
				}
				err = again()
				switch {
				case way == "the same command", decided && way == "the unit":
					if err != nil {
						t.Fatalf("%s: %v", when, err)
					}
					if b.install(); decided { // which removes what is left
						b.checkMoved(when)
					}
					b.checkMoved(when)
					if err := os.Remove(b.path(b.storage() + "/mine")); err != nil {
						t.Fatal(err)
					}
					if err := b.typed(back); err != nil {
						t.Fatalf("%s, and back: %v", when, err)
					}
					b.write(b.storage()+"/mine", "the user's")
				case decided:
					if err == nil || !strings.Contains(err.Error(), "is complete") {
						t.Fatalf("%s: %v", when, err)
					}
					if err := b.typed(r); err != nil {
						t.Fatalf("%s: %v", when, err)
					}
					b.checkMoved(when)
					if err := os.Remove(b.path(b.storage() + "/mine")); err != nil {
						t.Fatal(err)
					}
					if err := b.typed(back); err != nil {
						t.Fatalf("%s, and back: %v", when, err)
					}
					b.write(b.storage()+"/mine", "the user's")
				case moves == nil: // nothing had begun
					if err := Settle(t.Context(), r, b.deps, true, func(string) {}); err != nil {
						t.Fatal(err)
					}
				case !stopped && way == "the unit": // which is not there yet
				case err != nil:
					t.Fatalf("%s: %v", when, err)
				}
				got, want := b.snapshot(), before
				for _, tree := range []map[string]string{got, want} {
					delete(tree, b.deps.Home+"/quay-install/quay-config/install.json")
				}
				if moves != nil {
					same(t, when, got, want)
				}
				if b.sm.refuses != nil {
					t.Errorf("%s: %s", when, b.sm.refuses)
				}
				if t.Failed() {
					return
				}
			}
		}
		if p, err := PlanUpgrade(t.Context(), r, b.deps); err != nil || unfinished == 0 && slices.ContainsFunc(p.site.moves, func(m relocation) bool { return m.Copy }) {
			t.Errorf("no copy was killed in the middle of a file: %v", err)
		}
	})
}

func TestMove_killedThenUninstalled(t *testing.T) {
	eachMove(t, func(t *testing.T, b *box, r Request) {
		if b.user {
			return
		}
		steps := func() *Plan {
			p, err := PlanUpgrade(t.Context(), r, b.deps)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		for i := range steps().steps {
			b.kill(steps(), i)
			if err := Settle(t.Context(), Request{User: b.user}, b.deps, true, func(string) {}); err != nil {
				t.Fatal(err)
			}
			b.uninstall(true)
			if i == 0 {
				if err := os.RemoveAll(b.path(b.storage())); err != nil {
					t.Fatal(err)
				}
			}
			for path := range b.snapshot() {
				if strings.Contains(path, "/srv/") || strings.Contains(path, "appliance") || strings.Contains(path, "sqlite-storage") {
					t.Fatalf("killed at step %d: %s is left", i, path)
				}
			}
			b.install()
		}
	})
}

func TestMove_refused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(b *box)
		storage string
		want    string
	}{
		"in the old place":     {nil, "/root/quay-install/quay-storage/new", "lie in each other"},
		"around the old place": {nil, "/root/quay-install", "lie in each other"},
		"by a link": {func(b *box) {
			if err := os.Symlink("/root/quay-install/quay-storage", b.path("srv")); err != nil {
				b.t.Fatal(err)
			}
		}, "/srv", "same directory"},
		"in the configuration":      {nil, "/root/quay-install/quay-config/images", "lie in each other"},
		"in the database's":         {nil, "/root/quay-install/sqlite-storage/images", "lie in each other"},
		"a directory of the system": {nil, "/etc/images", "directory of the system"},
		"with other files":          {func(b *box) { b.write("srv/a/other", "x") }, "/srv/a", "holds other things already (other)"},
		"with other images":         {func(b *box) { b.write("srv/a/sha256/x", "x") }, "/srv/a", "holds other things already (sha256)"},
		"a volatile place":          {nil, "/tmp/images", "emptied from time to time"},
		"a link in the old place": {func(b *box) {
			if err := os.Symlink("/srv/q", b.path("root/quay-install/quay-storage/quarantine")); err != nil {
				b.t.Fatal(err)
			}
		}, "/srv/a", "is a symbolic link"},
		"a file":                      {func(b *box) { b.write("srv/a", "x") }, "/srv/a", "--quayStorage /srv/a cannot be used: /srv/a is not a directory"},
		"below a file":                {func(b *box) { b.write("srv/a", "x") }, "/srv/a/images", "/srv/a is not a directory"},
		"a name that is too long":     {nil, "/srv/" + strings.Repeat("a", 300), "--quayStorage /srv/" + strings.Repeat("a", 300) + " cannot be used"},
		"a configuration on one line": {func(b *box) { b.edit("storage: /", "storage: >-\n  /") }, "/srv/a", "cannot be changed"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, false)
			b.install()
			if c.prepare != nil {
				c.prepare(b)
			}
			before := b.snapshot()
			r := b.request()
			r.QuayStorage = c.storage
			if err := b.typed(r); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "look at what moves") {
				t.Errorf("got %v", err)
			}
			same(t, "after it", b.snapshot(), before)
		})
	}
}

func TestMove_swapped(t *testing.T) {
	b := newBox(t, false)
	b.install()
	r := b.request()
	r.QuayStorage, r.SqliteStorage = "/root/quay-install/sqlite-storage", "/root/quay-install/quay-storage"
	if err := b.typed(r); err == nil || !strings.Contains(err.Error(), "same directory") {
		t.Errorf("got %v", err)
	}
}

// While a move that was interrupted waits for its end, other commands do not act on half of it.
func TestMove_interruptedIsInTheWay(t *testing.T) {
	b := newBox(t, false)
	b.deps.Renames = func(string, string) bool { return false }
	b.install()
	r := b.request()
	r.QuayStorage = "/srv/a"
	p, err := PlanUpgrade(t.Context(), r, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range p.steps {
		if _, ok := step.(*copyAhead); ok {
			b.kill(p, i)
			break
		}
	}
	other := r
	other.QuayStorage = "/srv/b"
	for name, plan := range map[string]func() error{
		"install":         func() error { _, err := PlanInstall(t.Context(), b.request(), b.deps); return err },
		"another place":   func() error { _, err := PlanUpgrade(t.Context(), other, b.deps); return err },
		"cert rotate-ca":  func() error { _, err := b.rotation(RotationBegin); return err },
		"uninstall's dry": func() error { _, err := PlanUninstall(t.Context(), Request{}, b.deps); return err },
	} {
		var refused *PreflightError
		if err := plan(); !errors.As(err, &refused) || !strings.Contains(refused.Hint(), "appliance upgrade --quayStorage /srv/a; or take it back: appliance upgrade --rollback") {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.write("srv/a/notes", "")
	var refused *PreflightError
	if err := b.typed(r); !errors.As(err, &refused) || !strings.Contains(refused.Hint(), "move that away, and run the command again; or take the move back: appliance upgrade --rollback") {
		t.Errorf("with a file of the user's in the new place: %v", err)
	}
	if err := os.Remove(b.path("srv/a/notes")); err != nil {
		t.Fatal(err)
	}
	if err := b.typed(r); err != nil {
		t.Error(err)
	}
}

// What moves has to leave as much free as health demands, see diskspace.Kept.
func TestCheckMoveSpace(t *testing.T) {
	const mib, total = 1 << 20, 400
	for name, c := range map[string]struct {
		minFree config.Size
		free    uint64
		refused bool
	}{
		"what deleting needs":         {mib, 177 + 32 + 8, false},
		"less than what it needs":     {mib, 177 + 32 + 7, true},
		"the configuration's more":    {100 * mib, 177 + 100 + 8, false},
		"less than the configuration": {100 * mib, 177 + 100 + 7, true},
	} {
		p := place{name: "--quayStorage", path: "/srv", ground: ground{fs: unix.Statfs_t{Bsize: 4096, Blocks: total * mib / 4096, Bavail: c.free * mib / 4096}}}
		s := &site{wanted: wanted{cfg: &config.Config{MinFree: c.minFree}}, dirs: places{storage: p, database: p}}
		s.Host = host.Under(t.TempDir(), nil)
		s.moves = []relocation{{Copy: true, size: relocate.Size{Disk: 160 * mib}}, {Copy: true, File: "a.db", size: relocate.Size{Disk: 17 * mib}}}
		if s.checkMoveSpace(); len(s.problems) > 0 != c.refused {
			t.Errorf("%s: %v", name, s.problems)
		}
	}
}

func TestMove_fullDisk(t *testing.T) {
	if !isFull(fmt.Errorf("write: %w", unix.ENOSPC)) {
		t.Fatal("not full")
	}
	b := newBox(t, false)
	b.deps.Renames = func(string, string) bool { return false }
	b.install()
	if err := os.Truncate(b.path(b.storage()+"/uploads/u"), 1<<43); err != nil {
		t.Fatal(err)
	}
	r := b.request()
	r.QuayStorage = "/srv/a"
	if err := b.typed(r); err == nil || !strings.Contains(err.Error(), "what moves there takes 8.8 TB") {
		t.Errorf("got %v", err)
	}
}
