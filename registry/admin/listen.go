package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Listen opens the control socket at path with mode 0600, creating its directory if need be. A
// socket that a killed daemon left behind is replaced; one that answers is refused.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := vacant(ctx, path); err != nil {
		return nil, err
	}
	// Until its mode is set, any user can connect to the socket. So it is bound in a private
	// directory and moved. A umask is the whole process's, and other goroutines create files.
	private, err := os.MkdirTemp(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer os.RemoveAll(private)
	l, err := bind(ctx, filepath.Join(private, "s"), path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, nil
}

// vacant returns an error unless path can be replaced without a loss.
func vacant(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return hint.New(fmt.Errorf("control socket: %s is there and is not a socket", path),
			"move it away, or name another file as controlSocket")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		c.Close()
		return hint.New(fmt.Errorf("control socket: another daemon answers on %s", path),
			"stop it first: systemctl stop appliance.socket appliance")
	}
	return nil
}

func bind(ctx context.Context, temporary, path string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", temporary)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it would unlink the temporary name
	info, err := place(temporary, path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{Listener: l, path: path, info: info}, nil
}

func place(temporary, path string) (fs.FileInfo, error) {
	if err := os.Chmod(temporary, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// socket removes its file when it is closed, unless another daemon has put its own there.
type socket struct {
	net.Listener
	path string
	info fs.FileInfo

	once sync.Once
	err  error
}

// Addr returns where the socket is, not where it was bound.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

func (s *socket) Close() error {
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.info) {
			s.err = os.Remove(s.path)
		}
		s.err = errors.Join(s.err, s.Listener.Close())
	})
	return s.err
}
