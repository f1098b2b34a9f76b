package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/installer"
)

// hesitant types what it is given, and then nothing: the user presses Ctrl-C.
type hesitant struct {
	typed  io.Reader
	signal context.CancelFunc
	never  chan struct{}
}

func newHesitant(t *testing.T, typed string) (context.Context, *hesitant) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := &hesitant{typed: strings.NewReader(typed), signal: cancel, never: make(chan struct{})}
	t.Cleanup(func() { close(h.never) })
	return ctx, h
}

func (h *hesitant) Read(p []byte) (int, error) {
	if n, err := h.typed.Read(p); err == nil {
		return n, nil
	}
	h.signal()
	<-h.never
	return 0, io.EOF
}

func TestPrompt_signal(t *testing.T) {
	ctx, user := newHesitant(t, "half a pass")
	if got, err := readPassword(ctx, user); !errors.Is(err, context.Canceled) {
		t.Errorf("a password is %q, %v", got, err)
	}
	for _, typed := range []string{"", "y\n"} {
		ctx, user := newHesitant(t, typed)
		request := installer.Request{RemoveContent: true}
		if err := approve(ctx, stdio{in: user, out: io.Discard}, &request, "this host", "all images and the database"); !errors.Is(err, context.Canceled) {
			t.Errorf("after %q uninstall goes on: %v", typed, err)
		}
	}
}

func TestApprove(t *testing.T) {
	for typed, want := range map[string]struct {
		goes, content bool
	}{
		"y\ny\n":    {true, true},
		"y\ny":      {true, true},
		"YES\r\nno": {true, false},
		"y\n":       {true, false}, // nobody is there to ask
		"n\n":       {false, false},
		"":          {false, false},
	} {
		request := installer.Request{RemoveContent: true}
		err := approve(t.Context(), stdio{in: strings.NewReader(typed), out: io.Discard}, &request, "this host", "all images and the database")
		if (err == nil) != want.goes || want.goes && request.RemoveContent != want.content {
			t.Errorf("%q: %v, content goes: %v", typed, err, request.RemoveContent)
		}
	}
}

// openTerminal opens a terminal and the end at which its user sits.
func openTerminal(t *testing.T) (terminal, user *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals here: ", err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return terminal, user
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// prompted is told when a prompt is written.
type prompted func(prompt string)

func (f prompted) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

func TestNewPassword_terminal(t *testing.T) {
	terminal, user := openTerminal(t)
	typing := func(words ...string) stdio {
		return stdio{in: terminal, err: prompted(func(prompt string) {
			if !strings.HasSuffix(prompt, ": ") {
				return // the end of the line
			}
			if echoes(t, terminal) {
				t.Errorf("at %q what is typed is shown", prompt)
			}
			if _, err := io.WriteString(user, words[0]+"\n"); err != nil {
				t.Error(err)
			}
			words = words[1:]
		})}
	}
	if got, err := newPassword(t.Context(), typing("long-enough", "long-enough"), false, "init"); err != nil || got != "long-enough" {
		t.Errorf("the password is %q, %v", got, err)
	}
	if got, err := newPassword(t.Context(), typing("long-enough", "other"), false, "init"); err == nil {
		t.Errorf("two that differ give %q", got)
	}
	if !echoes(t, terminal) {
		t.Error("afterwards nothing that is typed is shown")
	}
}

func TestNewPassword_signal(t *testing.T) {
	terminal, user := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	var said bytes.Buffer
	_, err := newPassword(ctx, stdio{in: terminal, err: io.MultiWriter(&said, prompted(func(string) { cancel() }))}, false, "init")
	if !errors.Is(err, context.Canceled) || said.String() != "Password for init: \n" {
		t.Errorf("error is %v; it says %q", err, &said)
	}
	if !echoes(t, terminal) {
		t.Error("afterwards nothing that is typed is shown")
	}
	if _, err := io.WriteString(user, "\n"); err != nil { // for the read that goes on
		t.Fatal(err)
	}
}

func TestPassphrase_terminal(t *testing.T) {
	terminal, user := openTerminal(t)
	std := stdio{in: terminal, err: prompted(func(prompt string) {
		if !strings.HasSuffix(prompt, ": ") {
			return // the end of the line
		}
		if echoes(t, terminal) {
			t.Error("what is typed is shown")
		}
		if _, err := io.WriteString(user, "secret\n"); err != nil {
			t.Error(err)
		}
	})}
	if got, err := passphrase(t.Context(), std, "Passphrase for key: "); err != nil || got != "secret" {
		t.Errorf("the passphrase is %q, %v", got, err)
	}
}
