// Package postgrestest runs a PostgreSQL of its own for the tests of a process, from the programs of
// Debian's package, and gives each test a database.
package postgrestest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a running server.
type Server struct {
	dir   string
	bin   string
	serve *exec.Cmd
	owner *syscall.Credential // nil: this process's
	mu    sync.Mutex          // guards made
	made  int
	port  int // of TCP on 127.0.0.1; 0: it has none
	limit int // of connections; 0: 400
}

// Start starts a server, which is reached by a socket in a temporary directory. The caller calls
// Stop.
func Start(ctx context.Context) (_ *Server, err error) {
	s, err := prepare()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if err := s.run(ctx, s.bin, "initdb", "-D", s.data(), "-U", "appliance", "-A", "trust", "--encoding=UTF8", "--locale=C", "--no-sync"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(localRules), 0o644); err != nil {
		return nil, err
	}
	return s, s.Begin(ctx)
}

// localRules are the rules of the socket. The user login needs a password, others none.
const localRules = "local all login scram-sha-256\nlocal all all trust\nlocal replication all trust\n"

// prepare returns a server without data.
func prepare() (_ *Server, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	parent := "" // that of all temporary files
	if _, err := os.Stat("/dev/shm"); err == nil {
		parent = "/dev/shm" // where a sync takes no time
	}
	s := &Server{bin: bin}
	if s.dir, err = os.MkdirTemp(parent, "appliance-postgres"); err != nil {
		return nil, err
	}
	if err := s.drop(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Begin starts the server again after Halt.
func (s *Server) Begin(ctx context.Context) error {
	s.serve = s.command(context.WithoutCancel(ctx), s.bin, "postgres", "-D", s.data(), "-k", s.dir, "-c", "listen_addresses=",
		"-c", "max_connections="+strconv.Itoa(cmp.Or(s.limit, 400)), "-c", "autovacuum_naptime=5s", "-c", "max_wal_size=256MB", "-c", "shared_buffers=64MB")
	if s.port != 0 {
		s.serve.Args = append(s.serve.Args, "-c", "listen_addresses=127.0.0.1", "-p", strconv.Itoa(s.port))
	}
	s.serve.Env = append(os.Environ(), "TZ=UTC")
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.serve.Stdout, s.serve.Stderr = log, log
	if err := s.serve.Start(); err != nil {
		return err
	}
	return s.await(ctx)
}

// Limit starts the server anew, with so many connections, of which superusers have three.
func (s *Server) Limit(ctx context.Context, connections int) error {
	s.limit = connections
	if err := s.Halt(); err != nil {
		return err
	}
	return s.Begin(ctx)
}

// Halt stops the server and its connections; Begin starts it again.
func (s *Server) Halt() error {
	if err := s.serve.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	err := s.serve.Wait()
	s.serve = nil
	return err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// programs returns the directory of the newest server that is installed.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("PostgreSQL is not installed (apt-get install postgresql-15): %v", err)
	}
	return found[len(found)-1], nil
}

// drop gives the directory to the user of Debian's package: the server refuses to run as root.
func (s *Server) drop() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(s.dir, uid, gid)); err != nil {
		return err
	}
	s.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

func (s *Server) command(ctx context.Context, bin, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	c.Dir = s.dir
	// The server ends with this process, however that ends.
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner, Pdeathsig: syscall.SIGQUIT}
	return c
}

func (s *Server) run(ctx context.Context, bin, name string, args ...string) error {
	var out bytes.Buffer
	c := s.command(ctx, bin, name, args...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out.String())
	}
	return nil
}

// address returns the address of a database.
func (s *Server) address(name string) string {
	address := "postgres://appliance@/" + name + "?host=" + s.dir + "&sslmode=disable"
	if s.port != 0 {
		address += "&port=" + strconv.Itoa(s.port)
	}
	return address
}

// await waits until the server answers.
func (s *Server) await(ctx context.Context) error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		c, err := pgx.Connect(ctx, s.address("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		if time.Since(began) > time.Minute {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log")) // which explains it, or is not there
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, log)
		}
	}
}

// Database makes a database, a copy of another one or, with "", an empty one, and returns its name
// and address.
func (s *Server) Database(ctx context.Context, template string) (name, address string, err error) {
	c, err := pgx.Connect(ctx, s.address("postgres"))
	if err != nil {
		return "", "", err
	}
	defer c.Close(ctx)
	s.mu.Lock()
	s.made++
	name = fmt.Sprint("test", s.made)
	s.mu.Unlock()
	if template == "" {
		template = "template0"
	}
	_, err = c.Exec(ctx, fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, name, template))
	return name, s.address(name), err
}

// Template makes a database that Database copies, with what fill makes in it, and returns its name.
func (s *Server) Template(ctx context.Context, fill func(ctx context.Context, address string) error) (name string, err error) {
	name, address, err := s.Database(ctx, "")
	if err != nil {
		return "", err
	}
	return name, fill(ctx, address)
}

// Drop removes a database.
func (s *Server) Drop(ctx context.Context, name string) error {
	c, err := pgx.Connect(ctx, s.address("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`)
	return err
}

// Stop stops the server and removes its files.
func (s *Server) Stop() error {
	if s.serve != nil && s.serve.Process != nil {
		if err := s.serve.Process.Signal(syscall.SIGQUIT); err != nil {
			return err
		}
		_ = s.serve.Wait() // which reports the signal
	}
	return os.RemoveAll(s.dir)
}
