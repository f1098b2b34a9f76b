package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// helmFile is the program that renders charts, cmd/appliance-helm.
const helmFile = "appliance-helm"

// helmProgram starts the program that renders charts. A build by make has it inside, compressed; it
// is unpacked into memory when the first chart is rendered. Any other build has it beside itself.
type helmProgram struct {
	unpack sync.Once
	file   *os.File
	err    error
}

// command returns the program, ready to be started.
func (h *helmProgram) command(ctx context.Context) (*exec.Cmd, error) {
	if len(helmInside) == 0 {
		path, err := helmBeside()
		return exec.CommandContext(ctx, path), err
	}
	h.unpack.Do(func() { h.file, h.err = unpackHelm(helmInside) })
	if h.err != nil {
		return nil, fmt.Errorf("unpack the program that renders Helm charts: %w", h.err)
	}
	// The child resolves this in its own table of files, which is a copy until it becomes the other
	// program.
	return exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", h.file.Fd())), nil
}

// close frees the memory.
func (h *helmProgram) close() {
	if h.file != nil {
		h.file.Close()
	}
}

func helmBeside() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), helmFile)
	if _, err := os.Stat(path); err != nil {
		return "", hint.New(errors.New("this build has no program inside that renders Helm charts, and there is none beside it"),
			"make build makes one that has it; or go build -o "+path+" ./cmd/"+helmFile)
	}
	return path, nil
}

// unpackHelm writes a program to a file that exists in memory only: a temporary directory may be
// mounted noexec.
func unpackHelm(compressed []byte) (*os.File, error) {
	plain, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate(helmFile, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3, where every such file can be executed
		fd, err = unix.MemfdCreate(helmFile, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), helmFile)
	if _, err := io.Copy(file, plain); err != nil {
		file.Close()
		return nil, err
	}
	// A program that is open for writing cannot be executed.
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	file.Close()
	return again, err
}
