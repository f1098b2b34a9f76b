package api

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// CatalogsRequest asks for the views of catalogs to be made again, as the daemon does by itself when
// something changes.
type CatalogsRequest struct{}

// CatalogsProgress is how many views were looked at.
type CatalogsProgress struct {
	Began time.Time `json:"began"`
	Views int       `json:"views"`
	Done  int       `json:"done"`
}

// CatalogsResult is what became of the views.
type CatalogsResult struct {
	Views []CatalogView `json:"views"`
}

// CatalogView is the state of a view of an operator catalog.
type CatalogView struct {
	Name     string `json:"name"`
	Original string `json:"original"`         // as the configuration names it
	Frozen   string `json:"frozen,omitempty"` // as the configuration has it
	// ToFreeze reports that this date is to come: until then the view follows its original.
	ToFreeze bool `json:"toFreeze,omitempty"`
	// OriginalDigest is that of the catalog which the view was made of.
	OriginalDigest digest.Digest `json:"originalDigest,omitempty"`
	Digest         digest.Digest `json:"digest,omitempty"` // that is shown; "": none yet
	Packages       []string      `json:"packages"`
	Bundles        int           `json:"bundles"`
	LeftOut        []LeftOut     `json:"leftOut,omitempty"` // the first of them
	MoreLeftOut    int           `json:"moreLeftOut,omitempty"`
	Warnings       []string      `json:"warnings,omitempty"` // the first of them
	MoreWarnings   int           `json:"moreWarnings,omitempty"`

	Changed *time.Time `json:"changed,omitempty"` // when another was last shown
	Reason  string     `json:"reason,omitempty"`  // of that
	Run     string     `json:"run,omitempty"`     // that can be rolled back
	// RolledBack reports that what is shown is that of before a rollback. It stays until what the
	// view offers would be other than what was taken back.
	RolledBack bool `json:"rolledBack,omitempty"`
	// OriginalGone reports that the original is no longer under its name, and the view is made of the
	// copy that was kept.
	OriginalGone bool   `json:"originalGone,omitempty"`
	Error        string `json:"error,omitempty"` // the reason that the view could not be made, and is as it was
	Hint         string `json:"hint,omitempty"`
}

// LeftOut is a bundle that a view does not have although its filter asks for it, or, without Bundle, a
// package.
type LeftOut struct {
	Package string `json:"package"`
	Bundle  string `json:"bundle"`
	Reason  string `json:"reason"`
}

// Name returns the name of the bundle, or "package " and the name of the package if the whole package
// is left out.
func (l LeftOut) Name() string {
	if l.Bundle == "" {
		return "package " + l.Package
	}
	return l.Bundle
}

// ViewRuns begins the name of a run that changes a view.
const ViewRuns = "catalog "

// ViewRun returns the name of a run that changes a view, for a reason.
func ViewRun(view, reason string) string { return ViewRuns + view + ": " + reason }

// ViewOfRun returns the view that a run with a name changes, "" for another run.
func ViewOfRun(name string) string {
	name, found := strings.CutPrefix(name, ViewRuns)
	view, _, ok := strings.Cut(name, ": ")
	if !found || !ok {
		return ""
	}
	return view
}
