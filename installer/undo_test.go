package installer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// failing is a step that does its work and then fails, which is the most that there can be to undo.
type failing struct{ host.Step }

func (f failing) Check(ctx context.Context) (*host.Before, error) {
	before, err := f.Step.Check(ctx)
	if before == nil && err == nil {
		err = errors.New("made to fail")
	}
	return before, err
}

func (f failing) Apply(ctx context.Context) (bool, error) {
	if changed, err := f.Step.Apply(ctx); err != nil {
		return changed, err
	}
	return true, errors.New("made to fail")
}

// deadly is a step at which the process is killed: it is in the journal, and not applied.
type deadly struct {
	host.Step
	journal *host.Journal
}

type killed struct{}

func (s deadly) Check(ctx context.Context) (*host.Before, error) {
	before, err := s.Step.Check(ctx)
	if before == nil {
		panic(killed{})
	}
	kinds := s.journal.Kinds // which the journal names it by; no other step comes after it
	s.journal.Kinds = func() map[string]host.Step {
		all := kinds()
		for name, kind := range all {
			if reflect.TypeOf(kind) == reflect.TypeOf(s.Step) {
				all[name] = deadly{}
			}
		}
		return all
	}
	return before, err
}

func (s deadly) MarshalJSON() ([]byte, error) { return json.Marshal(s.Step) }

func (deadly) Apply(context.Context) (bool, error) { panic(killed{}) }

// kill applies a plan up to a step, at which it is killed.
func (b *box) kill(p *Plan, n int) {
	b.t.Helper()
	defer func() {
		p.journal.Close() // as the end of a process does
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		}
	}()
	if n < len(p.steps) {
		p.steps[n] = deadly{p.steps[n], p.journal}
	}
	if _, err := p.Apply(b.t.Context(), nil); err != nil {
		b.t.Fatal(err)
	}
}

func TestInstall_FailsAtEachStep(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		for i := range b.plan(b.request()).steps {
			p := b.plan(b.request())
			name := p.steps[i].String()
			p.steps[i] = failing{p.steps[i]}
			_, err := p.Apply(t.Context(), nil)
			var failure *applyError
			if !errors.As(err, &failure) || !failure.Undone || failure.UndoErr != nil {
				t.Fatalf("step %d (%s): %v", i, name, err)
			}
			same(t, fmt.Sprintf("failed at step %d (%s)", i, name), b.snapshot(), before)
		}
	})
}

// The same where the user has made the directories beforehand: these stay, empty as they were.
func TestInstall_FailsInDirectoriesThatExisted(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	r := b.request()
	r.QuayStorage, r.SqliteStorage = "/srv/blobs", "/srv/db"
	for _, dir := range []string{"srv/blobs", "srv/db", "root/quay-install/quay-config"} {
		if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := b.snapshot()
	p := b.plan(r)
	last := len(p.steps) - 1
	p.steps[last] = failing{p.steps[last]} // after the daemon has filled them
	if _, err := p.Apply(t.Context(), nil); err == nil {
		t.Fatal("the install did not fail")
	}
	same(t, "after the failure", b.snapshot(), before)
}

// The next install fails, or is killed as well, where the first one has made the users: the service
// runs, and an uninstall still knows what the first one has done.
func TestInstall_FailsAfterOneThatWasKilledAtTheEnd(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		for i := 0; ; i++ {
			p := b.plan(b.request())
			b.kill(p, len(p.steps)-1) // at the users: the service runs
			switch p = b.plan(b.request()); {
			case i == len(p.steps):
				return
			case i%2 == 0:
				b.kill(p, i)
			default:
				p.steps[i] = failing{p.steps[i]}
				if _, err := p.Apply(t.Context(), nil); err == nil {
					t.Fatal("the install did not fail")
				}
			}
			b.uninstall(true)
			same(t, fmt.Sprintf("failed at step %d, uninstalled", i), b.snapshot(), before)
		}
	})
}

// A database that was kept is never touched by taking back.
func TestInstall_FailsOverKeptContent(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	b.uninstall(false)
	before := b.snapshot()
	b.deps.Seed = func(context.Context, Installation) (seeding, error) {
		b.write("root/quay-install/sqlite-storage/appliance.db-wal", "rows that are only here")
		return seeding{}, errors.New("made to fail")
	}
	if _, err := b.plan(b.request()).Apply(t.Context(), nil); err == nil {
		t.Fatal("the install did not fail")
	}
	if got := b.read("root/quay-install/sqlite-storage/appliance.db-wal"); got != "rows that are only here" {
		t.Errorf("the log of the database is %q", got)
	}
	if err := os.Remove(b.path("root/quay-install/sqlite-storage/appliance.db-wal")); err != nil {
		t.Fatal(err)
	}
	same(t, "after the failure", b.snapshot(), before)
}

