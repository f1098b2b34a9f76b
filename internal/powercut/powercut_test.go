package powercut_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/powercut"
)

// child, when set, is the directory in which the test binary is the process that is watched.
const child = "POWERCUT_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(child); dir != "" {
		if err := change(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// page is what a file is changed by.
func page(c byte) []byte { return bytes.Repeat([]byte{c}, 2048) }

// change changes files, and prints a line between what it syncs and what it does not.
func change(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	file, err := os.Create(at("synced"))
	if err != nil {
		return err
	}
	named, err := os.Create(at("named"))
	if err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	_, err = file.Write(page('a'))
	err = errors.Join(err, file.Sync(), os.Mkdir(at("directory"), 0o700), parent.Sync())
	// None of what follows is synced, or the name of what is synced is not.
	_, other := named.Write(page('n'))
	_, again := file.WriteAt(page('b'), 1024)
	err = errors.Join(err, other, again, os.WriteFile(at("directory/unnamed"), page('u'), 0o600))
	unnamed, failed := os.Open(at("directory/unnamed"))
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	return errors.Join(unnamed.Sync(), os.Rename(at("old"), at("new")), os.Remove(at("removed")), os.Truncate(at("whole"), 5),
		unix.Fallocate(int(named.Fd()), 0, 0, 4096), syscall.Mkdir(at("later"), 0o700), os.WriteFile(at("last"), nil, 0o600))
}

func start(t *testing.T, at int) (*powercut.Process, string) {
	t.Helper()
	dir := powercut.TempDir(t)
	for _, name := range []string{"old", "removed", "whole"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("it was there"), 0o640))
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), child+"="+dir)
	c.Stderr = os.Stderr
	p, err := powercut.Start(c, dir, at)
	must(t, err)
	t.Cleanup(p.Cut)
	return p, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// left returns what a disk may have, by the names.
func left(t *testing.T, p *powercut.Process, seed uint64) map[string]string {
	t.Helper()
	dir := t.TempDir()
	must(t, p.Leave(dir, rand.New(rand.NewPCG(seed, 1))))
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var content []byte
			content, err = os.ReadFile(path)
			all[path[len(dir)+1:]] = string(content)
		}
		return err
	}))
	return all
}

func TestProcess_Leave(t *testing.T) {
	p, dir := start(t, 0)
	for _, err := os.Stat(filepath.Join(dir, "last")); err != nil; _, err = os.Stat(filepath.Join(dir, "last")) {
		time.Sleep(time.Millisecond)
		select {
		case <-p.Ended():
			t.Fatal(p.Err())
		default:
		}
	}
	p.Cut()
	a, b, was := string(page('a')), string(page('b')), "it was there"
	changed := a[:1024] + b
	may := map[string][]string{
		"synced":            {a, changed, changed[:1536] + a[1536:], changed[:2560]},
		"named":             {"", string(page('n')), string(page('n')) + strings.Repeat("\x00", 2048), strings.Repeat("\x00", 4096)},
		"directory/unnamed": {"-", string(page('u'))},
		"old":               {"-", was},
		"new":               {"-", was},
		"removed":           {"-", was},
		"whole":             {was, was[:5]},
	}
	seen := map[string]bool{}
	for seed := range uint64(300) {
		all := left(t, p, seed)
		for name, some := range may {
			got, ok := all[name]
			if !ok {
				got = "-"
			}
			for _, one := range some {
				seen[name+" "+one] = seen[name+" "+one] || one == got
			}
			if name == "synced" && !strings.HasPrefix(got, a[:1024]) || name == "directory/unnamed" && got != some[0] && got != some[1] {
				t.Errorf("%s is left with %.40q… of %d bytes", name, got, len(got))
			}
		}
		if all["old"] != was && all["new"] != was {
			t.Error("a file that is renamed has no name")
		}
	}
	for name, some := range may {
		for _, one := range some {
			if !seen[name+" "+one] {
				t.Errorf("%s is never left with %d bytes, %.20q", name, len(one), one)
			}
		}
	}
	t.Run("at each operation", func(t *testing.T) {
		for at := 1; at <= p.Operations(); at += 3 {
			cut, _ := start(t, at)
			must(t, cut.Err())
			all := left(t, cut, uint64(at))
			if _, ok := all["last"]; ok && at < p.Operations() || cut.Operations() != at {
				t.Errorf("cut before operation %d, after %d, %q is there", at, cut.Operations(), all)
			}
		}
	})
}

func TestProcess_Err(t *testing.T) {
	c := exec.Command("/bin/false")
	p, err := powercut.Start(c, t.TempDir(), 0)
	must(t, err)
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "by itself, with status 1") {
		t.Errorf("a process that ends: %v", err)
	}
	if err := p.Leave(t.TempDir(), rand.New(rand.NewPCG(1, 1))); err == nil {
		t.Error("there was no cut, and something is left")
	}
	if _, err := powercut.Start(exec.Command("/nowhere"), t.TempDir(), 0); err == nil {
		t.Error("a command that does not exist is started")
	}
}
