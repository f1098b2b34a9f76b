package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type userOptions struct {
	locateOptions
	role          string
	repositories  []string
	passwordStdin bool
	output        string
}

func newUserCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "user",
		Short: "Who may log in, and what they may do",
		Long: `Who may log in, and what they may do. A role is one of

  pull     read images
  push     read, write and delete images
  admin    all of that, and the control API

Passwords are asked for, or read from standard input with --password-stdin; never given as arguments.`,
		Args: noSuchCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var o userOptions
	o.locateOptions.addFlags(c.PersistentFlags())
	add := &cobra.Command{
		Use: "add NAME --role pull|push|admin", Short: "Create a user", Args: takes(1, "the name of one user"),
		RunE: func(c *cobra.Command, args []string) error { return runUserAdd(c.Context(), std, o, args[0]) },
	}
	add.Flags().StringVar(&o.role, "role", "", "pull, push or admin")
	addPatternsFlag(add.Flags(), "repository", &o.repositories,
		"only these repositories: openshift/release, or openshift/* for all below; may be repeated (default all)")
	add.Flags().BoolVar(&o.passwordStdin, "password-stdin", false, "read the password from standard input")
	passwd := &cobra.Command{
		Use: "passwd NAME", Short: "Give a user another password", Args: takes(1, "the name of one user"),
		RunE: func(c *cobra.Command, args []string) error { return runUserPasswd(c.Context(), std, o, args[0]) },
	}
	passwd.Flags().BoolVar(&o.passwordStdin, "password-stdin", false, "read the password from standard input")
	role := &cobra.Command{
		Use: "role NAME ROLE", Short: "Give a user another role", Args: takes(2, "the name of one user and a role"),
		RunE: func(c *cobra.Command, args []string) error {
			return changeUser(c.Context(), std, o, args[0], api.UserChange{Role: args[1]})
		},
	}
	grant := &cobra.Command{
		Use:   "grant NAME [--repository PATTERN]...",
		Short: "Say which repositories a user may see; without --repository all",
		Args:  takes(1, "the name of one user"),
		RunE: func(c *cobra.Command, args []string) error {
			patterns := o.repositories
			if patterns == nil {
				patterns = []string{image.All}
			}
			return changeUser(c.Context(), std, o, args[0], api.UserChange{Repositories: &patterns})
		},
	}
	addPatternsFlag(grant.Flags(), "repository", &o.repositories, "openshift/release, or openshift/* for all below; may be repeated")
	list := &cobra.Command{
		Use: "list", Short: "List the users", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return runUserList(c.Context(), std, o) },
	}
	addOutputFlag(list.Flags(), &o.output)
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Remove a user", Args: takes(1, "the name of one user"),
		RunE: func(c *cobra.Command, args []string) error { return runUserRemove(c.Context(), std, o, args[0]) },
	}
	c.AddCommand(add, passwd, role, grant, list, remove)
	return c
}

// addPatternsFlag adds a flag that may be repeated, and may have several patterns with commas
// between them. Each is checked: an empty variable of a script must not grant all repositories.
func addPatternsFlag(f *pflag.FlagSet, name string, to *[]string, usage string) {
	f.Func(name, usage, func(s string) error {
		patterns := strings.Split(s, ",")
		if err := image.CheckPatterns(patterns); err != nil {
			return fmt.Errorf("%w: %s", err, hint.Of(err))
		}
		*to = append(*to, patterns...)
		return nil
	})
}

func runUserAdd(ctx context.Context, std stdio, o userOptions, name string) error {
	if o.role == "" {
		return hint.New(errors.New("--role is missing"), "one of pull, push and admin")
	}
	password, err := newPassword(ctx, std, o.passwordStdin, name)
	if err != nil {
		return err
	}
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		if _, err := control.CreateUser(ctx, api.NewUser{Name: name, Role: o.role,
			Password: password, Repositories: o.repositories}); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "user %s may %s\n", name, o.role)
		return nil
	})
}

func runUserPasswd(ctx context.Context, std stdio, o userOptions, name string) error {
	password, err := newPassword(ctx, std, o.passwordStdin, name)
	if err != nil {
		return err
	}
	return changeUser(ctx, std, o, name, api.UserChange{Password: password})
}

func changeUser(ctx context.Context, std stdio, o userOptions, name string, change api.UserChange) error {
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		user, err := control.ChangeUser(ctx, name, change)
		if err != nil {
			return unknownUser(err)
		}
		printChanged(std.out, user)
		return nil
	})
}

func printChanged(w io.Writer, u api.User) {
	fmt.Fprintf(w, "user %s, role %s: changed\n", plain.Line(u.Name), plain.Line(u.Role))
}

func runUserRemove(ctx context.Context, std stdio, o userOptions, name string) error {
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		if err := control.DeleteUser(ctx, name); err != nil {
			return unknownUser(err)
		}
		fmt.Fprintf(std.out, "user %s removed\n", name)
		return nil
	})
}

func unknownUser(err error) error {
	if errors.Is(err, client.ErrNotFound) {
		return hint.New(err, "appliance user list says which there are")
	}
	return err
}

func runUserList(ctx context.Context, std stdio, o userOptions) error {
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		users, err := control.Users(ctx)
		if err != nil {
			return err
		}
		return show(std.out, o.output, users, printUsers)
	})
}

func printUsers(w io.Writer, users []api.User) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "NAME\tROLE\tCREATED\tREPOSITORIES")
	for _, u := range users {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", plain.Line(u.Name), plain.Line(u.Role),
			u.Created.Format("2006-01-02"), plain.Line(reach(u)))
	}
	_ = t.Flush() // w keeps an error, see output
}

// reach returns which repositories a user's grants reach.
func reach(u api.User) string {
	if len(u.Repositories) == 0 || slices.Contains(u.Repositories, image.All) {
		return "all"
	}
	return strings.Join(u.Repositories, " ")
}
