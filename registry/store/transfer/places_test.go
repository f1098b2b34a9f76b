package transfer_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

// readOnly is set in the process of TestRun_ofAReadOnlySource that has mounts of its own.
const readOnly = "TEST_READ_ONLY"

// A source on a file system that is mounted read-only is refused with what to do.
func TestRun_ofAReadOnlySource(t *testing.T) {
	if os.Getenv(readOnly) == "" {
		c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		c.Env = append(os.Environ(), readOnly+"=1")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
		if out, err := c.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	from := inFiles(t)
	fill(t, from)
	dir := filepath.Dir(from.Database)
	must(t, syscall.Mount(dir, dir, "", syscall.MS_BIND, ""))
	must(t, syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	for _, dry := range []bool{true, false} {
		_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: inFiles(t).Side, DryRun: dry})
		if err == nil || !strings.Contains(err.Error(), dir+" is on a file system that is mounted read-only") || !strings.Contains(hint.Of(err), "mount -o remount,rw") {
			t.Errorf("Run gives %v, hint %q", err, hint.Of(err))
		}
	}
	must(t, syscall.Unmount(dir, 0))
}

// A prefix of a bucket lies in another one by its names.
func TestRun_ofPrefixesInEachOther(t *testing.T) {
	for to, refused := range map[string]bool{"a/b": true, "": true, "ab": false, "a": false} {
		from, target := inFiles(t), inFiles(t)
		from.Storage, target.Storage = "s3://images/a?endpoint=http://127.0.0.1:9", "s3://images/"+to+"?endpoint=http://127.0.0.1:9"
		_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: target.Side})
		if err == nil || strings.Contains(err.Error(), "lie in each other") != refused {
			t.Errorf("to %q: %v", to, err)
		}
	}
}
