//go:build e2e

package remote

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// sshd is OpenSSH's server on loopback, as an ordinary process, and a user with a home directory of
// its own, logging in as root.
type sshd struct {
	t       *testing.T
	dir     string
	home    string
	port    string
	before  []string // copies that other runs have left
	process *exec.Cmd
}

func newSSHD(t *testing.T) *sshd {
	t.Helper()
	s := &sshd{t: t, dir: t.TempDir(), home: t.TempDir(), before: copies()}
	t.Setenv("HOME", s.home)
	t.Setenv("SSH_AUTH_SOCK", "")
	must(t, os.MkdirAll("/run/sshd", 0o755)) // as its unit does
	must(t, os.Mkdir(filepath.Join(s.home, ".ssh"), 0o700))
	s.key("host", "")
	s.key("user", "")
	s.authorize("user")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	must(t, l.Close())
	s.write(filepath.Join(s.dir, "sshd_config"), "Port "+s.port+"\nListenAddress 127.0.0.1\nHostKey "+s.file("host")+
		"\nAuthorizedKeysFile "+s.file("authorized")+"\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n")
	s.start()
	return s
}

func (s *sshd) file(name string) string { return filepath.Join(s.dir, name) }

func (s *sshd) write(path, text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(path, []byte(text), 0o600))
}

func (s *sshd) start() {
	s.t.Helper()
	var log bytes.Buffer
	s.process = exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", s.file("sshd_config"))
	s.process.Stderr = &log
	must(s.t, s.process.Start())
	s.t.Cleanup(s.stop)
	for range 200 {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.stop()
	s.t.Fatalf("sshd does not answer: %s", log.String())
}

func (s *sshd) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// key makes a key pair, and returns the private one.
func (s *sshd) key(name, passphrase string) ed25519.PrivateKey {
	s.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(s.t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	must(s.t, err)
	s.write(s.file(name), string(pem.EncodeToMemory(block)))
	public, err := ssh.NewPublicKey(private.Public())
	must(s.t, err)
	s.write(s.file(name+".pub"), string(ssh.MarshalAuthorizedKey(public)))
	return private
}

func (s *sshd) authorize(name string) {
	s.t.Helper()
	public, err := os.ReadFile(s.file(name + ".pub"))
	must(s.t, err)
	s.write(s.file("authorized"), string(public))
}

// withHome gives commands another home directory, by a shell that prints something before.
func (s *sshd) withHome(dir string) {
	s.t.Helper()
	public, err := os.ReadFile(s.file("user.pub"))
	must(s.t, err)
	s.write(s.file("authorized"), `command="echo hello; HOME=`+dir+`; export HOME; eval \"$SSH_ORIGINAL_COMMAND\"" `+string(public))
}

func (s *sshd) target() Target {
	return Target{Host: "127.0.0.1:" + s.port, User: "root", Key: s.file("user"), Accept: true}
}

// person answers questions.
type person struct {
	mu     sync.Mutex // guards what follows
	out    bytes.Buffer
	asked  []string
	answer error
	secret string
	lines  []string
	seen   chan struct{} // closed when something is printed
	once   sync.Once
}

func (p *person) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen != nil && bytes.Contains(b, []byte("waiting")) {
		p.once.Do(func() { close(p.seen) })
	}
	return p.out.Write(b)
}

func (p *person) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *person) console() Console {
	return Console{
		Out: p, Err: p,
		Confirm: func(_ context.Context, q string) error { p.asked = append(p.asked, q); return p.answer },
		Secret: func(_ context.Context, q string) (string, error) {
			p.asked = append(p.asked, q)
			return p.secret, nil
		},
		Line: func(context.Context) (string, error) {
			if len(p.lines) == 0 {
				return "", io.EOF
			}
			line := p.lines[0]
			p.lines = p.lines[1:]
			return line, nil
		},
	}
}

func (s *sshd) run(ctx context.Context, to Target, r Request, p *person) (int, error) {
	s.t.Helper()
	self, err := os.Executable()
	must(s.t, err)
	return Run(ctx, to, Program{Version: "test", Path: self, Command: "remote-run"}, r, p.console())
}

