package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// followed returns what --follow asks for, nil without it.
func (o *installOptions) followed(ctx context.Context, std stdio) (*api.FollowRequest, error) {
	if o.follow == "" {
		if o.first != (firstOptions{}) {
			return nil, hint.New(errors.New("the flags --follow-… need --follow"), "name the appliance with --follow https://HOST:PORT")
		}
		return nil, nil
	}
	if o.first.credentials == "-" && (o.passwordFile == "-" || o.initPassword == "-") {
		return nil, hint.New(errors.New("--follow-credentials and the password of the first user cannot both be read from standard input"), "put one of them into a file")
	}
	q, err := o.first.request(ctx, std, o.follow)
	return &q, err
}

// followFirst makes the appliance that runs now a copy of another, unless it is one already.
func (o *installOptions) followFirst(ctx context.Context, std stdio, q api.FollowRequest) error {
	if o.dryRun {
		fmt.Fprintf(std.out, "then it would follow https://%s\n", q.Address)
		return nil
	}
	at := locateOptions{quayRoot: o.quayRoot}
	err := withDaemon(ctx, &at, func(control *client.Client) error {
		status, err := control.Status(ctx)
		if err != nil || status.Family != nil && status.Family.Follows == q.Address {
			return err
		}
		done, err := control.Follow(ctx, q)
		if err == nil {
			printFollowed(std.out, q, done)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("the appliance is installed and runs, and does not follow https://%s: %w", q.Address, err)
		if hint.Of(err) == "" {
			err = hint.New(err, "repeat that part: "+api.FollowCommand(q.Address))
		}
	}
	return err
}
