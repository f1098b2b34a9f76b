package api

import "time"

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
