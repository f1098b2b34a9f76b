package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/jobs"
)

// draftRunner plans texts of image sets.
type draftRunner = jobs.Runner[api.DraftRequest, api.MirrorProgress, api.MirrorPlan]

// openDraft makes the job that plans texts of image sets. Its turn is that of the runs.
func (d *daemon) openDraft(turn chan struct{}) {
	d.drafts = newBoard[api.MirrorProgress, api.DraftPlanState](d, "plan of a text", atHost)
	d.draft = jobs.New(jobs.Kind[api.DraftRequest, api.MirrorProgress, api.MirrorPlan]{
		Name: "plan of a text", Alone: d.alone("plan of a text"), Drain: d.draining, Log: d.log,
		Run: shown(d.drafts, func() bool { return d.draft.Stop() }, func(ctx context.Context, q api.DraftRequest, progress func(api.MirrorProgress)) (api.MirrorPlan, error) {
			keep := func(p *api.MirrorPlan) {
				d.drafts.keep(&api.DraftPlanState{MirrorPlanState: api.MirrorPlanState{Last: p}, Text: digest.FromString(q.Text)})
			}
			s, done, err := d.drafted(q.ImageSet, []byte(q.Text))
			if err != nil {
				now := time.Now()
				keep(&api.MirrorPlan{Began: now, Ended: now, Error: troubleOf(err)})
				return api.MirrorPlan{}, err
			}
			defer done()
			s.turn, s.keepPlan = turn, keep
			return s.plan(ctx, api.MirrorRequest{}, progress)
		}),
	})
	d.onClose(func() error {
		d.draft.Wait()
		return nil
	})
}

// drafted returns a text as an image set of its own. With the file of one of the configuration it has the
// workspace, credentials and prefix of that; else a workspace until done.
func (d *daemon) drafted(file string, text []byte) (s *scheduled, done func(), err error) {
	set, err := imageset.ParseEither("image-set.yaml", text)
	if err != nil {
		return nil, nil, admin.BadImageSet(err)
	}
	of, err := d.settings(file)
	if err != nil {
		return nil, nil, err
	}
	var known []string
	if file != "" {
		if now, err := imageset.LoadEither(of.ImageSet); err == nil {
			known = now.HostPaths()
		}
	}
	for _, path := range set.HostPaths() {
		if !slices.Contains(known, path) { // an administrator of the console may not read files of the host
			return nil, nil, admin.BadImageSet(hint.New(fmt.Errorf("%q is a path of the host, and the image set as it is there has it not", path),
				"put the file in place on the host, and plan it then"))
		}
	}
	return d.asSet(d.cfg.Database+".draft", of, text)
}

// settings returns those of an image set of the configuration, by its file; without one the credentials of
// the first that has some.
func (d *daemon) settings(file string) (config.Sync, error) {
	if file != "" {
		named, err := mirrors{d}.named(file)
		if err != nil {
			return config.Sync{}, err
		}
		return named.set, nil
	}
	if i := slices.IndexFunc(d.cfg.Sync, func(s config.Sync) bool { return s.AuthFile != "" }); i >= 0 {
		return config.Sync{AuthFile: d.cfg.Sync[i].AuthFile}, nil
	}
	return config.Sync{}, nil
}

// asSet returns a text as an image set with the settings of another. dir is its until done, and has its workspace
// where there is no other.
func (d *daemon) asSet(dir string, of config.Sync, text []byte) (s *scheduled, done func(), err error) {
	err = errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
	of.ImageSet = filepath.Join(dir, "image-set.yaml")
	if err == nil {
		err = os.WriteFile(of.ImageSet, text, 0o600)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make the directory of an image set: %w", err)
	}
	if of.Workspace == "" {
		of.Workspace = filepath.Join(dir, "workspace")
	}
	return &scheduled{set: of, open: d.given.Mirror, served: d.resources().Files, link: d.link, store: d.store, host: d.cfg.Address(), log: d.log},
		func() {
			if err := os.RemoveAll(dir); err != nil {
				d.log.Warn("the directory of an image set could not be removed", "dir", dir, "error", err)
			}
		}, nil
}

// Draft implements admin.Mirrors.
func (m mirrors) Draft() *draftRunner { return m.d.draft }

// DraftPlan implements admin.Mirrors.
func (m mirrors) DraftPlan(ctx context.Context) api.DraftPlanState {
	state := api.DraftPlanState{}
	running, last := m.d.drafts.look(ctx)
	if last != nil {
		state = *last
	}
	state.Running = running
	return state
}

// StopDraft implements admin.Mirrors.
func (m mirrors) StopDraft(ctx context.Context) (running bool) {
	return m.d.drafts.stop(ctx, m.d.draft.Stop)
}

// atHost is for a board.
func atHost(p *api.MirrorProgress, host string) { p.Host = host }
