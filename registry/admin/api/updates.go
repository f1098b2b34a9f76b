package api

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
)

// UpdatesRequest asks for the update service's state.
type UpdatesRequest struct {
	Channel string `json:"channel,omitempty"` // "": no graph
	Arch    string `json:"arch,omitempty"`    // "" is amd64
}

// Updates is what the update service offers.
type Updates struct {
	Why       string          `json:"why,omitempty"` // it offers nothing
	Computed  time.Time       `json:"computed,omitzero"`
	GraphData *GraphData      `json:"graphData,omitempty"`
	Releases  []UpdateRelease `json:"releases"`
	Problems  []UpdateProblem `json:"problems"`
	// Graph is the answer for the channel that was asked for, as clusters get it.
	Graph json.RawMessage `json:"graph,omitempty"`
	// Listed are the versions that the graph data has in that channel, whether the registry has them or not.
	Listed []string `json:"listed,omitempty"`
}

// GraphData is the image whose graph data counts.
type GraphData struct {
	Image   string        `json:"image"` // repository:tag
	Digest  digest.Digest `json:"digest"`
	Since   time.Time     `json:"since,omitzero"` // its tag names it
	Version string        `json:"version"`        // of its schema
}

// UpdateRelease is a release that the registry has.
type UpdateRelease struct {
	Version    string   `json:"version"`
	Arch       string   `json:"arch"`
	Payload    string   `json:"payload"`
	Channels   []string `json:"channels"`   // none: no cluster is offered it
	Signatures int      `json:"signatures"` // that are served
}

// UpdateProblem is a part of the content that has no effect, or not the one that was meant.
type UpdateProblem struct {
	Where string `json:"where"`
	What  string `json:"what"`
}

// UpdatesState is what the update service offers, in numbers.
type UpdatesState struct {
	Releases int        `json:"releases"`
	Since    *time.Time `json:"graphDataSince,omitempty"` // nil: there is no graph data, and nothing is offered
	Problems int        `json:"problems"`                 // parts of the content without effect
}
