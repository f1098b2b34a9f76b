package main_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

// emptyStore writes a configuration with another database and storage, and returns its path.
func (f *faulty) emptyStore(t *testing.T, name string) (path string, cfg config.Config) {
	t.Helper()
	cfg = *f.cfg
	dir := filepath.Join(f.root, name)
	cfg.Database, cfg.Storage = filepath.Join(dir, "database", "appliance.db"), filepath.Join(dir, "storage")
	must(t, errors.Join(os.MkdirAll(filepath.Dir(cfg.Database), 0o700), os.Mkdir(cfg.Storage, 0o700)))
	text, err := cfg.Marshal()
	must(t, err)
	path = filepath.Join(f.root, "quay-config", name+".yaml")
	must(t, os.WriteFile(path, text, 0o644))
	return path, cfg
}

// TestStoreCopy copies the store of a daemon, which is stopped when the command says so, and serves the
// copy.
func TestStoreCopy(t *testing.T) {
	f := newFaulty(t, "")
	images := f.fill(t, 3)
	f.begin(t)
	from := config.Path(f.root)
	to, target := f.emptyStore(t, "new")
	copies := func(wantCode int, args ...string) (stdout, stderr string) {
		t.Helper()
		code, stdout, stderr := outcome(t, exec.Command(f.program, append([]string{"store", "copy", "--from", from, "--to", to}, args...)...))
		if code != wantCode {
			t.Fatalf("%q: exit code %d, want %d\n%s%s", args, code, wantCode, stdout, stderr)
		}
		return stdout, stderr
	}
	if stdout, _ := copies(0, "--dry-run"); !strings.Contains(stdout, "would copy 9 blobs of 9 blobs") || !strings.Contains(stdout, "then, while it is stopped") {
		t.Errorf("the dry run prints %s", stdout)
	}
	stdout, stderr := copies(2, "-o", "json")
	var report transfer.Report
	must(t, json.Unmarshal([]byte(stdout), &report))
	if report.Whole || report.Copied != 9 || !strings.Contains(stderr, "hint: stop the source (systemctl stop appliance.socket appliance), then type the same command again") {
		t.Errorf("while it serves: %+v\n%s", report, stderr)
	}
	code, _, stderr := outcome(t, exec.Command(f.program, "verify", "--config", to))
	if code != 1 || !strings.Contains(stderr, "does not have the database "+target.Database) || !strings.Contains(stderr, "hint: stop it first") {
		t.Errorf("verify of half a copy, while the source serves: exit code %d, %s", code, stderr)
	}
	f.stop(t)
	for _, command := range []string{"serve", "verify", "gc"} {
		code, _, stderr := outcome(t, exec.Command(f.program, command, "--config", to))
		if code != 1 || !strings.Contains(stderr, "has not ended") || !strings.Contains(stderr, "hint: let the copy end: appliance store copy --from "+from+" --to "+to) {
			t.Errorf("%s of half a copy: exit code %d, %s", command, code, stderr)
		}
	}
	stdout, _ = copies(0)
	for _, want := range []string{"copied 0 blobs (0 B), 9 were there", "equal on both sides", "cp -p " + to + " " + from, "do not serve the old store again"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it does not print %q:\n%s", want, stdout)
		}
	}
	for _, look := range [][]string{{"verify"}, {"verify", "--content"}, {"gc", "--dry-run"}, {"gc"}, {"scrub"}, {"misses"}, {"user", "list"}} {
		code, _, stderr := outcome(t, exec.Command(f.program, append(look, "--config", to)...))
		if code != 0 {
			t.Errorf("%v of the copy: exit code %d, %s", look, code, stderr)
		}
		copies(0, "--dry-run")
	}
	copies(0)
	must(t, errors.Join(os.Rename(from, from+".before"), os.Rename(to, from)))
	f.cfg = &target
	f.start(t)
	pullable(t, f, images)
	f.stop(t)
	f.verify(t)

	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"one configuration":       {[]string{"--from", from}, "both --from and --to are needed"},
		"the same":                {[]string{"--from", from, "--to", from}, "name the same database"},
		"one that does not exist": {[]string{"--from", from, "--to", from + ".none"}, "--to: no appliance found"},
		"a word":                  {[]string{from, to}, "is not an argument"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := outcome(t, exec.Command(f.program, append([]string{"store", "copy"}, tc.args...)...))
			if code != 1 || !strings.Contains(stderr, tc.want) || !strings.Contains(stderr, "hint: ") {
				t.Errorf("exit code %d, %s", code, stderr)
			}
		})
	}
}