// An install that was killed between replacing the program and restarting the daemon leaves a
// daemon that runs something else than what is on the disk: here, this test.
func TestInstall_RestartsADaemonThatRunsAnotherProgram(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	b.sm.calls, b.sm.pid = nil, uint32(os.Getpid())
	if result := b.install(); !result.Changed || !slices.Contains(b.sm.calls, "start appliance.service") {
		t.Errorf("result %+v; systemd was told: %v", result, b.sm.calls)
	}
}

// A failed upgrade leaves the previous program, running.
func TestInstall_UpgradeFailsAtEachStep(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		b.install()
		before := b.snapshot()
		b.write("program", "#!/bin/sh\n# newer\n")
		b.chmod("program", 0o755)
		before["/program"] = b.snapshot()["/program"]
		for i := range b.plan(b.request()).steps {
			p := b.plan(b.request())
			name := p.steps[i].String()
			p.steps[i] = failing{p.steps[i]}
			if _, err := p.Apply(t.Context(), nil); err == nil {
				t.Fatalf("step %d (%s) did not fail", i, name)
			}
			same(t, fmt.Sprintf("failed at step %d (%s)", i, name), b.snapshot(), before)
		}
	})
}

// What a killed install leaves, another one completes, and then an uninstall takes all of it away.
func TestInstall_KilledAfterEachStep(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		steps := len(b.plan(b.request()).steps)
		for n := range steps {
			b.kill(b.plan(b.request()), n)
			b.install()
			if again := b.install(); again.Changed {
				t.Errorf("killed after %d steps: the third install changed something", n)
			}
			b.uninstall(true)
			same(t, fmt.Sprintf("killed after %d steps, completed, uninstalled", n), b.snapshot(), before)
		}
	})
}

func TestInstall_Interrupted(t *testing.T) {
	b := newBox(t, false)
	before := b.snapshot()
	ctx, cancel := context.WithCancel(t.Context())
	b.deps.Health = func(ctx context.Context, _ *config.Config) error {
		cancel() // Ctrl-C while waiting for the daemon
		return ctx.Err()
	}
	_, err := b.plan(b.request()).Apply(ctx, nil)
	var failure *applyError
	if !errors.As(err, &failure) || !failure.Interrupted || !errors.Is(err, context.Canceled) {
		t.Fatalf("Apply: %v", err)
	}
	same(t, "after Ctrl-C", b.snapshot(), before)
}

func TestInstall_DaemonNeverWell(t *testing.T) {
	b := newBox(t, false)
	before := b.snapshot()
	b.deps.Health = func(context.Context, *config.Config) error {
		b.sm.restarts++ // systemd starts it again and again
		return errors.New("connection reset")
	}
	_, err := b.plan(b.request()).Apply(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "appliance.service has ended") || !strings.Contains(err.Error(), "the daemon said this") {
		t.Fatalf("Apply: %v", err)
	}
	same(t, "after a daemon that does not come up", b.snapshot(), before)
}

// A second install that fails before it changed anything leaves the daemon running, undisturbed.
func TestInstall_FailsWithoutTouchingTheDaemon(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.sm.calls = nil
	b.deps.Seed = func(context.Context, Installation) (seeding, error) { return seeding{}, errors.New("another password") }
	_, err := b.plan(b.request()).Apply(t.Context(), nil)
	if err == nil || strings.Contains(err.Error(), "taken back") {
		t.Fatalf("Apply: %v", err)
	}
	if got := strings.Join(b.sm.calls, ", "); strings.Contains(got, "start") || strings.Contains(got, "stop") {
		t.Errorf("systemd was told: %s", got)
	}
}

