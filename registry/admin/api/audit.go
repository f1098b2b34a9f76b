package api

import (
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Kinds of what is audited. The newest of each are kept, whatever there is of the others.
const (
	AuditControl = "administration" // of the control API: users, runs, jobs, clusters, the certificate
	AuditContent = "content"        // pushes and deletes
	AuditAccess  = "access"         // failed logins, and what users were refused
)

// What became of what is audited.
const (
	AuditDone    = "done"
	AuditRefused = "refused"
)

// maxAudit is how many records of the audit an answer has at most.
const maxAudit = 1000

// AuditRequest asks for what is audited, the newest first.
type AuditRequest struct {
	Kind  string    `json:"kind,omitempty"`  // administration, content or access; "": all
	User  string    `json:"user,omitempty"`  // "": all
	Event string    `json:"event,omitempty"` // such as push; "": all
	Text  string    `json:"text,omitempty"`  // in any field, such as a repository or an address
	From  time.Time `json:"from,omitzero"`
	To    time.Time `json:"to,omitzero"`     // before it
	After int64     `json:"after,omitempty"` // Next of the answer before
	Limit int       `json:"limit,omitempty"` // at most 1000; 0: 100
}

// Check returns an error unless the request can be granted.
func (q AuditRequest) Check() error {
	switch {
	case q.Limit < 0 || q.Limit > maxAudit:
		return hint.New(errors.New("limit is not between 1 and 1000"), "ask for the rest with after")
	case q.Kind != "" && q.Kind != AuditControl && q.Kind != AuditContent && q.Kind != AuditAccess:
		return hint.New(errors.New("the audit has no such kind"), "name one of: administration, content, access")
	}
	return nil
}

// AuditPage is a part of what is audited.
type AuditPage struct {
	Records []AuditRecord `json:"records"`
	Next    int64         `json:"next,omitempty"` // After of the request for what follows; 0: that was all
	// Lost are records since the daemon's start that could not be kept here: they are in its journal alone.
	Lost int64 `json:"lost,omitempty"`
}

// AuditRecord is something that a user did, or was refused.
type AuditRecord struct {
	ID      int64     `json:"id"`
	Kind    string    `json:"kind"` // administration, content or access
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`   // such as push, user created, login failed
	User    string    `json:"user"`    // local for a command of the registry's host
	Remote  string    `json:"remote"`  // address of the connection
	Outcome string    `json:"outcome"` // done or refused
	// Details are what the event was about, such as repository, tags and digest, or method and path.
	Details map[string]string `json:"details"`
}
