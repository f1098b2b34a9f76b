package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/backup"
)

// outcome runs a command to its end.
func outcome(t *testing.T, c *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	_ = c.Run() // how it ended is in the code
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// TestBackup_damaged: what is not in a backup is in its report, as in the error.
func TestBackup_damaged(t *testing.T) {
	f := newFaulty(t, "")
	images := f.fill(t, 3)
	bad := digest.FromBytes(images[0].contents[0])
	must(t, os.Remove(filepath.Join(f.cfg.Storage, "sha256", bad.Encoded()[:2], bad.Encoded())))
	to := filepath.Join(t.TempDir(), "backup")
	code, stdout, stderr := outcome(t, f.command("backup", "-o", "json", to))
	var report backup.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Errorf("the report is %q: %v", stdout, err)
	}
	if code != 1 || report.Damaged != 1 || len(report.DamagedBlobs) != 1 || report.DamagedBlobs[0] != bad {
		t.Errorf("exit code %d, report %+v", code, report)
	}
	if !strings.Contains(stderr, "error: ") || !strings.Contains(stderr, "hint: ") || strings.Contains(stderr, "time=") {
		t.Errorf("it says\n%s", stderr)
	}
	code, stdout, stderr = outcome(t, f.command("backup", "-o", "json", "/proc/nowhere"))
	if code != 1 || stdout != "" || !strings.Contains(stderr, "/proc/nowhere") {
		t.Errorf("to a place that cannot be: exit code %d, report %q\n%s", code, stdout, stderr)
	}
}

// TestStranger has a user of the host, who is neither root nor the one who installed the
// appliance, try commands.
func TestStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another")
	}
	f := newFaulty(t, "")
	f.become(t, 65534)
	f.as = &syscall.Credential{Uid: 65533, Gid: 65533}
	stranger := func(args ...string) string {
		t.Helper()
		c := f.command(args...)
		c.Env = append(os.Environ(), "HOME=/nowhere", "XDG_RUNTIME_DIR=")
		code, _, stderr := outcome(t, c)
		if code != 1 || !strings.HasPrefix(stderr, "error: ") {
			t.Errorf("%v: exit code %d\n%s", args, code, stderr)
		}
		return stderr
	}
	must(t, os.Chmod(filepath.Dir(f.cfg.Database), 0o700))
	for _, open := range []string{filepath.Dir(config.Path(f.root)), config.Path(f.root), filepath.Dir(f.cfg.ControlSocket)} {
		must(t, os.Chmod(open, 0o755))
	}
	for _, args := range [][]string{{"restore", "/nowhere"}, {"gc"}} {
		if said := stranger(args...); !strings.Contains(said, "permission denied\nhint: run the command as root, or as the user who installed the appliance\n") {
			t.Errorf("%v: it says\n%s", args, said)
		}
	}
	file := config.Path(f.root)
	must(t, os.Chmod(file, 0o600))
	denied := "open " + file + ": permission denied\nhint: run the command as root"
	if said := stranger("gc"); !strings.Contains(said, denied) {
		t.Errorf("of a configuration that cannot be read it says\n%s", said)
	}
	f.root = "" // as if it was not named
	if said := stranger("store", "copy", "--from", file, "--to", file); !strings.Contains(said, "--from: "+denied) {
		t.Errorf("store copy says\n%s", said)
	}
	if said := stranger("gc"); !strings.Contains(said, "\nhint: run the command as root if root installed it; else name its directory") {
		t.Errorf("without --quayRoot: it says\n%s", said)
	}
	f.root = "/nowhere"
	if said := stranger("gc"); !strings.Contains(said, "\nhint: name its directory") {
		t.Errorf("with another --quayRoot: it says\n%s", said)
	}
	t.Run("doctor", strangerLooks)
}

// TestServe_byRoot ends daemons that root has started, for the owner of the store.
func TestServe_byRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another")
	}
	f := newFaulty(t, "")
	f.become(t, 65534)
	serve := func() (*exec.Cmd, *said) {
		t.Helper()
		c, said := f.command("serve"), &said{}
		c.SysProcAttr = nil
		c.Stdout, c.Stderr = said, said
		must(t, c.Start())
		t.Cleanup(func() { _ = c.Process.Signal(syscall.SIGTERM) }) // it has ended, if all is well
		eventuallyHolds(t, "the daemon answers", func() bool { return f.admin.Ping(t.Context(), "") == nil })
		return c, said
	}
	stopped, log := serve()
	must(t, stopped.Process.Signal(syscall.SIGTERM))
	if err := stopped.Wait(); err != nil || strings.Contains(log.String(), "error:") {
		t.Errorf("it ended with %v\n%s", err, log)
	}
	killed, _ := serve()
	must(t, killed.Process.Kill())
	eventuallyHolds(t, "the daemon has ended too", func() bool { return errors.Is(f.admin.Ping(t.Context(), ""), client.ErrNotRunning) })
	_ = killed.Wait() // it was killed
}

// strangerLooks has a user look at an appliance of which root alone may read a part: the hints are to leave it as it is.
func strangerLooks(t *testing.T) {
	f := newFaulty(t, "")
	conf := filepath.Dir(config.Path(f.root))
	f.become(t, 0)
	f.as = &syscall.Credential{Uid: 65533, Gid: 65533}
	record, undo := filepath.Join(conf, "install.json"), filepath.Join(conf, "undo")
	must(t, errors.Join(os.WriteFile(record, []byte("{}"), 0o600), os.Mkdir(undo, 0o700)))
	for _, open := range []string{f.root, conf} {
		must(t, os.Chmod(open, 0o755))
	}
	for _, tc := range []struct {
		closed string
		mode   os.FileMode
		denied []string
	}{
		{config.Path(f.root), 0o644, []string{record, filepath.Join(undo, "journal")}},
		{config.Path(f.root), 0o600, []string{record, filepath.Join(undo, "journal"), config.Path(f.root)}},
		{f.root, 0o700, []string{config.Path(f.root)}},
	} {
		must(t, os.Chmod(tc.closed, tc.mode))
		c := f.command("doctor", "-o", "json")
		c.Env = append(os.Environ(), "HOME=/nowhere", "XDG_RUNTIME_DIR=")
		code, stdout, stderr := outcome(t, c)
		var all []finding.Finding
		must(t, json.Unmarshal([]byte(stdout), &all))
		text := unwell(all, "config")
		for _, path := range tc.denied {
			if code != 1 || !strings.Contains(text, path+": permission denied hint: run the command as root, or as the user who installed the appliance\n") {
				t.Errorf("%s is not named: exit code %d\n%s%s", path, code, text, stderr)
			}
		}
		for _, found := range all {
			if found.Check != "unit" && (found.Check != "config" || !strings.Contains(found.Hint, "run the command as root")) {
				t.Errorf("it finds %+v", found)
			}
		}
	}
}
