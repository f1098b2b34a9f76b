package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// Standby starts a server that follows s. The caller calls Stop.
func (s *Server) Standby(ctx context.Context) (_ *Server, err error) {
	standby, err := prepare()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, standby.Stop())
		}
	}()
	from := fmt.Sprintf("host=%s user=appliance", s.dir)
	if err := standby.run(ctx, s.bin, "pg_basebackup", "-d", from, "-D", standby.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync"); err != nil {
		return nil, err
	}
	return standby, standby.Begin(ctx)
}

// Synchronous has each commit at s wait until a standby has it.
func (s *Server) Synchronous(ctx context.Context) error {
	if err := s.Exec(ctx, `ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`); err != nil {
		return err
	}
	return s.Until(ctx, `SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync')`)
}

// Promote makes a primary of a standby.
func (s *Server) Promote(ctx context.Context) error {
	if err := s.run(ctx, s.bin, "pg_ctl", "promote", "-D", s.data()); err != nil {
		return err
	}
	return s.Until(ctx, `SELECT NOT pg_is_in_recovery()`)
}

// Kill ends all processes of the server at one moment, as a power cut does; Begin starts it again.
func (s *Server) Kill() error {
	if err := s.Freeze(); err != nil { // none sees the end of another
		return err
	}
	children, err := s.children()
	if err != nil {
		return err
	}
	ends, err := endsOf(children)
	defer closeAll(ends)
	if err != nil {
		return err
	}
	for _, pid := range append(children, s.serve.Process.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	_ = s.serve.Wait() // which reports the signal
	s.serve = nil
	return awaitEnds(ends)
}

// endsOf returns what tells of the ends of processes, which are not this process's own.
func endsOf(pids []int) (ends []unix.PollFd, err error) {
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return ends, fmt.Errorf("watch process %d: %w", pid, err)
		}
		ends = append(ends, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return ends, nil
}

func closeAll(ends []unix.PollFd) {
	for _, end := range ends {
		_ = unix.Close(int(end.Fd))
	}
}

// awaitEnds waits until all processes have ended. One that was killed has the shared memory of the server until then, and
// the next server refuses to start beside it.
func awaitEnds(ends []unix.PollFd) error {
	for i := range ends {
		for {
			n, err := unix.Poll(ends[i:i+1], int(time.Minute.Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err == nil && n == 0 {
				err = errors.New("a process of the server that was killed does not end")
			}
			if err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// Exec runs statements as a superuser.
func (s *Server) Exec(ctx context.Context, texts ...string) error {
	c, err := pgx.Connect(ctx, s.address("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, text := range texts {
		if _, err := c.Exec(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// Until waits until a query returns true.
func (s *Server) Until(ctx context.Context, query string) error {
	c, err := pgx.Connect(ctx, s.address("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for {
		var is bool
		if err := c.QueryRow(ctx, query).Scan(&is); err != nil || is {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Both returns the address of a database at either of two servers.
func (s *Server) Both(other *Server, name string) string {
	return fmt.Sprintf("postgres://appliance@/%s?host=%s,%s&sslmode=disable", name, s.dir, other.dir)
}
