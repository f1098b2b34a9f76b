package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

// keepEvery is how often the connection that writes is looked at, when nothing is written.
const keepEvery = 5 * time.Second

// keeper has the connection that writes, and with it the lock of the database, be there while nothing is written: after a
// restart of the server another process could take the database from one that is only read.
type keeper struct {
	stop context.CancelFunc
	over chan struct{}
	lost atomic.Pointer[ownedError] // another process has the database
}

func (db *DB) keep(every time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	db.keeper.stop, db.keeper.over = stop, make(chan struct{})
	go func() {
		defer close(db.keeper.over)
		for retry.Sleep(ctx, every) == nil {
			if db.writer.Stats().InUse == 0 { // else it is there
				db.reconnect(ctx)
			}
		}
	}()
}

// reconnect connects again if the connection is lost. A server that does not answer is for Check to find.
func (db *DB) reconnect(ctx context.Context) {
	ctx, end := context.WithTimeout(ctx, 2*lockTimeout)
	defer end()
	err := db.writer.PingContext(ctx)
	var owned *ownedError
	if errors.As(err, &owned) {
		if db.keeper.lost.Swap(owned) == nil {
			db.server.log.Error("the database is not this appliance's any more", "error", owned, "hint", owned.Hint())
		}
	} else if err == nil {
		db.keeper.lost.Store(nil)
	}
}

func (db *DB) stopKeeping() {
	if db.keeper.stop != nil {
		db.keeper.stop()
		<-db.keeper.over
	}
}
