package database

import "context"

type userKey struct{}

// WithUser returns a context whose writes count as those of a user: users take turns at the one
// writer. Without it they count as those of the daemon.
func WithUser(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, userKey{}, name)
}

// User returns the user of WithUser.
func User(ctx context.Context) string {
	name, _ := ctx.Value(userKey{}).(string)
	return name
}
