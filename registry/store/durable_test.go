package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// durableDir, when set, makes the test binary the process that is watched.
const durableDir = "STORE_DURABLE_DIR"

// pushWatched pushes an image. What it wants to be seen between is told by looking at
// paths that do not exist.
func pushWatched(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Database: filepath.Join(dir, "appliance.db"), Storage: filepath.Join(dir, "storage")})
	if err != nil {
		return err
	}
	var u *Upload
	steps := []struct {
		name string
		do   func() error
	}{
		{"session", func() error {
			if u, err = s.Uploads.New(ctx, "app"); err != nil {
				return err
			}
			_, err := u.Write([]byte("{}"))
			return errors.Join(err, u.Close())
		}},
		{"blob", func() error {
			u, err := s.Uploads.Resume(ctx, "app", u.ID())
			if err == nil {
				_, err = u.Commit(ctx, digest.FromString("{}"))
			}
			return err
		}},
		{"manifest", func() error {
			_, err := s.Manifests.Put(ctx, "app", manifestOf(descriptor("x/y", []byte("{}"))), PutOptions{Tags: []string{"v1"}})
			return err
		}},
		{"small", func() error {
			s.journal.close() // so that it is settled when this says so
			return pushSmall(ctx, s, "small")
		}},
		{"flush one", func() error { s.journal.flush(ctx); return nil }},
		{"another", func() error { return pushSmall(ctx, s, "another") }},
		{"flush all", func() error { s.journal.few = 0; s.journal.flush(ctx); return nil }},
	}
	for _, step := range steps {
		_, _ = os.Stat("/begin/" + step.name)
		err := step.do()
		_, _ = os.Stat("/end/" + step.name)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return s.Close()
}

func pushSmall(ctx context.Context, s *Store, content string) error {
	u, err := s.Uploads.New(ctx, "app")
	if err != nil {
		return err
	}
	if _, err := u.Write([]byte(content)); err != nil {
		return err
	}
	_, err = u.Commit(ctx, digest.FromString(content))
	return err
}

// Invariants 1 and 2 in a power cut, which leaves what was synced and nothing else. A process that
// is killed does not tell what that is; the order of its system calls does.
func TestStore_SyncsBeforeItAnswers(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir()) // open files have no other names
	if err != nil {
		t.Fatal(err)
	}
	calls := watch(t, dir)
	blob, small, another := blobfile.Name(digest.FromString("{}")), blobfile.Name(digest.FromString("small")), blobfile.Name(digest.FromString("another"))
	for step, orders := range map[string][][]string{
		"session": {{"write uploads/*", "sync uploads/*", "write uploads/*.json.tmp", "sync uploads/*.json.tmp", "rename uploads/*.json", "sync uploads"}},
		"blob": {
			{"rename " + blob, "sync " + filepath.Dir(blob), "write wal", "sync wal"}, // its name
			{"sync " + blob, "write wal"},                             // its bytes
			{"sync " + filepath.Dir(filepath.Dir(blob)), "write wal"}, // the directory of its name
		},
		"manifest":  {{"write wal", "sync wal"}},
		"small":     {{"write wal", "sync wal"}}, // its bytes are in the WAL
		"flush one": {{"sync " + small, "sync " + filepath.Dir(small), "write wal"}, {"sync sha256", "write wal"}},
		"flush all": {{"sync all", "write out " + another, "write wal"}},
	} {
		got := between(calls, "begin "+step, "end "+step)
		t.Logf("%s: %s", step, strings.Join(got, ", "))
		for _, order := range orders {
			for i := range order[1:] {
				if !precedes(got, order[i], order[i+1]) {
					t.Errorf("%s: there is no %q before any %q", step, order[i], order[i+1])
				}
			}
		}
	}
}

func between(calls []string, begin, end string) []string {
	from, to := slices.Index(calls, begin), slices.Index(calls, end)
	if from < 0 || to < from {
		return nil
	}
	return slices.Compact(calls[from+1 : to])
}

// precedes says that all of the calls a come before the first b; where b syncs what a
// writes, before the last.
func precedes(calls []string, a, b string) bool {
	first, last := slices.Index(calls, b), -1
	for i, call := range calls {
		switch {
		case call == a:
			last = i
		case call == b && strings.TrimPrefix(a, "write ") == strings.TrimPrefix(b, "sync "):
			first = i
		}
	}
	return last >= 0 && last < first
}

