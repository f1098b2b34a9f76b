package installer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// eachMode runs a test for a system service and for a user's.
func eachMode(t *testing.T, test func(t *testing.T, b *box)) {
	t.Parallel() // they mostly wait for the disk
	for _, user := range []bool{false, true} {
		t.Run(map[bool]string{false: "as root", true: "as a user"}[user], func(t *testing.T) {
			t.Parallel()
			test(t, newBox(t, user))
		})
	}
}

func TestInstall(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		var lines []string
		result, err := b.plan(b.request()).Apply(t.Context(), func(l string) { lines = append(lines, l) })
		if err != nil {
			t.Fatal(err)
		}
		home := b.deps.Home
		if !result.Changed || !result.Seeded || result.Address != "registry.example.com:8443" || result.QuayRoot != home+"/quay-install" || result.CA != home+"/quay-install/quay-rootCA/rootCA.pem" {
			t.Errorf("result: %+v", result)
		}
		if result.InitUser != "init" || len(result.InitPassword) < 32 {
			t.Errorf("credentials: %q, a password of %d characters", result.InitUser, len(result.InitPassword))
		}
		want := map[string]string{
			"quay-install":                            "drwxr-xr-x",
			"quay-install/quay-config":                "drwxr-x---",
			"quay-install/quay-config/ssl.cert":       "-rw-r--r--",
			"quay-install/quay-config/ssl.key":        "-rw-------",
			"quay-install/quay-rootCA":                "drwxr-xr-x",
			"quay-install/quay-rootCA/rootCA.pem":     "-rw-r--r--",
			"quay-install/quay-rootCA/rootCA-key.pem": "-rw-------",
			"quay-install/quay-storage":               "drwxr-x---",
			"quay-install/sqlite-storage":             "drwx------",
			"quay-install/run":                        "drwx------",
			"quay-install/tls-state":                  "drwx------",
		}
		if !b.user { // the daemon renews them, and the directory of the configuration is root's
			for _, name := range []string{"ssl.cert", "ssl.key"} {
				want["quay-install/tls-state/"+name] = want["quay-install/quay-config/"+name]
				want["quay-install/quay-config/"+name] = "Lrwxrwxrwx"
			}
		}
		tree := b.snapshot()
		for path, mode := range want {
			if got, _, _ := strings.Cut(tree[filepath.Join(home, path)], " "); got != mode {
				t.Errorf("%s is %q, want %q", path, got, mode)
			}
		}
		for _, unit := range []string{systemd.Service, systemd.Socket} {
			if !b.sm.active[unit] {
				t.Errorf("%s is not active", unit)
			}
		}
		if b.user != b.sm.lingering {
			t.Errorf("lingering: %v", b.sm.lingering)
		}
		if b.user == strings.Contains(b.read("etc/passwd"), serviceUser) {
			t.Errorf("passwd:\n%s", b.read("etc/passwd"))
		}
		for path := range tree {
			if strings.Contains(path, "passwd") || !strings.Contains(path, "quay-install") || tree[path][0] != '-' {
				continue
			}
			if strings.Contains(b.read(path), result.InitPassword) {
				t.Errorf("%s holds the password", path)
			}
		}
		if said := strings.Join(append(lines, b.sm.calls...), "\n"); strings.Contains(said, result.InitPassword) {
			t.Errorf("the password was said:\n%s", said)
		}
	})
}

func TestInstall_SecondTimeChangesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		first := b.install()
		before := b.snapshot()
		b.sm.calls = nil
		var lines []string
		second, err := b.plan(Request{Binary: b.path("program"), User: b.user}).Apply(t.Context(), func(l string) { lines = append(lines, l) })
		if err != nil {
			t.Fatal(err)
		}
		same(t, "after the second install", b.snapshot(), before)
		if second.Changed || second.Address != first.Address || second.InitPassword != "" {
			t.Errorf("result: %+v", second)
		}
		if got := strings.Join(b.sm.calls, ", "); got != "reload, enable appliance.socket appliance.service" {
			t.Errorf("systemd was told: %s", got)
		}
		if len(lines) != 1 { // the wait for the daemon
			t.Errorf("progress: %q", lines)
		}
	})
}

// The port that the installed socket holds is not in the way of another install.
func TestInstall_OwnPort(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.write("proc/net/tcp", takenPort)
	b.install()
}

