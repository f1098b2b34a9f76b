package systemd

import "context"

// EnableLinger keeps a user's services running while the user is not logged in.
func EnableLinger(ctx context.Context, uid int) error { return nil }

// DisableLinger ends what EnableLinger began.
func DisableLinger(ctx context.Context, uid int) error { return nil }

// Linger says whether a user's services run while the user is not logged in.
func Linger(ctx context.Context, uid int) (bool, error) { return false, nil }