// nothingLeft fails if a copy of the program is left anywhere.
func (s *sshd) nothingLeft() {
	s.t.Helper()
	var left []string
	for range 100 {
		if left = copies(); slices.Equal(left, s.before) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Errorf("left behind: %v, before %v", left, s.before)
}

func copies() (all []string) {
	for _, dir := range []string{"/root", "/var/tmp", "/tmp", "/opt"} {
		found, _ := filepath.Glob(filepath.Join(dir, copied+"*"))
		all = append(all, found...)
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRun_asIfItWereHere(t *testing.T) {
	s := newSSHD(t)
	for name, c := range map[string]struct {
		r     Request
		lines []string
		code  int
		want  string
	}{
		"output and exit code": {Request{Command: "print", Flags: []Flag{{Name: "a", Value: "it's \"$HOME\" !\n"}}, Args: []string{"x y"}}, nil, 3, "[{a it's \"$HOME\" !\n []}] [x y] of 0 in [/root/.appliance-remote."},
		"both outputs":         {Request{Command: "print"}, nil, 3, "a note\n"},
		"standard input":       {Request{Command: "ask"}, []string{"yes", "no"}, 0, `"yes\nno\n" <nil>`},
		"a file of this host":  {Request{Command: "file", Flags: []Flag{{Name: "sslKey", Value: "my.key", File: []byte("secret")}}}, nil, 0, "my.key is secret, -rw-------, <nil>"},
		"a result is shown":    {Request{Command: "show"}, nil, 0, "shown: <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &person{lines: c.lines}
			code, err := s.run(t.Context(), s.target(), c.r, p)
			if err != nil || code != c.code || !strings.Contains(p.said(), c.want) {
				t.Errorf("exit code %d, %v:\n%s", code, err, p.said())
			}
		})
	}
	s.nothingLeft()
	t.Run("the program is copied to where programs can be run", func(t *testing.T) {
		home := t.TempDir()
		must(t, exec.Command("mount", "-t", "tmpfs", "-o", "noexec", "none", home).Run())
		t.Cleanup(func() { _ = exec.Command("umount", home).Run() })
		s.withHome(home)
		p := &person{}
		if code, err := s.run(t.Context(), s.target(), Request{Command: "where"}, p); err != nil || code != 0 || !strings.Contains(p.said(), "/var/tmp/"+copied) {
			t.Errorf("exit code %d, %v:\n%s", code, err, p.said())
		}
		s.authorize("user")
	})
	s.nothingLeft()
}

func TestRun_hostKeys(t *testing.T) {
	s := newSSHD(t)
	to := s.target()
	to.Accept = false
	known := filepath.Join(s.home, ".ssh", "known_hosts")
	where := Request{Command: "where"}

	p := &person{answer: errors.New("the answer was no")}
	if _, err := s.run(t.Context(), to, where, p); err == nil || !strings.Contains(err.Error(), "SHA256:") || !strings.Contains(hint.Of(err), "--autoApprove") {
		t.Errorf("an unknown key that is not accepted: %v", err)
	}
	if _, err := os.Stat(known); err == nil || len(p.asked) != 1 || !strings.Contains(p.asked[0], "SHA256:") {
		t.Errorf("asked %q; recorded: %v", p.asked, err == nil)
	}
	p = &person{}
	if _, err := s.run(t.Context(), to, where, p); err != nil || len(p.asked) != 1 {
		t.Errorf("an unknown key that is accepted: %v, asked %q", err, p.asked)
	}
	p = &person{}
	if _, err := s.run(t.Context(), to, where, p); err != nil || len(p.asked) != 0 {
		t.Errorf("a known key: %v, asked %q", err, p.asked)
	}
	out, err := exec.Command("ssh", "-F", "none", "-i", s.file("user"), "-p", s.port, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile="+known, "root@127.0.0.1", "true").CombinedOutput()
	if err != nil {
		t.Errorf("ssh does not know what was recorded: %v\n%s", err, out)
	}

	s.stop()
	s.key("host", "")
	s.start()
	for _, accept := range []bool{false, true} {
		to.Accept, p = accept, &person{}
		_, err := s.run(t.Context(), to, where, p)
		if err == nil || !strings.Contains(err.Error(), "is not the known one") || !strings.Contains(err.Error(), known+":1") || !strings.Contains(hint.Of(err), "ssh-keygen -R '[127.0.0.1]:"+s.port+"'") || len(p.asked) != 0 {
			t.Errorf("a changed key, accept %v: %v, hint %q, asked %q", accept, err, hint.Of(err), p.asked)
		}
	}
	must(t, os.Remove(known))
	to.Accept, p = true, &person{}
	if _, err := s.run(t.Context(), to, where, p); err != nil || len(p.asked) != 0 || !strings.Contains(p.said(), "is accepted") {
		t.Errorf("--autoApprove: %v, asked %q\n%s", err, p.asked, p.said())
	}
	if info, err := os.Stat(known); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("--autoApprove has recorded %v, %v", info, err)
	}
}

func TestRun_keys(t *testing.T) {
	s := newSSHD(t)
	where := Request{Command: "where"}
	s.key("locked", "a passphrase")
	stranger := s.target()
	s.key("stranger", "")
	stranger.Key = s.file("stranger")
	if _, err := s.run(t.Context(), stranger, where, &person{}); err == nil || !strings.Contains(err.Error(), "takes none of the keys") || !strings.Contains(hint.Of(err), "--ssh-key") {
		t.Errorf("a key that is not authorized: %v, hint %q", err, hint.Of(err))
	}
	to := s.target()
	must(t, os.Chmod(s.file("user"), 0o644))
	if _, err := s.run(t.Context(), to, where, &person{}); err == nil || !strings.Contains(hint.Of(err), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	to.Key = s.file("absent")
	if _, err := s.run(t.Context(), to, where, &person{}); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("a key that is not there: %v", err)
	}
	to.Key = ""
	if _, err := s.run(t.Context(), to, where, &person{}); err == nil || !strings.Contains(err.Error(), "no key to log in") {
		t.Errorf("no key at all: %v", err)
	}
	text, err := os.ReadFile(s.file("user"))
	must(t, err)
	s.write(filepath.Join(s.home, ".ssh", "quay_installer"), string(text))
	if code, err := s.run(t.Context(), to, where, &person{}); err != nil || code != 0 {
		t.Errorf("the key of mirror-registry: %v", err)
	}

	s.authorize("locked")
	to.Key = s.file("locked")
	p := &person{secret: "a passphrase"}
	if _, err := s.run(t.Context(), to, where, p); err != nil || len(p.asked) != 1 || !strings.Contains(p.asked[0], s.file("locked")) {
		t.Errorf("an encrypted key: %v, asked %q", err, p.asked)
	}
	if _, err := s.run(t.Context(), to, where, &person{secret: "another"}); err == nil || !strings.Contains(err.Error(), "decrypt") {
		t.Errorf("a wrong passphrase: %v", err)
	}
}

func TestRun_agent(t *testing.T) {
	s := newSSHD(t)
	private := s.key("locked", "a passphrase")
	s.authorize("locked")
	socket := s.file("agent")
	c := exec.Command("ssh-agent", "-D", "-a", socket)
	must(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	var conn net.Conn
	var err error
	for range 100 {
		if conn, err = net.Dial("unix", socket); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	must(t, err)
	defer conn.Close()
	must(t, agent.NewClient(conn).Add(agent.AddedKey{PrivateKey: &private}))
	t.Setenv("SSH_AUTH_SOCK", socket)
	for _, key := range []string{"", s.file("locked")} {
		to, p := s.target(), &person{}
		to.Key = key
		if _, err := s.run(t.Context(), to, Request{Command: "where"}, p); err != nil || len(p.asked) != 0 {
			t.Errorf("with the key %q: %v, asked %q", key, err, p.asked)
		}
	}
}

func TestRun_throughAJumpHostByAlias(t *testing.T) {
	between, s := newSSHD(t), newSSHD(t)
	s.write(filepath.Join(s.home, ".ssh", "config"), fmt.Sprintf("Host far\n  HostName 127.0.0.1\n  Port %s\n  User root\n  IdentityFile %s\n  ProxyJump between\n"+
		"Host between\n  HostName 127.0.0.1\n  HostKeyAlias between\n  Port %s\n  User root\n  IdentityFile %s\n", s.port, s.file("user"), between.port, between.file("user")))
	p := &person{}
	code, err := s.run(t.Context(), Target{Host: "far", Accept: true}, Request{Command: "print"}, p)
	if err != nil || code != 3 || !strings.Contains(p.said(), "of 0 in") {
		t.Errorf("exit code %d, %v\n%s", code, err, p.said())
	}
	between.stop()
	if _, err := s.run(t.Context(), Target{Host: "far", Accept: true}, Request{Command: "print"}, p); err == nil || !strings.Contains(err.Error(), "jump host between") {
		t.Errorf("a jump host that does not answer: %v", err)
	}
	s.nothingLeft()
}

func TestRun_interrupted(t *testing.T) {
	s := newSSHD(t)
	if _, err := s.run(t.Context(), s.target(), Request{Command: "garbage"}, &person{}); err == nil || !strings.Contains(err.Error(), "not of the program") {
		t.Errorf("a line that is not of the program: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := &person{seen: make(chan struct{})}
	go func() { <-p.seen; cancel() }()
	code, err := s.run(ctx, s.target(), Request{Command: "wait"}, p)
	if err != nil || code != 1 || !strings.Contains(p.said(), "taken back") {
		t.Errorf("exit code %d, %v\n%s", code, err, p.said())
	}
	s.nothingLeft()
}

// cable is one connection to sshd, for tests that cut it.
func (s *sshd) cable(limit int64) (address string, cut func()) {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.t, err)
	s.t.Cleanup(func() { _ = l.Close() })
	ends := make(chan [2]net.Conn, 1)
	go func() {
		a, errA := l.Accept()
		b, errB := net.Dial("tcp", "127.0.0.1:"+s.port)
		if errA != nil || errB != nil {
			return
		}
		ends <- [2]net.Conn{a, b}
		go func() { _, _ = io.Copy(a, b) }()
		_, _ = io.CopyN(b, a, limit)
		_, _ = a.Close(), b.Close()
	}()
	return l.Addr().String(), func() {
		for _, c := range <-ends {
			_ = c.Close()
		}
	}
}

func TestRun_cutOffWhileTheProgramIsCopied(t *testing.T) {
	s := newSSHD(t)
	to, p := s.target(), &person{}
	to.Host, _ = s.cable(3 << 20)
	_, err := s.run(t.Context(), to, Request{Command: "print"}, p)
	if err == nil || !strings.Contains(err.Error(), "was lost") || p.said() != "" && !strings.Contains(p.said(), "is accepted") {
		t.Errorf("%v\n%s", err, p.said())
	}
	s.nothingLeft()
}

func TestRun_copyIsVerified(t *testing.T) {
	s := newSSHD(t)
	to, p := s.target(), &person{}
	must(t, to.load(p))
	h, err := dial(t.Context(), &to, p.console())
	must(t, err)
	defer h.Close()
	self, err := os.Executable()
	must(t, err)
	program, err := open(self, runtime.GOARCH)
	must(t, err)
	defer program.Close()
	program.hash = strings.Repeat("0", 64)
	if _, err := h.bring(t.Context(), program); err == nil || !strings.Contains(err.Error(), "as it was sent") {
		t.Errorf("a copy with another hash: %v", err)
	}
	s.nothingLeft()
	_, err = Run(t.Context(), to, Program{Version: "another", Path: self, Command: "remote-run"}, Request{Command: "print"}, p.console())
	if err == nil || !strings.Contains(err.Error(), "is version test, and this one is another") {
		t.Errorf("another version: %v", err)
	}
	s.nothingLeft()
}

func TestRun_installedProgramIsNotCopied(t *testing.T) {
	s := newSSHD(t)
	s.withHome(s.home)
	bin := filepath.Join(s.home, ".local", "bin")
	must(t, os.MkdirAll(bin, 0o755))
	self, err := os.Executable()
	must(t, err)
	text, err := os.ReadFile(self)
	must(t, err)
	for name, want := range map[string]bool{"the same": false, "another": true} {
		if must(t, os.WriteFile(filepath.Join(bin, "appliance"), text, 0o755)); want {
			must(t, os.WriteFile(filepath.Join(bin, "appliance"), text[:len(text)-1], 0o755))
		}
		p, copied := &person{}, false
		c := p.console()
		c.Copying = func(int64, int64) { copied = true }
		code, err := Run(t.Context(), s.target(), Program{Version: "test", Path: self, Command: "remote-run"}, Request{Command: "where"}, c)
		if err != nil || code != 0 || copied != want || !strings.Contains(p.said(), s.home+"/.appliance-remote.") {
			t.Errorf("%s: copied %v, exit code %d, %v\n%s", name, copied, code, err, p.said())
		}
	}
}

// A connection that is lost ends the command there.
func TestRun_cutOff(t *testing.T) {
	s := newSSHD(t)
	log := s.file("log")
	p := &person{seen: make(chan struct{})}
	address, cut := s.cable(1 << 40)
	go func() { <-p.seen; cut() }()
	to := s.target()
	to.Host = address
	_, err := s.run(t.Context(), to, Request{Command: "wait", Flags: []Flag{{Name: "log", Value: log}}}, p)
	if err == nil || !strings.Contains(err.Error(), "was lost") || !strings.Contains(hint.Of(err), "same command again") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
	s.nothingLeft()
	if text, err := os.ReadFile(log); string(text) != errCutOff.Error() {
		t.Errorf("the command was told %q, %v", text, err)
	}
}