func TestInstall_KeepsWhatTheUserEdited(t *testing.T) {
	b := newBox(t, false)
	b.install()
	path := config.Path("/root/quay-install")
	edited := strings.Replace(b.read(path), "interval: 24h", "interval: 12h", 1) + "# mine\n"
	b.write(path, edited)
	ca := b.read("root/quay-install/quay-rootCA/rootCA.pem")
	b.write("program", "#!/bin/sh\n# newer\n")
	b.chmod("program", 0o755)
	if result := b.install(); !result.Changed {
		t.Error("a newer program changed nothing")
	}
	if b.read(path) != edited {
		t.Error("the configuration was replaced")
	}
	if b.read("root/quay-install/quay-rootCA/rootCA.pem") != ca {
		t.Error("the CA was replaced")
	}
	if b.sm.runs[systemd.Service] != "#!/bin/sh\n# newer\n" {
		t.Error("the daemon was not restarted")
	}
}

func TestInstall_ElsewhereAndGivenPassword(t *testing.T) {
	b := newBox(t, false)
	r := b.request()
	r.Hostname, r.Port = "Mirror.Example.COM.", 9443
	r.QuayRoot, r.QuayStorage, r.SqliteStorage = "/opt/a/quay", "/data/x/blobs", "~/db"
	r.InitUser, r.InitPassword = "boss", "correct-horse"
	result, err := b.plan(r).Apply(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if result.Address != "mirror.example.com:9443" || result.InitPassword != "correct-horse" || result.InitUser != "boss" {
		t.Errorf("result: %+v", result)
	}
	cfg, err := config.Parse("config.yaml", []byte(b.read("opt/a/quay/quay-config/config.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Storage != "/data/x/blobs" || cfg.Database != "/root/db/appliance.db" || cfg.Listen != ":9443" {
		t.Errorf("config: %+v", cfg)
	}
	found, err := Find(b.deps, false)
	if err != nil || found.QuayRoot != "/opt/a/quay" || found.Binary != "/usr/local/bin/appliance" {
		t.Errorf("Find: %+v, %v", found, err)
	}
	before := b.snapshot()
	if again := func() Result {
		r.InitPassword = "correct-horse"
		res, _ := b.plan(r).Apply(t.Context(), nil)
		return res
	}(); again.Changed || again.InitPassword != "correct-horse" {
		t.Errorf("again: %+v", again)
	}
	same(t, "after the second install", b.snapshot(), before)
}

// failing is a step that does its work and then fails, which is the most that there can be to undo.
type failing struct{ Step }

func (f failing) Apply(ctx context.Context) (bool, error) {
	if changed, err := f.Step.Apply(ctx); err != nil {
		return changed, err
	}
	return true, errors.New("made to fail")
}

func TestInstall_FailsAtEachStep(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		for i := range b.plan(b.request()).Steps {
			p := b.plan(b.request())
			name := p.Steps[i].String()
			p.Steps[i] = failing{p.Steps[i]}
			_, err := p.Apply(t.Context(), nil)
			var failure *ApplyError
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
	last := len(p.Steps) - 1
	p.Steps[last] = failing{p.Steps[last]} // after the daemon has filled them
	if _, err := p.Apply(t.Context(), nil); err == nil {
		t.Fatal("the install did not fail")
	}
	same(t, "after the failure", b.snapshot(), before)
}

// A database that was kept is never touched by taking back.
func TestInstall_FailsOverKeptContent(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	b.uninstall(false)
	before := b.snapshot()
	b.deps.Seed = func(context.Context, Installation) (bool, error) {
		b.write("root/quay-install/sqlite-storage/appliance.db-wal", "rows that are only here")
		return false, errors.New("made to fail")
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

// An install that was killed between replacing the program and restarting the daemon leaves a daemon that
// runs something else than what is on the disk: here, this test.
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
		for i := range b.plan(b.request()).Steps {
			p := b.plan(b.request())
			name := p.Steps[i].String()
			p.Steps[i] = failing{p.Steps[i]}
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
		steps := len(b.plan(b.request()).Steps)
		for n := range steps {
			p := b.plan(b.request())
			for _, s := range p.Steps[:n] {
				if _, err := s.Apply(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			b.install()
			if again := b.install(); again.Changed {
				t.Errorf("killed after %d steps: the third install changed something", n)
			}
			b.uninstall(true)
			after := b.snapshot()
			if n == 1 || n == 2 || n == 3 {
				// Killed in the moment before the record was written, install has forgotten which directories it
				// made: an empty one is all that stays.
				delete(after, filepath.Join(b.deps.Home, "quay-install"))
				if err := os.RemoveAll(b.path(filepath.Join(b.deps.Home, "quay-install"))); err != nil {
					t.Fatal(err)
				}
			}
			same(t, fmt.Sprintf("killed after %d steps, completed, uninstalled", n), after, before)
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
	var failure *ApplyError
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

func TestInstall_DryRunWritesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		lines := b.plan(b.request()).Describe()
		same(t, "after planning", b.snapshot(), before)
		if len(b.sm.calls) != 0 {
			t.Errorf("systemd was told: %v", b.sm.calls)
		}
		want := "write " + b.deps.unitDir(b.user) + "/appliance.service"
		if !slices.Contains(lines, want) || slices.Contains(lines, "") {
			t.Errorf("the description lacks %q, or has an empty line:\n%s", want, strings.Join(lines, "\n"))
		}
	})
}

func TestUninstall_LeavesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		b.install()
		if result := b.uninstall(true); !result.Changed {
			t.Error("nothing was changed")
		}
		same(t, "after the uninstall", b.snapshot(), before)
		_, err := PlanUninstall(t.Context(), Request{User: b.user}, b.deps)
		if !errors.As(err, new(*NotInstalledError)) {
			t.Errorf("a second uninstall: %v", err)
		}
	})
}

func TestUninstall_LeavesWhatWasThereBefore(t *testing.T) {
	b := newBox(t, true)
	b.sm.lingering = true
	b.write("home/alice/.local/bin/mine", "")
	for _, dir := range []string{"home/alice/quay-install", "home/alice/.config/systemd", "srv/blobs"} {
		if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := b.snapshot()
	r := b.request()
	r.QuayStorage = "/srv/blobs"
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.uninstall(true)
	same(t, "after the uninstall", b.snapshot(), before)
}

func TestUninstall_KeepsContentWithoutConsent(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		b.install()
		b.uninstall(false)
		root := filepath.Join(b.deps.Home, "quay-install")
		if b.read(root+"/quay-storage/sha256/ab/abcd") != "blob" || b.read(root+"/sqlite-storage/appliance.db") != "rows" {
			t.Error("the content is gone")
		}
		if !exists(b.path(root + "/quay-rootCA/rootCA-key.pem")) {
			t.Error("the CA is gone, which clusters trust that use the content")
		}
		if !b.user && !strings.Contains(b.read("etc/passwd"), serviceUser) {
			t.Error("the user that owns the content is gone")
		}
		if result := b.install(); result.Seeded || result.InitPassword != "" {
			t.Errorf("an install over kept content: %+v", result)
		}
		b.uninstall(false)
		b.uninstall(true)
		same(t, "after the last uninstall", b.snapshot(), before)
	})
}

func TestUninstall_KilledAfterEachStep(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		for n := 0; ; n++ {
			b.install()
			p, err := PlanUninstall(t.Context(), Request{User: b.user, RemoveContent: true}, b.deps)
			if err != nil {
				t.Fatal(err)
			}
			if n > len(p.Steps) {
				return
			}
			for _, s := range p.Steps[:n] {
				if _, err := s.Apply(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			_, err = PlanUninstall(t.Context(), Request{User: b.user}, b.deps)
			if !errors.As(err, new(*NotInstalledError)) {
				b.uninstall(true)
			}
			after := b.snapshot()
			if n == len(p.Steps)-1 {
				// Only the empty install directory was left, and nothing tells any more whose it is.
				root := filepath.Join(b.deps.Home, "quay-install")
				delete(after, root)
				if err := os.Remove(b.path(root)); err != nil {
					t.Fatal(err)
				}
			}
			same(t, fmt.Sprintf("killed after %d steps, then completed", n), after, before)
		}
	})
}

func TestUninstall_RefusesWhatIsNotOurs(t *testing.T) {
	b := newBox(t, false)
	b.write("root/quay-install/quay-config/config.yaml", "SERVER_HOSTNAME: quay\nDB_URI: sqlite:////sqlite/quay_sqlite.db\n")
	if _, err := PlanUninstall(t.Context(), Request{}, b.deps); !errors.As(err, new(*NotInstalledError)) {
		t.Errorf("a mirror-registry: %v", err)
	}
	b = newBox(t, false)
	b.write("etc/systemd/system/appliance.service", "[Service]\nExecStart=/usr/bin/toaster\n")
	if _, err := PlanUninstall(t.Context(), Request{}, b.deps); !errors.As(err, new(*ForeignUnitError)) {
		t.Errorf("another appliance.service: %v", err)
	}
	b = newBox(t, false)
	b.install()
	if _, err := PlanUninstall(t.Context(), Request{QuayRoot: "/opt/other"}, b.deps); !errors.As(err, new(*PreflightError)) {
		t.Errorf("another directory than the installed one: %v", err)
	}
	b.deps.Geteuid = func() int { return 1000 }
	if _, err := PlanUninstall(t.Context(), Request{}, b.deps); !errors.As(err, new(*PreflightError)) {
		t.Errorf("without rights: %v", err)
	}
}

func TestUninstall_KeepsTheProgramThatWasThere(t *testing.T) {
	b := newBox(t, false)
	b.write("usr/local/bin/appliance", "#!/bin/sh\n")
	b.chmod("usr/local/bin/appliance", 0o755)
	before := b.snapshot()
	r := b.request()
	r.Binary = b.path("usr/local/bin/appliance")
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.uninstall(true)
	same(t, "after the uninstall", b.snapshot(), before)
}

// prepareAndUninstall prepares /srv/quay and removes it again, content and all.
func prepareAndUninstall(t *testing.T, b *box) {
	t.Helper()
	p, err := PlanPrepare(t.Context(), Request{Hostname: "localhost", QuayRoot: "/srv/quay"}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	p, err = PlanUninstall(t.Context(), Request{QuayRoot: "/srv/quay", RemoveContent: true}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// A directory that was only prepared has no record and no unit: the program and the user are not the install's.
func TestUninstall_PreparedDirectory(t *testing.T) {
	b := newBox(t, false)
	b.write("usr/local/bin/appliance", "#!/bin/sh\n")
	b.write("etc/passwd", b.passwd("appliance:x:4242:4242::/:/sbin/nologin\n"))
	before := b.snapshot()
	prepareAndUninstall(t, b)
	after := b.snapshot()
	delete(after, "/srv") // whose it was nothing tells any more
	same(t, "after the uninstall", after, before)
}

// The record lies in a directory of the service's: what it names is not removed because it says so.
func TestUninstall_RecordNamesAnotherProgram(t *testing.T) {
	b := newBox(t, false)
	b.install()
	path := recordPath("/root/quay-install")
	b.write(path, strings.Replace(b.read(path), "/usr/local/bin/appliance", "/usr/local/bin/other", 1))
	b.uninstall(true)
	if !exists(b.path("usr/local/bin/other")) {
		t.Error("a program that is not ours was removed")
	}
	if exists(b.path("usr/local/bin/appliance")) {
		t.Error("our program is still there")
	}
}

func TestUninstall_RenamedDatabase(t *testing.T) {
	b := newBox(t, false)
	before := b.snapshot()
	b.install()
	b.edit("appliance.db", "mirror.sqlite")
	if err := os.Rename(b.path("root/quay-install/sqlite-storage/appliance.db"), b.path("root/quay-install/sqlite-storage/mirror.sqlite")); err != nil {
		t.Fatal(err)
	}
	b.install()
	b.uninstall(true)
	same(t, "after the uninstall", b.snapshot(), before)
}

// Without config.yaml the record still tells where the content lies.
func TestInstall_FindsKeptContentElsewhere(t *testing.T) {
	b := newBox(t, false)
	r := b.request()
	r.QuayStorage, r.SqliteStorage = "/srv/blobs", "/srv/db"
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.uninstall(false)
	if result := b.install(); result.Seeded {
		t.Error("an install over kept content began a new database")
	}
	if conf := b.read(config.Path("/root/quay-install")); !strings.Contains(conf, "storage: /srv/blobs\n") || !strings.Contains(conf, "database: /srv/db/appliance.db\n") {
		t.Error("the configuration names other directories")
	}
}

// A second install that fails before it changed anything leaves the daemon running, undisturbed.
func TestInstall_FailsWithoutTouchingTheDaemon(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.sm.calls = nil
	b.deps.Seed = func(context.Context, Installation) (bool, error) { return false, errors.New("another password") }
	if _, err := b.plan(b.request()).Apply(t.Context(), nil); err == nil {
		t.Fatal("the install did not fail")
	}
	if got := strings.Join(b.sm.calls, ", "); strings.Contains(got, "start") || strings.Contains(got, "stop") {
		t.Errorf("systemd was told: %s", got)
	}
}

// The directory of a CA that the user has elsewhere is not ours to open.
func TestInstall_CAElsewhere(t *testing.T) {
	b := newBox(t, false)
	b.install()
	if err := os.MkdirAll(b.path("srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.path("root/quay-install/quay-rootCA"), b.path("srv/ca")); err != nil {
		t.Fatal(err)
	}
	b.edit("/root/quay-install/quay-rootCA/rootCA.pem", "/srv/ca/rootCA.pem")
	b.edit("/root/quay-install/quay-rootCA/rootCA-key.pem", "/srv/ca/rootCA-key.pem")
	b.chmod("srv/ca", 0o710)
	b.install()
	if got, _, _ := strings.Cut(b.snapshot()["/srv/ca"], " "); got != "drwx--x---" {
		t.Errorf("the CA's directory is %s", got)
	}
}

// Whoever names another storage does not mean this one, with or without its config.yaml.
func TestUninstall_OtherDirectories(t *testing.T) {
	for _, kept := range []bool{false, true} {
		b := newBox(t, false)
		r := b.request()
		r.QuayStorage = "/srv/blobs"
		if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if kept {
			b.uninstall(false)
		}
		for _, wrong := range []Request{{QuayStorage: "/srv/other"}, {SqliteStorage: "/srv/other"}} {
			wrong.RemoveContent = true
			if _, err := PlanUninstall(t.Context(), wrong, b.deps); !errors.As(err, new(*PreflightError)) || !strings.Contains(err.Error(), "/srv/other") {
				t.Errorf("content kept %v: %v", kept, err)
			}
		}
		if _, err := PlanUninstall(t.Context(), Request{QuayStorage: "/srv/blobs", RemoveContent: true}, b.deps); err != nil {
			t.Errorf("content kept %v, the right directory: %v", kept, err)
		}
	}
}

// The daemon makes its certificate for the name that it finds when it starts.
func TestInstall_HostnameEdited(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.edit("hostname: registry.example.com", "hostname: other.example.com")
	b.sm.calls = nil
	if _, err := b.plan(Request{Binary: b.path("program")}).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(b.sm.calls, "start "+systemd.Service) { // the box's way of restarting
		t.Errorf("systemd was told: %q", b.sm.calls)
	}
}

// What runs under the name of our units beside a directory that was only prepared is another's.
func TestUninstall_PreparedDirectoryLeavesUnits(t *testing.T) {
	b := newBox(t, false)
	b.write("usr/lib/systemd/system/appliance.service", "[Service]\nExecStart=/usr/bin/other\n")
	b.write("etc/systemd/system/appliance.socket", "[Socket]\nListenStream=1\n")
	b.sm.active[systemd.Service], b.sm.active[systemd.Socket] = true, true
	before := b.snapshot()
	prepareAndUninstall(t, b)
	after := b.snapshot()
	delete(after, "/srv")
	same(t, "after the uninstall", after, before)
}

// An appliance that is installed elsewhere on the host stays, unit by unit, when a prepared directory is to go.
func TestUninstall_PreparedDirectoryBesideAnInstall(t *testing.T) {
	b := newBox(t, false)
	b.install()
	p, err := PlanPrepare(t.Context(), Request{Hostname: "localhost", QuayRoot: "/srv/quay"}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := b.snapshot()
	_, err = PlanUninstall(t.Context(), Request{QuayRoot: "/srv/quay", RemoveContent: true}, b.deps)
	if err == nil || !strings.Contains(err.Error(), "an appliance is installed already, in /root/quay-install") {
		t.Errorf("error is %v", err)
	}
	same(t, "after the refusal", b.snapshot(), before)
}
