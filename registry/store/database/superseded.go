package database

import (
	"fmt"
	"time"
)

// Server is a server of PostgreSQL. Its standbys have the same cluster, and each promotion of one begins a higher timeline.
type Server struct {
	Cluster  string // its system identifier; "": it does not tell
	Timeline int64
}

func (s Server) String() string {
	return fmt.Sprintf("system identifier %s, timeline %d", s.Cluster, s.Timeline)
}

// Precedes reports whether another server of the same cluster was promoted after this one.
func (s Server) Precedes(other Server) bool {
	return s.Cluster == other.Cluster && s.Timeline < other.Timeline
}

// SupersededError reports that a database went on at another server than the one that this process uses.
type SupersededError struct {
	Here Server
	By   Server
	// Host used it there first, since a time, as a note at a place of the storage has it.
	Host  string
	Since time.Time
	Place string
}

func (e *SupersededError) Error() string {
	there := fmt.Sprintf("is used since %s by host %s (%s)", e.Since.Format(time.RFC3339), e.Host, e.Place)
	if e.Here.Precedes(e.By) {
		return fmt.Sprintf("it is an old primary with timeline %d; one with timeline %d %s", e.Here.Timeline, e.By.Timeline, there)
	}
	return fmt.Sprintf("it has %s, and the blobs are those of a database at another one: %s %s", e.Here, e.By, there)
}

// Hint returns the next step.
func (e *SupersededError) Hint() string {
	if e.Here.Precedes(e.By) {
		return "stop the old primary, and have it follow the new one (pg_rewind, pg_basebackup); if it is the one to go on with, stop the new one, remove " + e.Place + " and restart the appliance"
	}
	return "let `database:` in config.yaml name that one; if it is never used again, since this one was made of it (pg_restore, pg_upgrade), remove " + e.Place + " and restart the appliance"
}
