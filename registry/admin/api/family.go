package api

import (
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Family is what an appliance is among those that have the same content.
type Family struct {
	ID      string `json:"id"`      // of the appliance
	Lineage string `json:"lineage"` // the same in all that may follow or replace each other
	// Role is primary, follower or superseded. Only a primary takes changes of content.
	Role       string    `json:"role"`
	Since      time.Time `json:"since"`             // of the role
	Generation int64     `json:"generation"`        // each promotion makes the next one
	Primary    string    `json:"primary,omitempty"` // its host:port, as far as this appliance knows
	PrimaryID  string    `json:"primaryID,omitempty"`
	Promoting  bool      `json:"promoting,omitempty"` // a promotion of this appliance has begun, and is to be repeated
	Follows    string    `json:"follows,omitempty"`   // host:port of the appliance that a follower copies
	Users      bool      `json:"users,omitempty"`     // they are copied too
	Above      []string  `json:"above,omitempty"`     // the ids of that appliance, and of those that it follows itself
	Removed    bool      `json:"removed,omitempty"`   // that appliance, or the one that has taken this one's place, does not know this one
	Untold     []string  `json:"untold,omitempty"`    // appliances that have not confirmed yet that this one is the primary
	UntoldIDs  []string  `json:"untoldIDs,omitempty"` // their ids, in the same order
	// Strangers are those of Untold that answer that they do not know this appliance. They may take changes.
	Strangers []string  `json:"strangers,omitempty"`
	Now       time.Time `json:"now"`
}

// Term names the primary of a generation.
type Term struct {
	Generation int64  `json:"generation"`
	ID         string `json:"id"`
	Address    string `json:"address"`
}

// Exchange is what an appliance tells another one of its family, and what that answers.
type Exchange struct {
	ID      string   `json:"id"`
	Lineage string   `json:"lineage"`
	Role    string   `json:"role"`
	Known   Term     `json:"known"` // the newest that it knows
	Above   []string `json:"above,omitempty"`
}

// FollowRequest makes an appliance a follower of another.
type FollowRequest struct {
	Address  string `json:"address"`      // host:port
	User     string `json:"user"`         // an administrator there
	Password string `json:"password"`     // is kept in the database
	CA       string `json:"ca,omitempty"` // PEM; empty: the system's
	Users    bool   `json:"users,omitempty"`
	DryRun   bool   `json:"dryRun,omitempty"` // only check and compare
	Force    bool   `json:"force,omitempty"`  // remove what the other does not have
}

// Check returns an error unless the request is whole.
func (q FollowRequest) Check() error {
	if q.Address == "" || q.User == "" || q.Password == "" {
		return hint.New(errors.New("the address or the login of the appliance to follow is missing"), "give address, user and password")
	}
	return nil
}

// Followed is what following an appliance means for the content.
type Followed struct {
	Family   Family     `json:"family"` // of this appliance, after it
	Compared Difference `json:"compared"`
	Warnings []string   `json:"warnings,omitempty"`
}

// MostDifferences bounds the names that a dry run of following lists.
const MostDifferences = 10_000

// Difference compares two appliances.
type Difference struct {
	Coming int `json:"coming"` // tags that this one gets, or gets with another image
	Going  int `json:"going"`  // tags and images that this one has and the other has not, or has with another image
	// First are those that go, as repository:tag or repository@digest: in a dry run the first 10,000, otherwise 10.
	First []string `json:"first,omitempty"`
}

// PromoteRequest makes a follower, or an appliance that was superseded, the primary.
type PromoteRequest struct {
	Force bool `json:"force,omitempty"` // also if the primary does not answer
}

// PromoteProgress is the progress of a promotion.
type PromoteProgress struct {
	Step    string `json:"step"`
	Changes int64  `json:"changes,omitempty"` // that have not arrived yet
	Bytes   int64  `json:"bytes,omitempty"`   // likewise
}

// Promoted is the result of a promotion.
type Promoted struct {
	Family  Family `json:"family"`
	Already bool   `json:"already,omitempty"` // it was the primary before
	Forced  string `json:"forced,omitempty"`  // what could not be done of an orderly promotion, and may be lost
}

// Following is how far a follower is.
type Following struct {
	Connected bool       `json:"connected"`       // the last request was answered
	CaughtUp  bool       `json:"caughtUp"`        // it is equal to the appliance that it follows, as far as it knows
	Equal     *time.Time `json:"equal,omitempty"` // when it was last; nil: it has not been yet
	Changes   int        `json:"changes"`         // that came, and do not show yet
	Blobs     int        `json:"blobs"`           // that are to come for them
	Bytes     int64      `json:"bytes"`
	Error     string     `json:"error,omitempty"` // of the last attempt
	Hint      string     `json:"hint,omitempty"`
	Retry     *time.Time `json:"retry,omitempty"` // when it tries again
}
