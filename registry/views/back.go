package views

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// back is the rollback that took back what the view had shown.
type back struct {
	Run     string        `json:"run"`               // of the rollback
	Took    digest.Digest `json:"took,omitempty"`    // that was shown before
	Content digest.Digest `json:"content,omitempty"` // of its catalog
	Shows   digest.Digest `json:"shows,omitempty"`   // that is shown instead; "": nothing
	Same    digest.Digest `json:"same,omitempty"`    // key of the last view that has that content too
	Over    bool          `json:"over,omitempty"`    // the view has become another since
}

// rolledBack returns the last rollback of the view, nil if there is none. A push to the view's tag does
// not end it, and neither does a rollback that replaces a pushed image or restores one: only a
// rollback between two images that were made for the view counts.
func (n *note) rolledBack(moves []store.Move) *back {
	for i := len(moves) - 1; i >= 0; i-- {
		m := moves[i]
		_, took := n.madeOf(m.Was)
		_, shows := n.madeOf(m.Became)
		switch {
		case m.Run.ID == "":
			continue
		case m.Run.RollsBack() == "", n.Back != nil && n.Back.Run == m.Run.ID:
			return n.Back
		case (took || m.Was == "") && (shows || m.Became == ""):
			of, _ := n.madeOf(m.Was)
			return &back{Run: m.Run.ID, Took: m.Was, Content: of.Content, Shows: m.Became}
		}
	}
	return n.Back
}

// madeOf returns the image of the view with a digest.
func (n *note) madeOf(d digest.Digest) (made, bool) {
	for _, m := range n.Made {
		if m.Digest == d {
			return m, true
		}
	}
	return made{}, false
}

// stays reports whether the view would be the one that a rollback took back, whatever else of its
// original has changed, and keeps what the rollback shows then.
func (v *view) stays(ctx context.Context, next *note, viewed *catalog.Viewed, now, kept digest.Digest) (bool, error) {
	if next.Back == nil || next.Back.Over {
		return false, nil
	}
	b := *next.Back
	next.Back = &b
	same, err := b.same(ctx, next, viewed)
	if err != nil || !same {
		b.Over = err == nil
		return false, err
	}
	repo, tag := v.Repository()
	if b.Shows == "" {
		if now != "" {
			err = hint.New(fmt.Errorf("%s was rolled back to nothing, and something else was pushed there", v.Name),
				"delete that tag; or take the rollback back: appliance mirror rollback --run "+b.Run)
		}
		return true, err
	}
	of, _ := next.madeOf(b.Shows)
	if now == b.Shows && (kept == of.Original || of.Original == "") {
		return true, nil
	}
	whole, err := v.store.Manifests.Whole(ctx, repo, b.Shows)
	if err != nil || !whole || of.Original == "" {
		b.Over = err == nil
		return false, err
	}
	from, found, err := v.copied(ctx, of.Original)
	switch {
	case err != nil:
		return false, err
	case !found && now == b.Shows:
		return true, nil
	case !found: // a client has deleted it
		of.Original = ""
	}
	err = v.show(ctx, shown{stored.Repository{Store: v.store, Name: repo}, b.Shows, original{source: from, digest: of.Original}},
		api.ViewRun(v.Name, fmt.Sprintf("%s or %s was moved by a push or another run; it stays rolled back", tag, tag+config.OriginalSuffix)))
	return true, err
}

// same reports whether the view has the content that the rollback took back. It notes the key, since
// finding out reads what the catalog has.
func (b *back) same(ctx context.Context, next *note, viewed *catalog.Viewed) (bool, error) {
	m, known := next.Made[next.Key]
	switch {
	case next.Key == b.Same, known && m.Digest == b.Took:
		return true, nil
	case b.Content == "":
		return false, nil
	}
	content, err := m.Content, error(nil)
	if content == "" {
		content, err = viewed.Content(ctx)
	}
	if err == nil && content == b.Content {
		b.Same = next.Key
	}
	return content == b.Content, err
}
