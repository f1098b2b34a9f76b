package transfer

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// unfinishedError reports that a database is the target of a copy that has not ended.
type unfinishedError struct {
	Database string
	mark     mark
}

func (e *unfinishedError) Error() string {
	return fmt.Sprintf("database %s is the target of a copy of %s that has not ended: it lacks content", e.Database, e.mark.From)
}

// Hint returns the next step.
func (e *unfinishedError) Hint() string {
	return "let the copy end: " + hint.Words("appliance", "store", "copy", "--from", e.mark.Config, "--to", e.mark.To) +
		"; to give it up, remove database and blobs of the target, and serve the source"
}

// ServingError reports that the blobs are copied, and that the source has to be stopped for the rest.
type ServingError struct{ Err error }

func (e *ServingError) Error() string {
	return fmt.Sprintf("the blobs are copied; the rest needs the source stopped: %v", e.Err)
}

func (e *ServingError) Unwrap() error { return e.Err }

// Hint returns the next step.
func (e *ServingError) Hint() string {
	return "stop the source (systemctl stop appliance.socket appliance), then type the same command again: it copies what has come since, and the rows"
}

// ExitCode tells it from a failure.
func (e *ServingError) ExitCode() int { return 2 }

// contentError reports that the target has content that a copy would destroy.
type contentError struct{ what, next string }

func (e *contentError) Error() string { return e.what }

// Hint returns the next step.
func (e *contentError) Hint() string { return e.next }

// DamagedError reports blobs of the source that are missing or damaged.
type DamagedError struct {
	Config string // of the source
	Total  int64
	Blobs  []Damaged // the first of them
}

// Damaged is a damaged blob.
type Damaged struct {
	Digest digest.Digest
	What   string
}

// damagedListed is how many damaged blobs are named.
const damagedListed = 10

func (e *DamagedError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d blobs of the source cannot be copied, all others are:", e.Total)
	for _, b := range e.Blobs {
		fmt.Fprintf(&text, "\n  %s: %s", b.Digest, b.What)
	}
	if more := e.Total - int64(len(e.Blobs)); more > 0 {
		fmt.Fprintf(&text, "\n  and %d more", more)
	}
	return text.String()
}

// Hint returns the next step.
func (e *DamagedError) Hint() string {
	return hint.Words("appliance", "scrub", "--config", e.Config) + " fetches them again where it can, and takes the others out of service; then type the same command again"
}
