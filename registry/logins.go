package registry

import (
	"context"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

const (
	// useEvery is how often the use of a shared login is written.
	useEvery = time.Minute
	// sweepEvery is how often the shared logins that are over are removed.
	sweepEvery = time.Hour
)

// logins returns where the sessions of the console are kept: several daemons share them.
func (d *daemon) logins() auth.Logins {
	if !d.store.Several() {
		return auth.NewMemory()
	}
	return sharedLogins{d.store.Shared().Logins}
}

// sweepShared removes the shared logins that are over, and old results, until ctx ends.
func (d *daemon) sweepShared(ctx context.Context) error {
	if !d.store.Several() {
		return nil
	}
	return every(ctx, time.Minute, sweepEvery, func() {
		if err := d.store.Shared().Work.Sweep(ctx); err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "old results of work on request could not be removed", "error", err)
		}
		used, began := auth.LoginsOver(time.Now())
		if err := d.store.Shared().Logins.Sweep(ctx, used, began); err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "the logins of the console that are over could not be removed", "error", err)
		}
	})
}

// sharedLogins has the authenticator, which knows no store, keep logins in rows.
type sharedLogins struct{ rows *sharedrows.Logins }

func (s sharedLogins) Add(ctx context.Context, l auth.LoginRecord, most auth.LoginLimits) error {
	return s.rows.Add(ctx, sharedrows.Login{Token: l.Token[:], User: l.User, Password: l.Password[:], Notice: l.Notice, Began: l.Began, Used: l.Used}, most.User, most.All)
}

func (s sharedLogins) Get(ctx context.Context, token auth.LoginToken) (auth.LoginRecord, bool, error) {
	row, err := s.rows.Get(ctx, token[:])
	if err != nil || row == nil {
		return auth.LoginRecord{}, false, err
	}
	l := auth.LoginRecord{Token: token, User: row.User, Notice: row.Notice, Began: row.Began, Used: row.Used}
	copy(l.Password[:], row.Password)
	return l, true, nil
}

func (s sharedLogins) Use(ctx context.Context, l auth.LoginRecord, at time.Time) error {
	if at.Sub(l.Used) < useEvery {
		return nil
	}
	return s.rows.Use(ctx, l.Token[:], at)
}

func (s sharedLogins) SetNotice(ctx context.Context, token auth.LoginToken, notice string) error {
	return s.rows.SetNotice(ctx, token[:], notice)
}

func (s sharedLogins) End(ctx context.Context, token auth.LoginToken) error {
	return s.rows.End(ctx, token[:])
}
