package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/mirror-appliance/appliance/installer/remote"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/home"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// remoteOptions are the host on which a command is carried out; the names of most are mirror-registry's.
type remoteOptions struct {
	host, user, key, jump string
	become, askPassword   bool
	autoApprove           bool // not where the command has a flag of this name
	typed                 typedFlags
}

// remoteFlags are the flags of remoteOptions.
var remoteFlags = []string{"targetHostname", "targetUsername", "ssh-key", "jump", "become", "askBecomePass"}

// sentFiles are the flags whose value is a file of this host, wherever the command is carried out.
var sentFiles = []string{"sslCert", "sslKey", "initPasswordFile", "follow-credentials", "follow-ca"}

// onOtherHosts lets a command be carried out on another host. Its caller has declared all other
// flags of the command. Nothing else in a command knows of it.
func onOtherHosts(c *cobra.Command, std stdio, o *remoteOptions) {
	f := c.Flags()
	if f.Lookup("autoApprove") == nil {
		f.BoolVar(&o.autoApprove, "autoApprove", false, "do not ask")
	}
	f.VisitAll(func(flag *pflag.Flag) {
		flag.Value = &typedValue{Value: flag.Value, name: flag.Name, to: &o.typed}
	})
	f.StringVarP(&o.host, "targetHostname", "H", "", "host to work on, over SSH: a name, an alias of ~/.ssh/config, HOST:PORT (default: this host)")
	f.StringVarP(&o.user, "targetUsername", "u", "", "user to log in as there (default: as ~/.ssh/config has it, or the name of the user here)")
	f.StringVarP(&o.key, "ssh-key", "k", "", "private key to log in with (default "+remote.DefaultKey+", those of ~/.ssh/config, the ssh agent)")
	f.StringVarP(&o.jump, "jump", "J", "", "hosts to go through: [USER@]HOST[:PORT],...")
	f.BoolVar(&o.become, "become", false, "work there as root, by a sudo that asks for no password")
	f.BoolVar(&o.askPassword, "askBecomePass", false, "the same, and ask for the password of sudo")
	c.Annotations = map[string]string{remotely: ""}
	here := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := noEmptyValue(c, "targetHostname", "targetUsername", "ssh-key", "jump"); err != nil {
			return err
		}
		local, err := o.local(std)
		switch {
		case err != nil:
			return err
		case local && o.typed.failed != nil:
			return o.typed.failed
		case local:
			return here(c, args)
		}
		return o.run(c.Context(), std, remote.Request{Command: c.Name(), Flags: o.typed.all, Args: args})
	}
}

// remotely is an annotation of the commands that onOtherHosts was called for.
const remotely = "remotely"

// typedFlags are the flags of a command line, as they were typed: ~ and relative paths are those of
// the host on which the command is carried out.
type typedFlags struct {
	all    []remote.Flag
	failed error // of a path that does not exist here, as ~user
}

type typedValue struct {
	pflag.Value
	name string
	to   *typedFlags
}

func (v *typedValue) Set(s string) error {
	v.to.all = append(v.to.all, remote.Flag{Name: v.name, Value: s})
	err := v.Value.Set(s)
	if errors.Is(err, home.ErrNone) {
		v.to.failed = errors.Join(v.to.failed, err)
		return nil
	}
	return err
}

// name is what the user calls the host by a name that others may use too, or empty.
func (o *remoteOptions) name() string {
	if o.host == "localhost" || net.ParseIP(o.host) != nil {
		return ""
	}
	return o.host
}

// local reports whether the command is to be carried out on this host, by this process.
func (o *remoteOptions) local(std stdio) (bool, error) {
	if std.far {
		return true, nil
	}
	self := ""
	if u, err := user.Current(); err == nil {
		self = u.Username
	}
	name, _ := os.Hostname() // then it is not this host's
	this := o.host == "" || slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, o.host) || strings.EqualFold(o.host, name)
	if !this || o.jump != "" && o.host != "" || o.user != "" && o.user != self {
		if o.host == "" {
			o.host = "localhost" // as mirror-registry does: another user of this host
		}
		return false, nil
	}
	switch {
	case o.jump != "":
		return false, hint.New(errors.New("--jump is for another host"), "name that with --targetHostname")
	case o.become || o.askPassword:
		return false, hint.New(errors.New("--become and --askBecomePass are for another host (--targetHostname)"),
			"here, run the command with sudo, which asks by itself")
	case o.key != "":
		fmt.Fprintln(std.err, "note: --ssh-key changes nothing: the command is carried out on this host")
	}
	return true, nil
}

// run has the command carried out on the other host.
func (o *remoteOptions) run(ctx context.Context, std stdio, r remote.Request) error {
	to := remote.Target{Host: o.host, User: o.user, Jump: o.jump}
	if o.key != "" {
		key, err := expandPath(o.key)
		if err != nil {
			return err
		}
		to.Key = key
	}
	for _, f := range o.typed.all {
		to.Accept = to.Accept || f.Name == "autoApprove" && f.Value != "false"
	}
	switch {
	case o.askPassword:
		to.Become = remote.SudoPassword
	case o.become:
		to.Become = remote.Sudo
	}
	name, err := to.Name()
	if err != nil {
		return err
	}
	if r.Flags, err = withFiles(r.Flags); err != nil {
		return err
	}
	r.Flags = append(r.Flags, remote.Flag{Name: "targetHostname", Value: name})
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the running program: %w", err)
	}
	code, err := remote.Run(ctx, to, remote.Program{Version: version, Path: self, Command: remoteCommand}, r, console(std, o.host))
	if err == nil && code != 0 {
		return &saidError{code: code}
	}
	return err
}

// withFiles adds the content of the file to each flag that names one of this host.
func withFiles(flags []remote.Flag) ([]remote.Flag, error) {
	flags = slices.Clone(flags)
	for i, f := range flags {
		if !slices.Contains(sentFiles, f.Name) || f.Value == "-" || f.Value == "" {
			continue
		}
		path, err := expandPath(f.Value)
		if err != nil {
			return nil, err
		}
		text, err := regular.ReadFile(strings.TrimPrefix(path, "file://"))
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", f.Name, err)
		}
		flags[i].File = append([]byte{}, text...) // an empty file is one
	}
	return flags, nil
}

// console returns the terminal, or the pipes in its place.
func console(std stdio, name string) remote.Console {
	answers := bufio.NewReader(std.in)
	say := nowAndThen(std.err)
	return remote.Console{
		Out: std.out, Err: std.err,
		Confirm: func(ctx context.Context, question string) error {
			yes, err := agrees(ctx, std.err, answers, question)
			if err == nil && !yes {
				err = errors.New("the answer was no")
			}
			return err
		},
		Secret: func(ctx context.Context, prompt string) (string, error) {
			if terminal, ok := std.in.(*os.File); ok && term.IsTerminal(int(terminal.Fd())) {
				return ask(ctx, std.err, terminal, prompt)
			}
			line, err := readLine(ctx, answers)
			if err != nil {
				return "", hint.New(fmt.Errorf("%s%w", prompt, err), "there is no terminal to ask on: give it as a line of standard input")
			}
			return line, nil
		},
		Line: func(ctx context.Context) (string, error) { return readLine(ctx, answers) },
		Copying: func(done, total int64) {
			say("copying the program to %s: %s of %s", name, bytesOf(done), bytesOf(total))
		},
	}
}
