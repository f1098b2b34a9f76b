package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Wants lists the images at a registry that an image set of a workspace needs. Each run stores it there, so
// that no other workspace deletes them.
type Wants struct {
	Workspace string    `json:"workspace"` // its id
	Host      string    `json:"host,omitempty"`
	Name      string    `json:"name"` // for people, with the image set
	At        time.Time `json:"at"`
	Images    []string  `json:"images"` // repository:tag
}

// wanter is a destination that keeps what image sets want, by a key: the last JSON of each, and nothing for null.
type wanter interface {
	Want(ctx context.Context, key string, wants json.RawMessage) error
}

// WantsKeeper is an appliance that has what image sets want of it.
type WantsKeeper interface {
	wanter
	Wants(ctx context.Context) (map[string]json.RawMessage, error)
}

// Forget removes what the image sets of a workspace want of an appliance, and returns it: the workspace is gone, and
// would keep its images there for ever. It is named by its directory, or as HOST:DIR where several hosts have one. With
// dryRun nothing is removed.
func Forget(ctx context.Context, at WantsKeeper, workspace string, dryRun bool) (forgotten []Wants, err error) {
	all, err := at.Wants(ctx)
	if err != nil {
		return nil, err
	}
	found, hosts, known := map[string]Wants{}, map[string]bool{}, map[string]bool{}
	for key, text := range all {
		var w Wants
		if err := json.Unmarshal(text, &w); err != nil {
			return nil, fmt.Errorf("read what %s wants: %w", key, err)
		}
		_, dir, _ := strings.Cut(w.Workspace, " ")
		named := w.Host + ":" + dir
		if dir == workspace || named == workspace {
			found[key], hosts[w.Host] = w, true
		}
		known[named+" (its run of "+w.At.UTC().Format(time.DateOnly)+")"] = true
	}
	switch {
	case len(found) == 0:
		return nil, hint.New(fmt.Errorf("no image set of a workspace %s has told the appliance what it needs", workspace),
			"it knows "+cmp.Or(strings.Join(slices.Sorted(maps.Keys(known)), ", "), "none"))
	case len(hosts) > 1:
		return nil, hint.New(fmt.Errorf("several hosts have a workspace %s: %s", workspace, strings.Join(slices.Sorted(maps.Keys(hosts)), ", ")),
			"name it with its host: HOST:"+workspace)
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if !dryRun {
			if err := at.Want(ctx, key, json.RawMessage("null")); err != nil {
				return forgotten, err
			}
		}
		forgotten = append(forgotten, found[key])
	}
	return forgotten, nil
}

// want tells the destination what the image set wants of it after a run. After one in which something
// failed that is all that the workspace has mirrored there, too, and for image sets from standard input,
// which have one name.
func (e *engine) want(ctx context.Context, dst Destination, p *plan.Plan, r *Report) error {
	to, ok := dst.(wanter)
	if !ok {
		return nil
	}
	id, err := e.workspace.id()
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, i := range p.Images {
		wanted[i.Repository+":"+i.Tag] = true
	}
	// Of an image set the registry keeps one list, also of what went to other paths of it.
	elsewhere := func(i mirroredImage) bool { return i.Prefix != e.o.Prefix }
	for at, images := range e.mirroredBefore() {
		if place, here := strings.CutPrefix(at, e.o.Registry+"/"); here && (len(r.Failures) > 0 || e.o.Config.IsStream() || slices.ContainsFunc(images, elsewhere)) {
			wanted[place] = true
		}
	}
	as, known, gone, err := e.claims()
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	wants := Wants{Workspace: id, Host: host, Name: e.o.Owner, At: e.o.Now(), Images: slices.Sorted(maps.Keys(wanted))}
	if wants.Name == "" {
		dir, _ := filepath.Abs(e.o.Workspace) // as in id
		wants.Name = fmt.Sprintf("image set %s of the workspace %s on %s", as.shown(), dir, cmp.Or(host, "another host"))
	}
	text, err := json.Marshal(wants)
	if err == nil {
		err = to.Want(ctx, id+" "+as.Key, text)
	}
	if err == nil {
		err = e.writeClaims(known)
	}
	for _, c := range gone {
		err = errors.Join(err, to.Want(ctx, id+" "+c.Key, json.RawMessage("null")))
	}
	if err != nil {
		return fmt.Errorf("tell the destination what this workspace needs there: %w", err)
	}
	return nil
}

// claimsFile lists, by registry, the image sets of a workspace that have told what they want there.
const claimsFile = "claims.json"

// claim is what an image set wants of a registry, without the images.
type claim struct {
	Key  string `json:"key"` // at the registry, behind the id of the workspace
	Set  string `json:"imageSet"`
	Path string `json:"path,omitempty"` // of its file
}

// shown returns the name of the image set, for people.
func (c claim) shown() string {
	if c.Key != c.Set {
		return c.Path
	}
	return filepath.Base(c.Set)
}

// claims returns the claim of the image set, all that the workspace has with it, and those that it takes the place of.
// Two files of one name that are there are two image sets, of which the later one has a part of a digest of its path in
// its key; a file that has moved is the same image set, as in known.
func (e *engine) claims() (own claim, all map[string][]claim, gone []claim, err error) {
	if raw, err := e.workspace.Read(claimsFile); err != nil || json.Unmarshal(raw, &all) != nil {
		all = map[string][]claim{}
	}
	own = claim{Set: e.o.Config.Set(), Path: e.o.Config.Path}
	own.Key = own.Set
	before, err := e.claimsBefore(own, all[e.o.Registry])
	if err != nil {
		return own, nil, nil, err
	}
	var stay []claim
	for _, c := range before {
		if c.Set == own.Set && !otherFile(c.Path, own.Path) {
			gone = append(gone, c)
		} else {
			stay = append(stay, c)
		}
	}
	slices.SortStableFunc(gone, func(a, b claim) int { return cmp.Compare(len(a.Key), len(b.Key)) }) // the plain name first
	switch {
	case len(gone) > 0:
		own.Key, gone = gone[0].Key, gone[1:]
	case slices.ContainsFunc(stay, func(c claim) bool { return c.Key == own.Key }):
		const shown = 12
		own.Key += " " + digest.FromString(own.Path).Encoded()[:shown]
	}
	all[e.o.Registry] = append(stay, own)
	return own, all, gone, nil
}

// claimsBefore returns the claims of the workspace at the registry. An earlier version had one for all files of a name,
// and wrote no list.
func (e *engine) claimsBefore(own claim, listed []claim) ([]claim, error) {
	if slices.ContainsFunc(listed, func(c claim) bool { return c.Set == own.Set }) {
		return listed, nil
	}
	runs, err := e.runs()
	if err != nil {
		return nil, err
	}
	if n := slices.IndexFunc(runs, func(r *setRun) bool { return r.ImageSet == own.Set }); n >= 0 {
		listed = append(listed, claim{own.Set, own.Set, runs[n].ImageSetPath})
	}
	return listed, nil
}

func (e *engine) writeClaims(all map[string][]claim) error {
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return e.workspace.Write(claimsFile, append(raw, '\n'))
}
