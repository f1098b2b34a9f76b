// Package remote runs a command of this program on another host over SSH.
//
// Use Run where a person types the command, and Serve in the command that Run starts there. Run
// copies this program, in the build for the host's architecture, into a directory of its own,
// checks its hash, and starts it. The command with its flags goes to the program's standard input,
// where no other user sees it; what it prints, asks and ends with comes back as lines of JSON
// (wire.go). The program removes its copy when it ends.
//
// The command is the same one, flags and all, as if it had been typed there: a new one needs
// nothing here. Standard input that ends, or is silent for a minute, ends the command as a signal
// does, so that a connection that breaks leaves nothing half done.
//
// Refused: SFTP, which sshd need not have switched on; a tree of steps that are run from here by
// SSH, since a connection that breaks would leave it in the middle; ProxyCommand, which is a line
// for a shell. The remote shell gets fixed commands of ours, with a directory that it has named
// and a hash in them, and nothing that a user has typed.
package remote

import (
	"context"
	"fmt"
	"io"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Target is a host and the way to it. Empty fields are taken from ~/.ssh/config, and then from the
// defaults of ssh(1).
type Target struct {
	Host   string // name, address or alias of ~/.ssh/config, with or without :PORT
	User   string
	Key    string // file of a private key, and no other key is tried; empty: DefaultKey as well
	Jump   string // hosts to go through, as ssh -J has them: [USER@]HOST[:PORT],…
	Become Become
	Accept bool // accept and record the key of a host that is not known

	ssh *settings
}

// DefaultKey is where mirror-registry keeps its key.
const DefaultKey = "~/.ssh/quay_installer"

// Become is how the command gets root's rights.
type Become int

const (
	AsLogin      Become = iota // it does not, unless the user of the login is root
	Sudo                       // by sudo, which asks for no password
	SudoPassword               // by sudo, whose password Console.Secret asks for
)

// Console is the terminal at which the command was typed.
type Console struct {
	Out, Err io.Writer
	// Confirm asks a question and returns an error unless the answer is yes.
	Confirm func(ctx context.Context, question string) error
	// Secret asks for a line that is not shown.
	Secret func(ctx context.Context, prompt string) (string, error)
	// Line returns the next line of standard input without its end, or io.EOF.
	Line func(ctx context.Context) (string, error)
	// Copying is called while the program is copied.
	Copying func(done, total int64)
}

// Program is this program.
type Program struct {
	Version string
	Path    string // os.Executable()
	Command string // the word for the command that calls Serve
}

// Run runs a command on a host and returns its exit code, which is not valid with an error.
func Run(ctx context.Context, to Target, p Program, r Request, c Console) (code int, err error) {
	if err := to.load(c.Err); err != nil {
		return 0, err
	}
	h, err := dial(ctx, &to, c)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	return h.carryOut(ctx, p, r)
}

// Name is the name of the host for its clients: HostName of ~/.ssh/config, unless that is an
// address, or else what the user has typed.
func (to *Target) Name() (string, error) {
	if err := to.load(io.Discard); err != nil {
		return "", err
	}
	return to.ssh.name(to.Host), nil
}

// carryOut brings the program to the host and runs it.
func (h *host) carryOut(ctx context.Context, p Program, r Request) (int, error) {
	arch, err := h.architecture(ctx)
	if err != nil {
		return 0, err
	}
	program, err := open(p.Path, arch)
	if err != nil {
		return 0, fmt.Errorf("%s is %s: %w", h.name, arch, err)
	}
	defer program.Close()
	dir, err := h.bring(ctx, program)
	if err != nil {
		return 0, err
	}
	code, started, err := h.start(ctx, dir, p, r)
	if !started {
		_, _ = h.output(context.WithoutCancel(ctx), `rm -rf "`+dir+`"`) // it is removed a day later otherwise
	}
	return code, err
}

func lost(name string, err error) error {
	return hint.New(fmt.Errorf("the connection to %s was lost: %w", name, err),
		"the command there takes back what it did, or completes it; run the same command again, which completes either")
}
