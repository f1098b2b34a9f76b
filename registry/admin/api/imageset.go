package api

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"
)

// ImageSetEdits asks for the text of an image set with changes, and for what is wrong with it. Nothing of it
// is kept.
type ImageSetEdits struct {
	Text  string         `json:"text"` // at most 256 KiB
	Edits []ImageSetEdit `json:"edits,omitempty"`
}

// ImageSetEdit is a change of the text of an image set at one key. Exactly one of set, add and remove is given.
type ImageSetEdit struct {
	At     string          `json:"at"`               // such as mirror.platform.channels[0].minVersion
	Set    json.RawMessage `json:"set,omitempty"`    // the value that the key gets; null, false and "" remove the key
	Add    json.RawMessage `json:"add,omitempty"`    // what the list there gets at its end
	Remove bool            `json:"remove,omitempty"` // the key, or the element of a list
}

// EditedImageSet is the text of an image set after changes.
type EditedImageSet struct {
	Text string `json:"text"` // comments and order are as they were
	// Content is the text as JSON: true, false, and all else as texts. It is absent where the text cannot be
	// changed but by hand, for the reason in Fixed.
	Content  json.RawMessage   `json:"content,omitempty"`
	Fixed    *Trouble          `json:"fixed,omitempty"`
	Problems []ImageSetProblem `json:"problems"` // for which a run would refuse it
	Warnings []string          `json:"warnings"`
}

// ImageSetProblem is one thing that is wrong in the text of an image set.
type ImageSetProblem struct {
	Line    int    `json:"line,omitempty"` // 0: the text as a whole
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
}

// DraftRequest asks for the plan of a text of an image set that is not in place.
type DraftRequest struct {
	Text string `json:"text"`
	// ImageSet is the file of the configuration that the text is for: the plan has its workspace, credentials
	// and prefix. "": for none.
	ImageSet string `json:"imageSet,omitempty"`
	Detach   bool   `json:"detach,omitempty"` // as in MirrorRequest
}

// MaxBytes returns how long the request may be.
func (DraftRequest) MaxBytes() int64 { return MaxList }

// Detached reports whether the plan is to be made without the caller.
func (q DraftRequest) Detached() bool { return q.Detach }

// DraftPlanState is the last plan of a text, of whichever user, and the progress of one that is made.
type DraftPlanState struct {
	MirrorPlanState
	Text digest.Digest `json:"text,omitempty"` // of the last plan
}
