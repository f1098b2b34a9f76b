// Package pace holds the one rule for peers that send: content takes as long as it takes, but
// there has to be progress.
//
// A peer that has stopped holds a connection, a file and a goroutine, and a trickle of single bytes
// is a cheap way of holding many, or, from an upstream, a mirror that never ends. So Least bytes
// have to come for each patience that is spent waiting for them. Time spent elsewhere, such as at
// our own disk, is not the peer's.
//
// Refused: a limit for a whole request, which large content over a thin line would pass, and a
// lowest rate over a long time, since a rate says nothing of a peer that sends fast and then hangs.
package pace

import "time"

const (
	// Patience is how long a peer may take for Least bytes, unless something else waits meanwhile.
	Patience = time.Minute
	// Least is how many bytes are progress.
	Least = 4 << 10
)

// Meter adds up how long a peer was waited for since it last made progress. The zero Meter begins.
type Meter struct {
	waited time.Duration
	got    int
}

// Left returns how much of a patience is left.
func (m *Meter) Left(patience time.Duration) time.Duration { return max(patience-m.waited, 0) }

// Took notes that n bytes came after a wait.
func (m *Meter) Took(wait time.Duration, n int) {
	m.waited += wait
	if m.got += n; m.got >= Least {
		*m = Meter{}
	}
}
