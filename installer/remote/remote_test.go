package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// The program of these tests, which a host runs too, is the test's own.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "remote-run" {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // as the real program does
		if err := Serve(context.Background(), os.Stdin, os.Stdout, "test", toy); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// toy is a command with the name and flags of a request.
func toy(ctx context.Context, r Request, s Streams) int {
	value := func(name string) string {
		for _, f := range r.Flags {
			if f.Name == name {
				return f.Value
			}
		}
		return ""
	}
	switch r.Command {
	case "print":
		fmt.Fprintf(s.Out, "%v %v of %d in %v\n", r.Flags, r.Args, os.Geteuid(), os.Args)
		fmt.Fprintln(s.Err, "a note")
		return 3
	case "where":
		self, _ := os.Executable()
		fmt.Fprint(s.Out, self)
	case "ask":
		text, err := io.ReadAll(s.In)
		fmt.Fprintf(s.Out, "%q %v\n", text, err)
	case "file":
		text, err := os.ReadFile(value("sslKey"))
		info, _ := os.Stat(value("sslKey"))
		fmt.Fprintf(s.Out, "%s is %s, %v, %v\n", value("sslKey"), text, info.Mode(), err)
	case "garbage":
		fmt.Println("not a line of ours")
		<-ctx.Done()
	case "show":
		fmt.Fprintf(s.Out, "shown: %v\n", s.Shown())
	case "wait":
		fmt.Fprintln(s.Out, "waiting")
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond)
		if f := value("log"); f != "" {
			_ = os.WriteFile(f, []byte(context.Cause(ctx).Error()), 0o600)
		}
		fmt.Fprintln(s.Err, "taken back")
		return 1
	}
	return 0
}

// pipes runs Serve with a request and what follows it, and returns all lines that it wrote.
func pipes(t *testing.T, in string) (out string, err error) {
	t.Helper()
	var b strings.Builder
	err = Serve(t.Context(), strings.NewReader(in), &b, "test", toy)
	return b.String(), err
}

