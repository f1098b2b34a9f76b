package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// newPassword asks twice on a terminal, or reads one line.
func newPassword(ctx context.Context, std stdio, fromStdin bool, name string) (string, error) {
	if fromStdin {
		return readPassword(ctx, std.in)
	}
	terminal, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", hint.New(errors.New("there is no terminal to ask for a password on"),
			"pass it with --password-stdin")
	}
	first, err := ask(ctx, std.err, terminal, "Password for "+name+": ")
	if err != nil {
		return "", err
	}
	second, err := ask(ctx, std.err, terminal, "Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

// passphrase asks for that of a key on the terminal: the one of the process, where standard input is
// something else.
func passphrase(ctx context.Context, std stdio, prompt string) (string, error) {
	terminal, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		own, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return "", hint.New(errors.New("there is no terminal to ask for its passphrase on"), "add the key to the ssh agent: ssh-add")
		}
		defer own.Close()
		terminal = own
	}
	return ask(ctx, std.err, terminal, prompt)
}

// ask reads a line that is not shown. term.ReadPassword was refused: a signal does not end it, and
// the terminal stays without echo if the process ends instead.
func ask(ctx context.Context, w io.Writer, terminal *os.File, prompt string) (string, error) {
	fd := int(terminal.Fd())
	shown, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	hidden := *shown
	hidden.Lflag = hidden.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, shown) }() // of a terminal that was there a moment ago
	fmt.Fprint(w, prompt)
	line, err := readLine(ctx, bufio.NewReader(terminal))
	fmt.Fprintln(w)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return line, nil
}

// readPassword reads one line; what comes after it is not ours.
func readPassword(ctx context.Context, r io.Reader) (string, error) {
	line, err := readLine(ctx, bufio.NewReader(io.LimitReader(r, 4096)))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	if line == "" {
		return "", hint.New(errors.New("no password on standard input"),
			"for example: printf %s \"$PASSWORD\" | appliance …")
	}
	if strings.HasPrefix(line, "\ufeff") {
		return "", hint.New(errors.New("the password on standard input begins with a byte order mark (BOM)"),
			"the file it comes from was saved as UTF-8 with a BOM: save it without")

	}
	return line, nil
}

// consent asks whether something is to be removed.
func consent(ctx context.Context, w io.Writer, answers *bufio.Reader, question string) error {
	yes, err := agrees(ctx, w, answers, question)
	if err == nil && !yes {
		err = errors.New("nothing has been removed: the answer was no")
	}
	return err
}

// agrees asks a question whose answer is no unless it says yes.
func agrees(ctx context.Context, w io.Writer, answers *bufio.Reader, question string) (bool, error) {
	fmt.Fprintf(w, "%s [y/N] ", question)
	line, err := readLine(ctx, answers)
	if err != nil {
		fmt.Fprintln(w)
	}
	if errors.Is(err, io.EOF) {
		return false, hint.New(errors.New("there is nobody to ask on standard input"), "--autoApprove consents to everything")
	}
	if err != nil {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// readLine reads a line, the last one also if it does not end. io.EOF says that there is none.
func readLine(ctx context.Context, r *bufio.Reader) (string, error) {
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // a read of a terminal knows no context: if that ends first, this waits until the process ends
		line, err := r.ReadString('\n')
		answers <- answer{line, err}
	}()
	select {
	case a := <-answers:
		if a.err == io.EOF && a.line != "" {
			a.err = nil
		}
		return strings.TrimRight(a.line, "\r\n"), a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