// watch runs pushWatched under ptrace and returns what its system calls did to files: "write F",
// before it does; "sync F" and "rename F", to F, after it did.
func watch(t *testing.T, dir string) []string {
	t.Helper()
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.StartProcess(exe, []string{exe}, &os.ProcAttr{
		Env:   append(os.Environ(), durableDir+"="+dir),
		Files: []*os.File{nil, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL},
	})
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
		t.Skipf("no ptrace here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{dir: dir, entered: map[int]string{}}
	var status unix.WaitStatus
	_, err = unix.Wait4(process.Pid, &status, 0, nil) // it stops when it begins
	if err == nil {
		err = unix.PtraceSetOptions(process.Pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL)
	}
	for pid, sig := process.Pid, 0; err == nil; {
		// A thread that has just ended cannot go on.
		if err = unix.PtraceSyscall(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			break
		}
		for { // the next that stops
			if pid, err = unix.Wait4(-1, &status, unix.WALL, nil); err != nil || status.Stopped() || pid == process.Pid {
				break
			}
		}
		if err != nil || !status.Stopped() {
			break
		}
		sig = w.stopped(pid, status.StopSignal())
	}
	if err != nil || status.ExitStatus() != 0 {
		t.Fatalf("watching ends with %v, the process with %d", err, status.ExitStatus())
	}
	return w.calls
}

type watcher struct {
	dir     string
	entered map[int]string // what a thread is doing, by its id
	calls   []string
}

// stopped looks at a thread that has stopped, and says which signal to let it have.
func (w *watcher) stopped(pid int, sig syscall.Signal) int {
	const sysgood = 0x80
	switch {
	case sig == syscall.SIGTRAP|sysgood:
		w.systemCall(pid)
		return 0
	case sig == syscall.SIGTRAP, sig == syscall.SIGSTOP: // a thread has begun
		return 0
	}
	return int(sig)
}

// callInfo is struct ptrace_syscall_info, the same on every architecture.
type callInfo struct {
	op     uint8
	_      [3]uint8
	_      uint32
	_, _   uint64
	number uint64 // or, at the exit of a call, what it returns
	args   [6]uint64
}

func (w *watcher) systemCall(pid int) {
	const getInfo, entry, exit = 0x420e, 1, 2
	var info callInfo
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, getInfo, uintptr(pid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	switch {
	case errno != 0:
	case info.op == exit:
		if call := w.entered[pid]; call != "" && int64(info.number) >= 0 {
			w.calls = append(w.calls, call)
		}
		delete(w.entered, pid)
	case info.op == entry:
		w.entered[pid] = ""
		switch info.number {
		case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV:
			w.calls = append(w.calls, "write "+w.open(pid, info.args[0]))
		case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
			w.entered[pid] = "sync " + w.open(pid, info.args[0])
		case unix.SYS_SYNC_FILE_RANGE:
			w.entered[pid] = "write out " + w.open(pid, info.args[0])
		case unix.SYS_SYNCFS:
			w.entered[pid] = "sync all"
		case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
			w.entered[pid] = "rename " + w.name(read(pid, info.args[3]))
		default: // every look at a file has its name in the second place
			if mark := read(pid, info.args[1]); strings.HasPrefix(mark, "/begin/") || strings.HasPrefix(mark, "/end/") {
				w.calls = append(w.calls, strings.ReplaceAll(mark[1:], "/", " "))
			}
		}
	}
}

// open is the name of an open file.
func (w *watcher) open(pid int, fd uint64) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	if err != nil {
		return err.Error()
	}
	return w.name(path)
}

// name is a path as the test calls it.
func (w *watcher) name(path string) string {
	if path == filepath.Join(w.dir, "appliance.db-wal") {
		return "wal"
	}
	path = strings.TrimPrefix(path, filepath.Join(w.dir, "storage")+"/")
	id, suffix, _ := strings.Cut(strings.TrimPrefix(path, "uploads/"), ".")
	if blobstore.IsUploadID(id) {
		path = "uploads/*"
		if suffix != "" {
			path += "." + suffix
		}
	}
	return path
}

// read reads a string of the watched process.
func read(pid int, address uint64) string {
	b := make([]byte, 512)
	n, err := unix.PtracePeekData(pid, uintptr(address), b)
	if err != nil && n == 0 {
		return ""
	}
	s, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(s)
}
