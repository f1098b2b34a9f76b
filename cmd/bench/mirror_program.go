package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	ocMirrorProgram = "oc-mirror"
	mirrorConfig    = "isc.yaml"
	blockSize       = 512 // of ru_oublock
)

// A mirrorer is a program that mirrors by an image set.
type mirrorer struct {
	name, program string
	flags         []string // before all others
	site          *site
}

// mirrorers returns those that there are: this appliance's program, and oc-mirror.
func (b *bench) mirrorers() ([]mirrorer, error) {
	var all []mirrorer
	for _, m := range []mirrorer{
		{name: subjectName, program: b.appliance, flags: []string{"mirror"}},
		{name: ocMirrorProgram, program: ocMirrorProgram, flags: []string{"--v2", "--cache-dir", b.site.path("cache")}},
	} {
		if m.name == ocMirrorProgram && !b.peers {
			continue
		}
		program, err := exec.LookPath(m.program)
		switch {
		case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		}
		if m.program, err = filepath.Abs(program); err != nil {
			return nil, err
		}
		m.site = b.site
		all = append(all, m)
	}
	return all, nil
}

// prepareMirrors writes what each run reads: the image set, and the logins.
func (b *bench) prepareMirrors(imageSet string, registries ...string) error {
	auths := object{}
	for _, r := range registries {
		auths[r] = object{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	}
	text, err := json.Marshal(object{"auths": auths})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(b.site.path("auth.json"), text, 0o600), os.WriteFile(b.site.path(mirrorConfig), []byte(imageSet), 0o600))
}

// mirrored is what a run took.
type mirrored struct {
	took    time.Duration
	written int64 // bytes, by the program itself
	memory  int64 // bytes resident, at most
}

// run mirrors, and returns an error with the end of the program's output if it failed.
func (m mirrorer) run(ctx context.Context, args ...string) (mirrored, error) {
	all := append([]string{}, m.flags...)
	all = append(all, "-c", m.site.path(mirrorConfig), "--authfile", m.site.path("auth.json"), "--src-tls-verify=false")
	cmd := exec.CommandContext(ctx, m.program, append(all, args...)...)
	cmd.Dir = m.site.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return mirrored{}, fmt.Errorf("%s %s: %w\n%s", m.name, strings.Join(args, " "), err, out[max(0, len(out)-2000):])
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	r := mirrored{took: took}
	if usage != nil {
		r.written, r.memory = usage.Oublock*blockSize, usage.Maxrss<<10
	}
	return r, nil
}

// written reads how many bytes a server has made the disk write.
func (s *server) written() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "write_bytes:"); ok {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("no write_bytes of %s", s.name)
}
