package api

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
)

// The parameters of GetChanges.
var (
	ForFollower  = Parameter{Name: "follower", Text: "the id of the follower", Type: "string", Required: true}
	SincePoint   = Parameter{Name: "since", Text: "the position up to which the follower has saved the changes", Type: "string", Required: true}
	ChangesLimit = Parameter{Name: "limit", Text: "how many changes to return at most", Type: "integer"}
	ChangesWait  = Parameter{Name: "wait", Text: "how many seconds to wait for a change if there is none, at most 60. A follower that waits shows all that came up to since; one that does not show it yet gives none", Type: "integer"}
)

// MaxWait bounds the seconds for which GetChanges waits.
const MaxWait = 60

const (
	maxFollower   = 200 // bytes of an id, an address or a token
	maxFollowerCA = 32 << 10
)

// NewFollower registers an appliance that follows this one, or changes what is known of it.
type NewFollower struct {
	ID      string `json:"id"`
	Address string `json:"address"`      // host:port
	CA      string `json:"ca,omitempty"` // PEM, none: the CAs of the system
	Token   string `json:"token"`        // with which this appliance asks it
	Users   bool   `json:"users"`        // it gets the accounts, with the hashes of their passwords
	// Position is where it has read to. None begins a list of all.
	Position string `json:"position,omitempty"`
}

// Check returns an error unless the request can be granted.
func (f NewFollower) Check() error {
	for _, text := range []string{f.ID, f.Address, f.Token} {
		if text == "" || len(text) > maxFollower || text != plain.Line(text) {
			return hint.New(errors.New("the follower needs an id, an address and a token, of at most 200 characters each"), "see NewFollower in /api/v1/openapi.json")
		}
	}
	if len(f.CA) > maxFollowerCA {
		return hint.New(errors.New("the CA of the follower is too long"), "send the certificate of the CA alone, as PEM")
	}
	return nil
}

// RegisteredFollower tells a follower where to read on.
type RegisteredFollower struct {
	Position string `json:"position"`
}

// Follower is an appliance that follows this one.
type Follower struct {
	ID      string    `json:"id"`
	Address string    `json:"address"`
	Users   bool      `json:"users"`
	Started time.Time `json:"started"` // when it registered
	Seen    time.Time `json:"seen"`    // when it asked last, to the minute
	Changes int       `json:"changes"` // that it does not show yet, at most 100000; with relist or listing: tags and manifests to compare
	Relist  bool      `json:"relist"`  // it was too far behind, and will list all again
	Listing bool      `json:"listing"` // it lists all, and does not show that yet
}

// Changes are a part of the feed.
type Changes struct {
	Changes []Change `json:"changes"`
	Next    string   `json:"next"` // the position after it
	// CaughtUp says that what came up to here is all that the registry has. Only then a follower shows it.
	CaughtUp bool `json:"caughtUp"`
	Left     int  `json:"left"` // changes after it, at most 100000
}

// Change is a thing that has changed.
type Change struct {
	// Kind is manifest, blob, tag, user, cluster or note.
	Kind       string `json:"kind"`
	Repository string `json:"repository,omitempty"`
	Name       string `json:"name"` // the digest, tag, name or id
	// State is how it is now, none if it is gone: of a manifest its mediaType where it names none itself, how it came
	// (pulled: 0 by a push or a run, 1 by pull-through, 2 pinned), when (linked), the blobs that are here if it was pulled
	// through, and its origins; of a tag its digest; of a user its role, grants and passwordHash; of a cluster what it has
	// told of itself and the manifests that it needs; of a note its value.
	State json.RawMessage `json:"state,omitempty"`
}
