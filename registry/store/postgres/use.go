package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// useTime is how long Options.Use has: other writes wait for a connection meanwhile.
const useTime = 10 * time.Second

// use asks Options.Use about the server of a connection that is to write.
func (s *server) use(ctx context.Context, c *conn) error {
	at := originOf(c.Conn.Conn().PgConn())
	if s.options.Use != nil {
		ctx, end := context.WithTimeout(ctx, useTime)
		defer end()
		err := s.options.Use(ctx, at)
		if errors.As(err, new(*database.UnavailableError)) {
			return err
		}
		if err != nil {
			return &database.UnavailableError{Database: s.name, Next: hint.Of(err), Err: fmt.Errorf("the storage cannot be told which server is used: %w", err)}
		}
	}
	s.writes.Store(&at)
	return nil
}

// Server returns the server that is written.
func (db *DB) Server() database.Server { return *db.server.writes.Load() }

// Supersede ends the connections to servers whose place another one has taken, and makes none to such a server from now on.
func (db *DB) Supersede(by *database.SupersededError) {
	p := db.server.primaries
	p.mu.Lock()
	p.superseded = by
	p.mu.Unlock()
	db.server.watch.leave(p)
}
