package mirror

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Need is an image that something at a registry needs besides the workspace that would delete it.
type Need struct {
	Repository, Reference string // as it was asked for
	By                    string
	// Content reports that another tag of the same content is needed, and not this one.
	Content bool
}

// Place is an image at a registry, by a tag or a digest.
type Place struct{ Repository, Reference string }

// needer is a Pruner that can list what else needs its images, as an appliance can. For another registry
// Needs returns errors.ErrUnsupported.
type needer interface {
	Needs(ctx context.Context, workspace string, images []Place) ([]Need, error)
}

const (
	idFile = "workspace-id"
	untold = "what other workspaces have mirrored to this registry is not known here (%v), and may need images of this list, whose other tags are deleted too: compare it with their image sets before it is deleted"
)

// id returns the id of the workspace, whose path is a part of it: a copy is another workspace.
func (w workspace) id() (string, error) {
	dir, err := filepath.Abs(w.dir)
	if err != nil {
		return "", err
	}
	text, err := w.Read(idFile)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(rand.Text() + "\n")
		err = w.Write(idFile, text)
	}
	return strings.TrimSpace(string(text)) + " " + dir, err
}

// needs returns what of some images the registry needs besides this workspace, by place. unknown is the
// reason that the registry cannot tell.
func (e *engine) needs(ctx context.Context, from Pruner, images []Place) (all map[Place]Need, unknown, err error) {
	at, ok := from.(needer)
	if !ok {
		return nil, errors.New("it is not an appliance"), nil
	}
	if len(images) == 0 {
		return nil, nil, nil
	}
	id, err := e.workspace.id()
	if err != nil {
		return nil, nil, err
	}
	needs, err := at.Needs(ctx, id, images)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, err, nil
	}
	if err != nil {
		return nil, nil, hint.New(fmt.Errorf("find out what others need at %s: %w", e.o.Registry, err),
			"nothing was deleted; mend that, or use --force, which deletes what others need too")
	}
	all = map[Place]Need{}
	for _, n := range needs {
		all[Place{n.Repository, n.Reference}] = n
	}
	return all, nil, nil
}

// unneeded returns those of some images that nothing else at the registry needs, and warnings of the
// others. With force that is all of them.
func (e *engine) unneeded(ctx context.Context, from Pruner, images []*plan.Image, force bool) (rest []*plan.Image, warnings []string, err error) {
	at := func(i *plan.Image) Place { return Place{i.Repository, cmp.Or(i.Tag, i.Digest.String())} }
	var places []Place
	for _, i := range images {
		places = append(places, at(i))
	}
	needs, reason, err := e.needs(ctx, from, places)
	switch {
	case err != nil && !force:
		return nil, nil, err
	case err != nil:
		reason = err
	}
	if reason != nil && len(images) > 0 {
		warnings = append(warnings, fmt.Sprintf(untold, reason))
	}
	told := map[Place]bool{}
	for _, i := range images {
		need, needed := needs[at(i)]
		if needed = needed && !need.Content; needed && !told[at(i)] {
			verb := "stays"
			if force {
				verb = "would be deleted by force"
			}
			warnings = append(warnings, fmt.Sprintf("%s %s: %s needs it", e.named(i), verb, need.By))
			told[at(i)] = true
		}
		if !needed || force {
			rest = append(rest, i)
		}
	}
	return rest, warnings, nil
}

// spare takes what others need out of the victims of a delete, and adds it to what the delete has kept. It
// returns the content that others need under other tags.
func (e *engine) spare(ctx context.Context, from Pruner, victims []*victim, d *Deleted) (rest []*victim, content map[Place]string, err error) {
	var places []Place
	for _, v := range victims {
		places = append(places, Place{v.repository, v.tag})
	}
	needs, _, err := e.needs(ctx, from, places)
	if err != nil {
		return nil, nil, err
	}
	content = map[Place]string{}
	for _, v := range victims {
		at := Place{v.repository, v.tag}
		switch need, needed := needs[at]; {
		case needed && !need.Content:
			d.Needed = append(d.Needed, keptItem{v.deleteItem, need.By})
			continue
		case needed:
			content[at] = need.By
		}
		rest = append(rest, v)
	}
	return rest, content, nil
}