// Until the result has been shown, the next run is to know that the password has not.
func TestInstall_ForgetsThePasswordAfterItIsShown(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	file := b.path("root/quay-install/quay-config/.password-not-shown")
	b.deps.Seed = func(ctx context.Context, in Installation) (seeding, error) {
		b.write("root/quay-install/quay-config/.password-not-shown", in.InitUser)
		return b.seed(ctx, in)
	}
	shown := ""
	b.deps.Show = func(r Result) error {
		if shown = r.InitPassword; !exists(file) {
			t.Error("the file was gone before the password was shown")
		}
		return nil
	}
	if result := b.install(); shown == "" || shown != result.InitPassword || exists(file) {
		t.Errorf("shown: %q; the file is there: %v", shown, exists(file))
	}
	b.deps.Show = func(Result) error { return errors.New("cut off") }
	if _, err := b.plan(b.request()).Apply(t.Context(), nil); err == nil || !exists(file) {
		t.Errorf("after a connection was cut off: %v, the file is there: %v", err, exists(file))
	}
}

// What a killed install has done, the next one takes back if it fails, as long as
// the daemon does not run.
func TestInstall_KilledThenFails(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		for n, step := range b.plan(b.request()).steps {
			if _, ok := step.(*health); ok {
				break
			}
			b.kill(b.plan(b.request()), n)
			p := b.plan(b.request())
			last := len(p.steps) - 1
			p.steps[last] = failing{p.steps[last]}
			if _, err := p.Apply(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "taken back") {
				t.Fatalf("Apply: %v", err)
			}
			same(t, fmt.Sprintf("killed at step %d (%s), then failed", n, step), b.snapshot(), before)
		}
	})
}

// A killed upgrade has the previous program on disk.
func TestInstall_UpgradeKilledThenFails(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	before := b.snapshot()
	b.write("program", "#!/bin/sh\n# newer\n")
	b.chmod("program", 0o755)
	before["/program"] = b.snapshot()["/program"]
	b.sm.pid = uint32(os.Getpid()) // the daemon runs this test, and not the program that is installed
	for n, step := range b.plan(b.request()).steps {
		if _, ok := step.(*health); ok {
			break
		}
		b.kill(b.plan(b.request()), n)
		p := b.plan(b.request())
		last := len(p.steps) - 1
		p.steps[last] = failing{p.steps[last]}
		if _, err := p.Apply(t.Context(), nil); err == nil {
			t.Fatal("the install did not fail")
		}
		same(t, fmt.Sprintf("killed at step %d (%s), then failed", n, step), b.snapshot(), before)
	}
}

// A registry that was killed into being keeps its images, whatever fails later.
func TestInstall_KilledInstallWithImagesIsNotUndone(t *testing.T) {
	b := newBox(t, false)
	p := b.plan(b.request())
	b.kill(p, len(p.steps)-2) // while it waits for the daemon
	in := p.seeded.in
	if _, err := b.seed(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	b.sm.active = make(map[string]bool)
	b.deps.Seed = func(context.Context, Installation) (seeding, error) { return seeding{}, errors.New("made to fail") }
	if _, err := b.plan(b.request()).Apply(t.Context(), nil); err == nil {
		t.Fatal("the install did not fail")
	}
	for _, path := range []string{in.Config.Database, in.Config.Storage + "/sha256/ab/abcd", in.Config.TLS.CAKey} {
		if !exists(b.path(path)) {
			t.Errorf("%s is gone", path)
		}
	}
	before := b.snapshot()
	b.deps.Seed = b.seed
	b.install()
	b.uninstall(true)
	if exists(b.path("root/quay-install")) {
		t.Errorf("the uninstall left %v", before)
	}
}

// The record is complete although the run that did most of it was killed.
func TestInstall_RecordsHashesAndVersion(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		b.deps.Version = "v1.2.3"
		b.kill(b.plan(b.request()), len(b.plan(b.request()).steps)-3)
		b.install()
		s, err := newSite(Request{User: b.user, QuayRoot: filepath.Join(b.deps.Home, "quay-install")}, b.deps)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.readRecord()
		if err != nil || r.Version != recordVersion || r.Appliance != "v1.2.3" {
			t.Fatalf("the record: %+v, %v", r, err)
		}
		for _, path := range []string{s.binary, s.unitFile(systemd.Service), s.unitFile(systemd.Socket), config.Path(s.QuayRoot)} {
			i := slices.IndexFunc(r.entries, func(e host.Entry) bool { f, ok := e.Step.(*host.File); return ok && f.Path == path })
			if i < 0 {
				t.Errorf("%s is not recorded", path)
				continue
			}
			if sum, err := b.deps.Host.Sum(path); err != nil || r.entries[i].Step.(*host.File).SHA256 != sum {
				t.Errorf("%s has the hash %s, recorded is %+v; %v", path, sum, r.entries[i].Step, err)
			}
		}
	})
}
