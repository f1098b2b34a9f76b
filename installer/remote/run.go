package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// run is the program on the host, which runs.
type run struct {
	*host
	session *ssh.Session
	in      lineWriter
	stdin   io.Closer
	errs    *errorOutput
}

// prompt is the question of sudo for the password. No message of sudo has it.
const prompt = "appliance-password:"

// commandLine returns what the host is asked to run. No secret is in it.
func (h *host) commandLine(dir string, p Program) string {
	line := `"` + dir + `/appliance" ` + p.Command
	switch h.to.Become {
	case Sudo:
		line = "sudo -n -H " + line
	case SudoPassword: // the prompt has no line end, by which it is known
		line = `sudo -S -H -p ` + prompt + ` ` + line
	}
	return shell("exec " + line)
}

// start runs the program in dir; started reports whether it has answered, and so removes itself at
// the end.
func (h *host) start(ctx context.Context, dir string, p Program, req Request) (code int, started bool, err error) {
	password := ""
	if h.to.Become == SudoPassword {
		if password, err = h.console.Secret(ctx, "Password for sudo on "+h.name+": "); err != nil {
			return 0, false, err
		}
	}
	session, err := h.NewSession()
	if err != nil {
		return 0, false, lost(h.name, err)
	}
	defer session.Close()
	r := &run{host: h, session: session}
	stdin, err := session.StdinPipe()
	if err != nil {
		return 0, false, err
	}
	r.in.w, r.stdin = stdin, stdin
	stdout, err := session.StdoutPipe()
	if err != nil {
		return 0, false, err
	}
	r.errs = &errorOutput{to: h.console.Err, password: password, stdin: stdin}
	session.Stderr = r.errs
	if err := session.Start(h.commandLine(dir, p)); err != nil {
		return 0, false, h.failed(ctx, err, "")
	}
	lines := bufio.NewReaderSize(stdout, 64<<10)
	if err := r.hello(ctx, lines, p.Version); err != nil {
		return 0, false, err
	}
	if err := r.in.write(req); err != nil {
		return 0, false, err
	}
	code, err = r.follow(ctx, lines)
	return code, true, err
}

// hello waits for the program. What a shell prints before is not for us.
func (r *run) hello(ctx context.Context, lines *bufio.Reader, version string) error {
	defer r.closeWith(ctx, r.session)()
	for {
		text, err := readLine(lines)
		if err != nil {
			return r.notStarted(ctx, firstError(r.end(err), err))
		}
		var line fromTarget
		if json.Unmarshal(text, &line) != nil || line.Version == "" {
			continue
		}
		r.errs.begun()
		if line.Version != version {
			return fmt.Errorf("the program that was copied to %s is version %s, and this one is %s", r.name, line.Version, version)
		}
		return nil
	}
}

// notStarted returns the reason for which there was no first line.
func (r *run) notStarted(ctx context.Context, err error) error {
	said := strings.ReplaceAll(r.errs.said(), prompt, "")
	if r.errs.refusedPassword() {
		return errors.New("sudo on " + r.name + " does not take the password")
	}
	err = r.failed(ctx, err, said)
	switch {
	case ctx.Err() != nil || r.to.Become == AsLogin:
		return err
	case r.user == "root":
		return hint.New(err, "the login is root's already: leave sudo out (--become)")
	case r.to.Become == SudoPassword:
		return hint.New(err, "have sudo allow it to that user, or log in as root (--targetUsername root)")
	case strings.Contains(said, "password"):
		return hint.New(err, "--askBecomePass asks for the password of sudo")
	}
	return hint.New(err, "log in as root (--targetUsername root), or leave out --become to work as the user of the login")
}

// follow passes on what the command prints and asks, until it ends.
func (r *run) follow(ctx context.Context, lines *bufio.Reader) (int, error) {
	incoming := make(chan fromTarget)
	ended := make(chan error, 1)
	asking, cancel := context.WithCancel(ctx)
	var answers sync.WaitGroup
	defer answers.Wait()
	defer cancel()
	go func() { ended <- readLines(lines, incoming) }()
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go r.beat(beating)
	exit, interrupted := (*int)(nil), ctx.Done()
	for {
		select {
		case line := <-incoming:
			if line.Exit != nil {
				exit = line.Exit
				_ = r.stdin.Close() // it reads no more
			}
			r.print(line)
			if line.Ask {
				answers.Go(func() { r.answer(asking) })
			}
		case <-interrupted:
			interrupted = nil
			_ = r.in.write(toTarget{Interrupt: true}) // if it cannot be told, it has ended
		case err := <-ended:
			if exit != nil {
				return *exit, nil
			}
			return 0, lost(r.name, firstError(err, r.end(err), io.ErrUnexpectedEOF))
		}
	}
}

// beat shows the host that the connection stands, also while the terminal here is stopped.
func (r *run) beat(ctx context.Context) {
	pulse := time.NewTicker(alive)
	defer pulse.Stop()
	for {
		select {
		case <-pulse.C:
			_ = r.in.write(toTarget{}) // if it cannot be told, it has ended
		case <-ctx.Done():
			return
		}
	}
}

// end waits for the end of the command after reading its lines has ended with an error, or nil for
// their end, and returns how it ended.
func (r *run) end(err error) error {
	if err != nil && !errors.Is(err, io.EOF) {
		_ = r.session.Close() // it may go on writing what is not for us
	}
	return r.session.Wait()
}

// readLines reads to the end, also after an interrupt, since an interrupted command prints what it took back.
func readLines(lines *bufio.Reader, to chan<- fromTarget) error {
	for {
		text, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var line fromTarget
		if err := json.Unmarshal(text, &line); err != nil {
			return fmt.Errorf("a line that is not of the program: %w", err)
		}
		to <- line
	}
}

func (r *run) print(line fromTarget) {
	if line.Out != "" {
		_, _ = io.WriteString(r.console.Out, line.Out)
	}
	if line.Err != "" {
		_, _ = io.WriteString(r.console.Err, line.Err)
	}
	if line.Confirm {
		_ = r.in.write(toTarget{Shown: true}) // it counts as not shown otherwise
	}
}

// answer gives the command the next line of standard input.
func (r *run) answer(ctx context.Context) {
	line, err := r.console.Line(ctx)
	if err != nil {
		_ = r.in.write(toTarget{End: true}) // if it cannot be told, it has ended
		return
	}
	_ = r.in.write(toTarget{Line: &line})
}

// errorOutput is standard error of the host: until the program has begun, that of a shell and of
// sudo, whose question for the password is answered once.
type errorOutput struct {
	mu       sync.Mutex // guards what follows
	to       io.Writer
	running  bool
	early    bytes.Buffer
	password string
	stdin    io.WriteCloser
	asked    int
}

func (e *errorOutput) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running {
		return e.to.Write(p)
	}
	if e.early.Len() < 64<<10 {
		e.early.Write(p)
	}
	if e.password != "" && bytes.HasSuffix(bytes.TrimRight(p, " "), []byte(":")) { // a question
		if e.asked++; e.asked == 1 {
			_, _ = io.WriteString(e.stdin, e.password+"\n") // if it has ended, that is an error below
		} else {
			_ = e.stdin.Close()
		}
	}
	return len(p), nil
}

// begun passes on from now on.
func (e *errorOutput) begun() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = true
}

func (e *errorOutput) said() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.early.String()
}

func (e *errorOutput) refusedPassword() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked > 1
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
