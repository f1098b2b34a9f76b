package installer

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
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
	found, err := find(b.deps, false)
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

func TestInstall_DryRunWritesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		pending := func() []string {
			lines, err := b.plan(b.request()).Pending(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return lines
		}
		lines := pending()
		same(t, "after planning", b.snapshot(), before)
		if len(b.sm.calls) != 0 {
			t.Errorf("systemd was told: %v", b.sm.calls)
		}
		want := "write " + b.deps.unitDir(b.user) + "/appliance.service"
		if !slices.Contains(lines, want) || slices.Contains(lines, "") {
			t.Errorf("the description lacks %q, or has an empty line:\n%s", want, strings.Join(lines, "\n"))
		}
		b.install()
		if lines := pending(); len(lines) != 0 {
			t.Errorf("of what is there:\n%s", strings.Join(lines, "\n"))
		}
		b.newer()
		lines = pending()
		for _, want := range []string{"copy ", "start appliance.socket"} {
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
				t.Errorf("of another program: %q is missing in\n%s", want, strings.Join(lines, "\n"))
			}
		}
	})
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

// A file of another's that came to the directories of an install does not keep the next from going on.
func TestInstall_strayFile(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		b.install()
		for _, dir := range []string{"quay-storage", "sqlite-storage"} {
			b.write(filepath.Join(b.deps.Home, "quay-install", dir, "notes.txt"), "")
		}
		if result := b.install(); result.Changed {
			t.Error("the second install changed something")
		}
		b.write("srv/blobs/notes.txt", "")
		b.edit("storage: "+b.deps.Home+"/quay-install/quay-storage", "storage: /srv/blobs")
		if _, err := PlanInstall(t.Context(), b.request(), b.deps); err == nil || !strings.Contains(err.Error(), "/srv/blobs holds other things already (notes.txt)") {
			t.Errorf("in a directory that no install has had: %v", err)
		}
	})
}

// The record has the name of the first administrator, for later installs.
func TestInstall_initUserOfTheRecord(t *testing.T) {
	b := newBox(t, false)
	r := b.request()
	r.InitUser = "admin.x"
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "second", ""} {
		r.InitUser = name
		result, err := b.plan(r).Apply(t.Context(), nil)
		if want := cmp.Or(name, "admin.x"); err != nil || result.InitUser != want {
			t.Errorf("with --initUser %q it is about %s, %v; want %s", name, result.InitUser, err, want)
		}
	}
}

// A user puller of a mirror-registry is not install's to change, then or later.
func TestInstall_pullerOfAnother(t *testing.T) {
	b := newBox(t, false)
	b.deps.Seed = func(ctx context.Context, in Installation) (seeding, error) {
		if _, err := b.seed(ctx, in); err != nil {
			return seeding{}, err
		}
		return seeding{kept: true}, os.Remove(b.path(PullSecretFile(in.QuayRoot)))
	}
	b.install()
	b.deps.Seed = func(_ context.Context, in Installation) (seeding, error) {
		if !in.Adopted {
			t.Error("a later install takes the user for its own")
		}
		return seeding{}, nil
	}
	for range 2 {
		b.install()
	}
	if got := b.examine(Examination{}); strings.Contains(strings.Join(got, ""), "pull-secret.json") {
		t.Errorf("doctor misses its file: %q", got)
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

// Request and Result can come and go as lines of text: the same program may run on another host.
func TestRequest_IsAPlainValue(t *testing.T) {
	request := Request{Hostname: "a", Port: 1, QuayRoot: "b", QuayStorage: "c", SqliteStorage: "d", Binary: "e", User: true, InitUser: "f", InitPassword: "g", RemoveContent: true}
	result := Result{Changed: true, Address: "a", QuayRoot: "b", CA: "c", InitUser: "d", InitPassword: "e", Seeded: true}
	for value, copy := range map[any]any{request: &Request{}, result: &Result{}} {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, copy); err != nil || reflect.ValueOf(copy).Elem().Interface() != value {
			t.Errorf("%+v has become %+v, %v", value, copy, err)
		}
	}
}