func TestServe_requestIsReadStrictly(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":             "",
		"not JSON":            "install\n",
		"another field":       `{"command":"print","shell":"sh"}` + "\n",
		"two values":          `{"command":"print"}{"command":"print"}` + "\n",
		"cut off":             `{"command":"pri`,
		"longer than allowed": strings.Repeat("x", maxLine+1<<17),
	} {
		if out, err := pipes(t, in); err == nil || strings.Contains(out, "exit") || strings.Contains(out, "out") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestServe_inputThatEndsEndsTheCommand(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	out, err := pipes(t, `{"command":"wait","flags":[{"name":"log","value":"`+log+`"}]}`+"\n")
	text, _ := os.ReadFile(log)
	if err != nil || string(text) != errCutOff.Error() || !strings.Contains(out, `{"exit":1}`) {
		t.Errorf("%v, its reason is %q\n%s", err, text, out)
	}
}

func TestServe_silenceEndsTheCommand(t *testing.T) {
	in, w := io.Pipe()
	defer w.Close()
	go func() { _, _ = io.WriteString(w, `{"command":"wait"}`+"\n"+`{}`+"\n") }()
	var out strings.Builder
	s := &served{out: lineWriter{w: &out}, lines: make(chan string), shown: make(chan struct{}, 1), silence: 50 * time.Millisecond}
	if err := s.serve(t.Context(), in, "test", toy); err != nil || !strings.Contains(out.String(), "taken back") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestServe_filesAreRemoved(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	out, err := pipes(t, `{"command":"file","flags":[{"name":"sslKey","value":"/my/own.key","file":"c2VjcmV0"}]}`+"\n")
	if err != nil || !strings.Contains(out, "/my/own.key is secret, -rw-------") {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOpen_namesTheBuildThatIsMissing(t *testing.T) {
	dir := t.TempDir()
	self := filepath.Join(dir, "appliance")
	other := "s390x"
	if runtime.GOARCH == other {
		other = "ppc64le"
	}
	_, err := open(self, other)
	if err == nil || !strings.Contains(hint.Of(err), "appliance-linux-"+other) || !strings.Contains(hint.Of(err), "appliance-"+other) {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(test, filepath.Join(dir, "appliance-"+other)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(self, other); err == nil || !strings.Contains(err.Error(), "is not a program for "+other) {
		t.Errorf("a build of ours for %s: %v", other, err)
	}
	text, err := os.ReadFile(test)
	if err != nil {
		t.Fatal(err)
	}
	other = "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	binary.LittleEndian.PutUint16(text[18:], uint16(elfMachines[other])) // e_machine
	for _, name := range []string{"appliance-" + other, "appliance-linux-" + other} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := open(self, other)
		if err != nil || filepath.Base(p.Name()) != name {
			t.Fatalf("%s is not taken: %v", name, err)
		}
		p.Close()
	}
	p, err := open(test, runtime.GOARCH)
	if err != nil || p.size == 0 || len(p.hash) != 64 {
		t.Fatalf("this program: %v", err)
	}
	p.Close()
}

func TestIsCopy(t *testing.T) {
	for path, want := range map[string]bool{
		"/root/.appliance-remote.aB3dE6gH/appliance": true,
		"/usr/local/bin/appliance":                   false,
		"/root/.appliance-remote./appliance":         false,
		`/root/".appliance-remote.a/appliance`:       false,
		"/a\n/.appliance-remote.a/appliance":         false,
	} {
		if IsCopy(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}

const sshConfig = `Host box
  HostName registry.example.com
  Port 2022
  User admin
  ProxyJump one@jump:23,two
Host raw
  HostName 192.0.2.7
  HostKeyAlias raw.example.com
Host cmd
  ProxyCommand nc %h %p
Host jump
  User other
  HostName 192.0.2.1
`

func TestTarget_readsTheConfigurationOfSSH(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, ".ssh"), 0o700), os.WriteFile(filepath.Join(dir, ".ssh", "config"), []byte(sshConfig), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to         Target
		route, err string
		name       string
	}{
		{to: Target{Host: "box"}, route: "one@192.0.2.1:23 two:22 admin@registry.example.com:2022", name: "registry.example.com"},
		{to: Target{Host: "box:22", User: "root", Jump: "x@[fd00::1]:24"}, route: "x@[fd00::1]:24 root@registry.example.com:22", name: "registry.example.com"},
		{to: Target{Host: "me@raw"}, route: "me@192.0.2.7:22", name: "raw"},
		{to: Target{Host: "ssh://me@raw:24/"}, route: "me@192.0.2.7:24", name: "raw"},
		{to: Target{Host: "ssh://raw", User: "u"}, route: "u@192.0.2.7:22", name: "raw"},
		{to: Target{Host: "raw", User: "u", Jump: "ssh://a@raw"}, route: "a@192.0.2.7:22 u@192.0.2.7:22", name: "raw"},
		{to: Target{Host: "raw", User: "u"}, route: "u@192.0.2.7:22", name: "raw"},
		{to: Target{Host: "cmd", User: "u"}, err: "ProxyCommand", name: "cmd"},
		{to: Target{Host: "cmd", User: "u", Jump: "none"}, route: "u@cmd:22", name: "cmd"},
		{to: Target{Host: "-oProxyCommand=x"}, err: "is not a host"},
		{to: Target{Host: "fd00::2", User: "u"}, route: "u@[fd00::2]:22", name: "fd00::2"},
	} {
		name, err := c.to.Name()
		if err != nil || c.name != "" && name != c.name {
			t.Errorf("%v is called %q, %v", c.to, name, err)
		}
		hops, err := c.to.route()
		var route []string
		for _, h := range hops {
			if h.alias == "two" {
				// with the name of the user that runs the test
				route = append(route, h.address)
				continue
			}
			route = append(route, h.user+"@"+h.address)
		}
		if got := strings.Join(route, " "); got != c.route || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("to %s:\n%s, %v, want\n%s, %q", c.to.Host, got, err, c.route, c.err)
		}
	}
}
