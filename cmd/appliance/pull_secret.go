package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
)

type pullSecretOptions struct {
	locateOptions
	user          string
	passwordStdin bool
	merge, file   string
}

func newPullSecretCommand(std stdio) *cobra.Command {
	var o pullSecretOptions
	c := &cobra.Command{
		Use:   "credentials [--merge FILE] [-o FILE]",
		Short: "Print the pull secret of this host's registry, or add it to another pull secret",
		Long: `Print the pull secret (JSON) with which clusters and podman pull from the registry of this host: that of the user puller,
which can only read. --user takes the login of another user, whose password is asked for and checked.

--merge adds it to a pull secret, such as that of the vendor, and keeps all that is in it; with -o it is written to a file,
which may be the same one: it is replaced as a whole, and keeps its owner and mode. A new file has the mode 0600.`,
		Example: `  sudo appliance credentials
  sudo appliance credentials --merge ~/pull-secret.json -o ~/merged.json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.passwordStdin && o.user == "" {
				return usageError(c, errors.New("--password-stdin is for --user"))
			}
			return runPullSecret(c.Context(), std, o)
		},
	}
	f := c.Flags()
	o.locateOptions.addFlags(f)
	f.StringVar(&o.user, "user", "", "the login of this user (default "+installer.PullerUser+")")
	f.BoolVar(&o.passwordStdin, "password-stdin", false, "read the password of --user from standard input")
	pathVar(f, &o.merge, "merge", "", "add it to this pull secret")
	pathVar(f, &o.file, "output", "o", "file to write; - is standard output (default)")
	return c
}

func runPullSecret(ctx context.Context, std stdio, o pullSecretOptions) error {
	id, err := o.load()
	if err != nil {
		return err
	}
	secret := []byte("{}")
	if o.merge != "" {
		if secret, err = regular.ReadFile(o.merge); err != nil {
			return fmt.Errorf("--merge %s: %w", o.merge, regular.Reason(err))
		}
	}
	auth, err := o.auth(ctx, std, id)
	if err != nil {
		return err
	}
	logins := map[string]string{}
	for _, address := range id.Config.Addresses() {
		logins[address] = auth
	}
	text, err := cluster.Merge(secret, logins)
	if err != nil {
		return hint.New(fmt.Errorf("--merge %s: %w", o.merge, err), "name the file as the vendor gives it; it is unchanged")
	}
	if o.file == "" || o.file == "-" {
		_, err := std.out.Write(text)
		return err
	}
	if err := replaceOrMake(o.file, text); err != nil {
		return err
	}
	fmt.Fprintln(std.err, "written to", o.file)
	return nil
}

// auth returns the login that goes into the pull secret.
func (o *pullSecretOptions) auth(ctx context.Context, std stdio, id *installer.Identity) (string, error) {
	if o.user != "" && o.user != installer.PullerUser {
		return o.askedAuth(ctx, std, id)
	}
	root := filepath.Dir(filepath.Dir(id.Path))
	file, anew := installer.PullSecretFile(root), "have a new login made, and give it to the clusters: appliance install --quayRoot "+root+"; or name another user: --user NAME"
	text, err := regular.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", hint.New(fmt.Errorf("the login of %s, which install leaves in %s: %w", installer.PullerUser, file, regular.Reason(err)), anew)
	}
	if err != nil {
		return "", hint.New(fmt.Errorf("the login of %s, which install leaves in %s: %w", installer.PullerUser, file, regular.Reason(err)),
			"run the command as the owner of the install (sudo), or name another user: --user NAME")
	}
	auth, err := cluster.AnyAuth(text)
	if err != nil {
		return "", hint.New(fmt.Errorf("%s: %w", file, err), anew)
	}
	switch right, err := installer.CheckAuth(ctx, id.Config, auth); {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		fmt.Fprintln(std.err, "warning: the login was not tried:", err)
	case !right:
		return "", hint.New(fmt.Errorf("the registry refuses the login of %s in %s: the user was removed, or has another password", installer.PullerUser, file), anew)
	}
	return auth, nil
}

// askedAuth returns the login of a user whose password is asked for. The registry has only a hash.
func (o *pullSecretOptions) askedAuth(ctx context.Context, std stdio, id *installer.Identity) (string, error) {
	var password string
	var err error
	terminal, ok := std.in.(*os.File)
	switch {
	case o.passwordStdin:
		password, err = readPassword(ctx, std.in)
	case !ok || !term.IsTerminal(int(terminal.Fd())):
		err = hint.New(errors.New("there is no terminal to ask for a password on"), "pass it with --password-stdin")
	default:
		password, err = ask(ctx, std.err, terminal, "Password of "+o.user+": ")
	}
	if err != nil {
		return "", err
	}
	right, err := installer.CheckLogin(ctx, id.Config, o.user, password)
	if err != nil {
		return "", fmt.Errorf("check the password of %s: %w", o.user, err)
	}
	if !right {
		return "", hint.New(fmt.Errorf("the registry has no user %s with this password", o.user), "appliance user list; appliance user passwd "+o.user)
	}
	return cluster.NewAuth(o.user, password), nil
}

// replaceOrMake replaces a file, or the target of a link, by one with the same owner and mode, or
// makes one that its owner alone can read.
func replaceOrMake(file string, text []byte) error {
	if f, err := openSpecial(file); f != nil || err != nil {
		return writeInto(f, err, text)
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		return replaceAlike(real, text)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.tmp") // mode 0600
	if err != nil {
		return hint.New(fmt.Errorf("write %s: %w", file, regular.Reason(err)), "name a file in a directory that exists and that you may write to")
	}
	return durable.WriteFile(file, tmp, text)
}
