package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// firstOptions name the appliance that is to be followed.
type firstOptions struct {
	credentials, ca string
	users, force    bool
}

// addFlags adds the flags, each with a prefix.
func (o *firstOptions) addFlags(f *pflag.FlagSet, prefix string) {
	pathVar(f, &o.credentials, prefix+"credentials", "", "file whose first line is USER:PASSWORD of an administrator there, - for standard input")
	pathVar(f, &o.ca, prefix+"ca", "", "PEM file of the CA of its certificate (default: the CAs of this host)")
	f.BoolVar(&o.users, prefix+"users", false, "copy its users and their passwords too, in the place of those here")
	f.BoolVar(&o.force, prefix+"force", false, "remove what this registry has and that one has not")
}

type followOptions struct {
	askOptions
	firstOptions
	dryRun, stop bool
}

func newFollowCommand(std stdio) *cobra.Command {
	var o followOptions
	c := &cobra.Command{
		Use:   "follow https://HOST:PORT --credentials FILE | follow --stop",
		Short: "Have the registry on this host be a copy of another one",
		Long: `Have the registry on this host be a copy of another appliance: it becomes equal to that, follows each of its changes,
serves pulls, and takes no changes of its own until appliance promote. What it has and the other one has not is listed,
and removed only with --force; appliance status shows how far behind it is.

With --stop it becomes a registry of its own again, with what it has; the other one stays what it is. To take the place
of the other one use appliance promote instead.`,
		Example: `  printf 'init:%s\n' "$PASSWORD" | appliance follow https://first.example.com:8443 --credentials - --ca rootCA.pem
  appliance follow https://first.example.com:8443 --credentials FILE --dry-run`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runFollow(c.Context(), std, o, args) },
	}
	o.askOptions.addFlags(c.Flags())
	o.firstOptions.addFlags(c.Flags(), "")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "only check, and show what would come and go")
	c.Flags().BoolVar(&o.stop, "stop", false, "follow no more")
	return c
}

func runFollow(ctx context.Context, std stdio, o followOptions, args []string) error {
	if o.stop {
		if len(args) > 0 {
			return hint.New(errors.New("--stop needs no address"), "appliance follow --stop")
		}
		_, err := askDaemon(ctx, std, &o.askOptions, func(control *client.Client) (api.Family, error) {
			return control.StopFollowing(ctx)
		}, func(w io.Writer, _ api.Family) {
			fmt.Fprintln(w, "this registry follows no other any more, and takes changes")
		})
		return err
	}
	if len(args) == 0 {
		return hint.New(errors.New("the address of the appliance to follow is missing"), api.FollowCommand("HOST:PORT"))
	}
	q, err := o.request(ctx, std, args[0])
	if err != nil {
		return err
	}
	q.DryRun = o.dryRun
	_, err = askDaemon(ctx, std, &o.askOptions, func(control *client.Client) (api.Followed, error) {
		return control.Follow(ctx, q)
	}, func(w io.Writer, a api.Followed) { printFollowed(w, q, a) })
	return err
}

// request reads what the flags name.
func (o *firstOptions) request(ctx context.Context, std stdio, address string) (api.FollowRequest, error) {
	q := api.FollowRequest{Users: o.users, Force: o.force}
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "https" || at.Hostname() == "" || strings.Trim(at.Path, "/") != "" || at.User != nil || at.RawQuery != "" {
		return q, hint.New(errors.New("what is to be followed is not an address of the form https://HOST:PORT"), "for example https://first.example.com:8443; the login is in the file of --credentials")
	}
	q.Address = at.Host
	if at.Port() == "" {
		q.Address = net.JoinHostPort(at.Hostname(), "443")
	}
	if q.User, q.Password, err = o.login(ctx, std); err != nil {
		return q, err
	}
	if o.ca != "" {
		text, err := regular.ReadFile(o.ca)
		if err != nil {
			return q, hint.New(fmt.Errorf("the CA: %w", err), "name a PEM file, such as https://"+q.Address+"/ca.crt")
		}
		q.CA = string(text)
	}
	return q, nil
}

// login returns the user and the password of the file.
func (o *firstOptions) login(ctx context.Context, std stdio) (user, password string, err error) {
	const next = "write USER:PASSWORD of an administrator of that appliance into a file that only you can read, and name it with --credentials"
	line := ""
	switch o.credentials {
	case "":
		return "", "", hint.New(errors.New("--credentials is missing"), next)
	case "-":
		if line, err = readPassword(ctx, std.in); err != nil {
			return "", "", err
		}
	default:
		text, err := regular.ReadFile(o.credentials)
		if err != nil {
			return "", "", hint.New(fmt.Errorf("--credentials: %w", err), next)
		}
		if info, err := os.Stat(o.credentials); err == nil && info.Mode().Perm()&0o007 != 0 {
			fmt.Fprintln(std.err, "warning: other users of this host may read the password in "+plain.Line(o.credentials)+"; chmod o= that file")
		}
		line, _, _ = strings.Cut(string(text), "\n")
		line = strings.TrimSuffix(line, "\r")
	}
	user, password, ok := strings.Cut(line, ":")
	if !ok || user == "" || password == "" {
		return "", "", hint.New(errors.New("the first line of --credentials is not USER:PASSWORD"), next)
	}
	return user, password, nil
}

func printFollowed(w io.Writer, q api.FollowRequest, a api.Followed) {
	for _, warning := range a.Warnings {
		fmt.Fprintln(w, "warning:", plain.Line(warning))
	}
	fmt.Fprintf(w, "new from https://%s: %s\n", q.Address, count(a.Compared.Coming, "tag"))
	if n := a.Compared.Going; n > 0 {
		fmt.Fprintf(w, "tags and images removed or replaced here: %d\n", n)
		for _, one := range a.Compared.First {
			fmt.Fprintln(w, " ", plain.Line(one))
		}
		if more := n - len(a.Compared.First); more > 0 {
			fmt.Fprintf(w, "  and %d more\n", more)
		}
		if q.DryRun && !q.Force {
			fmt.Fprintln(w, "to follow it nevertheless, add --force; a backup before keeps what goes: "+typed("appliance backup DIR"))
		}
	}
	if q.DryRun {
		fmt.Fprintln(w, "dry run: nothing has been changed")
	} else {
		fmt.Fprintf(w, "this registry follows https://%s; how far it is: %s\n", q.Address, typed("appliance status"))
	}
}
