package api

import (
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// PastSync is a run that was committed.
type PastSync struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Committed time.Time `json:"committed"`
	Tags      int       `json:"tags"`                // that it moved
	RollsBack string    `json:"rollsBack,omitempty"` // the run that it rolled back
	View      string    `json:"view,omitempty"`      // the view of a catalog that it changed
}

// PastRequest asks for past runs.
type PastRequest struct {
	Limit        int  `json:"limit,omitempty"` // the last so many; 0: all
	WithoutViews bool `json:"withoutViews,omitempty"`

	After string `json:"after,omitempty"` // only runs that were committed before this one
}

// ChangesRequest asks for tags that a run moved.
type ChangesRequest struct {
	Repository string `json:"repository,omitempty"` // only those after this one, and after Tag in it
	Tag        string `json:"tag,omitempty"`
	Limit      int    `json:"limit"`
}

// Check returns an error unless the request can be granted.
func (q ChangesRequest) Check() error {
	if q.Limit < 1 || q.Limit > AtOnce {
		return hint.New(errors.New("limit is out of range"), "ask for 1 to 5000 changes")
	}
	return nil
}

// RunChange is a tag that a run moved, and what it names now.
type RunChange struct {
	TagChange
	Now string `json:"now,omitempty"` // "": the tag does not exist
}

// RollbackRequest asks for a rollback.
type RollbackRequest struct {
	DryRun bool `json:"dryRun,omitempty"` // only list what would be done
	// Force brings back a catalog too that offers bundles whose images are gone.
	Force bool `json:"force,omitempty"`
}

// Rollback is what a rollback did to tags.
type Rollback struct {
	ID    string      `json:"id,omitempty"` // of the rollback, which can be rolled back; "" of a dry run, or if no tag moved
	Moved []TagChange `json:"moved"`
	Left  []TagChange `json:"left,omitempty"` // tags that were moved after the run, and stay
}

// TagChange is a tag that names another manifest; an empty digest is none.
type TagChange struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Was        string `json:"was,omitempty"`
	Became     string `json:"became,omitempty"`
}
