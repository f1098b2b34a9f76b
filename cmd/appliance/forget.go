package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newForgetCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "forget https://HOST:PORT|ID",
		Short: "Forget another registry that does not come back: a follower, or one that this one has replaced",
		Long: `Forget another registry that does not come back.

Of a follower, the changes that are kept for it are dropped. If it asks again, it is registered again and compares everything; to end
that, type appliance follow --stop on its host.

Of one that this one has replaced by appliance promote --force, and that has not confirmed it: this one does not try to
tell it any more, and status, doctor, metrics and console do not warn of it. Should that host ever start again, it is
told only if it asks; otherwise it takes changes. So destroy its data, or have it be a copy before a client reaches it:
appliance follow.

appliance status lists both kinds.`,
		Example: "  appliance forget https://first.example.com:8443",
		Args:    takes(1, "the address of one registry, as appliance status shows it"),
		RunE:    func(c *cobra.Command, args []string) error { return runForgetOther(c.Context(), std, o, args[0]) },
	}
	o.addFlags(c.Flags())
	return c
}

// forgotten is the answer of the command.
type forgotten struct {
	api.Other
	Warning string `json:"warning"`
}

func runForgetOther(ctx context.Context, std stdio, o askOptions, which string) error {
	_, err := askDaemon(ctx, std, &o, func(control *client.Client) (forgotten, error) {
		status, err := control.Status(ctx)
		if err != nil {
			return forgotten{}, err
		}
		followers, err := control.Followers(ctx)
		if err != nil {
			return forgotten{}, err
		}
		one, err := otherOf(status.Family.Others(followers), which)
		if err == nil {
			err = control.RemoveFollower(ctx, one.ID)
		}
		return forgotten{one, one.Forgotten(status.Address)}, err
	}, func(w io.Writer, f forgotten) {
		fmt.Fprintf(w, "https://%s is forgotten\n", plain.Line(f.Address))
		fmt.Fprintln(w, "warning:", plain.Line(f.Warning))
	})
	return err
}

// otherOf returns the appliance with an address, or an id.
func otherOf(all []api.Other, which string) (api.Other, error) {
	address := strings.TrimSuffix(strings.TrimPrefix(which, "https://"), "/")
	var found []api.Other
	var known []string
	for _, one := range all {
		if one.ID == which || strings.EqualFold(one.Address, address) {
			found = append(found, one)
		}
		what := "a follower"
		if one.Untold {
			what = "not told yet"
		}
		known = append(known, fmt.Sprintf("%s (%s, %s)", one.ID, one.Address, what))
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return api.Other{}, hint.New(fmt.Errorf("%d registries are known at https://%s", len(found), address), "name one by its id: appliance forget ID; they are "+strings.Join(known, ", "))
	case len(known) == 0:
		return api.Other{}, hint.New(fmt.Errorf("no registry follows this one, and none is to be told that it takes changes: %s is none to forget", which), "see the role: appliance status")
	}
	return api.Other{}, hint.New(fmt.Errorf("%s does not follow this registry, and is not to be told that it takes changes", which), "known are "+strings.Join(known, ", "))
}