// TestStoreCopy_byRoot: what root copies is the service's, and root takes on its identity.
func TestStoreCopy_byRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another")
	}
	f := newFaulty(t, "")
	images := f.fill(t, 2)
	f.begin(t)
	f.stop(t)
	const owner = 65534
	to, target := f.emptyStore(t, "new")
	f.become(t, owner)
	must(t, os.Chmod(filepath.Dir(f.root), 0o700)) // as /root is
	copying := exec.Command(f.program, "store", "copy", "--from", config.Path(f.root), "--to", to)
	if out, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f.belongs(t, owner, f.root)
	must(t, os.Rename(to, config.Path(f.root)))
	f.cfg = &target
	must(t, os.Chmod(filepath.Dir(f.root), 0o755))
	f.start(t)
	pullable(t, f, images)
	f.stop(t)

	other, _ := f.emptyStore(t, "other") // which is root's
	code, _, stderr := outcome(t, exec.Command(f.program, "store", "copy", "--from", config.Path(f.root), "--to", other))
	if code != 1 || !strings.Contains(stderr, "chown") {
		t.Errorf("to directories of root: exit code %d, %s", code, stderr)
	}
}

// TestS3_commands: an appliance with blobs in S3 is a good one, and what does not work with it is told.
func TestS3_commands(t *testing.T) {
	f := newFaulty(t, "")
	path := config.Path(f.root)
	f.cfg.Storage = "s3://images/?endpoint=http://127.0.0.1:9"
	text, err := f.cfg.Marshal()
	must(t, err)
	must(t, os.WriteFile(path, text, 0o644))
	if out, err := f.command("config", "validate").CombinedOutput(); err != nil || strings.Contains(string(out), "FAILED") {
		t.Errorf("config validate: %v\n%s", err, out)
	}
	out, _ := f.command("doctor").CombinedOutput() // which no daemon answers
	for _, bad := range []string{"does not exist", "not keep images in S3"} {
		if strings.Contains(string(out), bad) {
			t.Errorf("doctor prints %q:\n%s", bad, out)
		}
	}
	const told = "storage     s3://images at http://127.0.0.1:9: it is not looked at: its credentials are not in config.yaml"
	if !strings.Contains(string(out), told) || strings.Count(string(out), "s3://") != 1 { // it is no directory
		t.Errorf("doctor prints\n%s", out)
	}
	old := filepath.Join(t.TempDir(), "old")
	must(t, os.MkdirAll(filepath.Join(old, "docker", "registry", "v2", "repositories"), 0o755))
	f.refuses(t, []string{"adopt", old}, "not taken over into S3", "appliance store copy --help")
	f.refuses(t, []string{"restore", old}, "backups of a store with blobs in S3 are not built yet")
	f.refuses(t, []string{"install", "--quayStorage", f.cfg.Storage}, "--quayStorage takes a directory", "is a bucket")
}

// TestPostgres_commands: what is wrong with a database in PostgreSQL is told before a daemon runs.
func TestPostgres_commands(t *testing.T) {
	f := newFaulty(t, "")
	path := config.Path(f.root)
	pass := filepath.Join(f.root, "quay-config", "pgpass")
	must(t, os.WriteFile(pass, []byte("other:5432:appliance:app:secret\n"), 0o600))
	text, err := os.ReadFile(path)
	must(t, err)
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "database:") {
			lines[i] = "database: postgres://app@127.0.0.1:9/appliance?passfile=" + pass
		}
	}
	must(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644))
	out, _ := f.command("config", "validate").CombinedOutput()
	const lacks = "has no line for host 127.0.0.1, port 9, database appliance and user app"
	if !strings.Contains(string(out), lacks) || strings.Contains(string(out), "secret") {
		t.Errorf("config validate prints\n%s", out)
	}
	must(t, os.WriteFile(pass, []byte("127.0.0.1:9:appliance:app:secret\n"), 0o600))
	if out, _ := f.command("config", "validate").CombinedOutput(); strings.Contains(string(out), lacks) {
		t.Errorf("config validate prints\n%s", out)
	}
	out, _ = f.command("doctor").CombinedOutput() // which no daemon answers
	if !strings.Contains(string(out), "the database postgres://app@127.0.0.1:9/appliance is not available") || !strings.Contains(string(out), "pg_isready") || strings.Contains(string(out), "secret") {
		t.Errorf("doctor prints\n%s", out)
	}
	if os.Geteuid() == 0 { // as CI is
		f.become(t, attacker)
		asRoot := f.command("doctor")
		asRoot.SysProcAttr = nil
		// as the user who runs the registry, who may not read what is root's
		must(t, os.Chown(pass, 0, 0))
		if out, _ := asRoot.CombinedOutput(); !strings.Contains(string(out), "FAILED   database    ") || !strings.Contains(string(out), pass+": permission denied") {
			t.Errorf("doctor of root prints\n%s", out)
		}
	}
}
