// Package ready judges whether a cluster can be installed from what the store has, or upgraded with it,
// before the maintenance window: each image of each release that it would pull, where its mirror sets
// lead to, with what its nodes demand of signatures.
//
// Use New, then Judge; Verify verifies the signatures of one image by the same rules. It asks no network,
// and reads the store as it is at the call. A reason has a code, the image or the setting that it is
// about, and what to do. What could not be checked is a reason too: a verdict is wrong the safe way.
//
// Refused: asking the registry over the network as a node does, which is what package cluster/node is
// for. That shows names, certificates and logins, but neither what is on the disk nor the update graph.
package ready

import (
	"context"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/resources"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/updates"
)

// Options are the options of New.
type Options struct {
	Store *store.Store
	// Registry is how clusters reach the registry: host[:port].
	Registry string
	// Version is that of this program.
	Version string
	// Updates is the update service, which reads the releases and the graph data of the store.
	Updates *updates.Service
	// Upstreams are those that the registry pulls through.
	Upstreams []config.Upstream
	// Dir is for catalogs that are read: what they offer is kept there.
	Dir string
	Log *slog.Logger // nil: discard
}

// Judge gives verdicts.
type Judge struct {
	Options
	demands demands
}

// New returns a Judge.
func New(o Options) *Judge {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Judge{Options: o}
}

// Judge gives a verdict. An error means that the question cannot be understood, or that ctx has ended, or
// that the store cannot be read.
func (o *Judge) Judge(ctx context.Context, q api.ReadyRequest, progress func(api.ReadyProgress)) (api.Verdict, error) {
	keys, err := newKeys(q.Keys)
	if err != nil {
		return api.Verdict{}, err
	}
	if err := completed(&q); err != nil {
		return api.Verdict{}, err
	}
	asked, err := read(q)
	if err != nil {
		return api.Verdict{}, err
	}
	progress(api.ReadyProgress{Reads: "the releases, and where they come from"})
	if err := o.Updates.Refresh(ctx); err != nil {
		return api.Verdict{}, err
	}
	j := &judgement{Options: o.Options, question: asked, keys: keys, known: o.Updates.Known(), tell: progress,
		looked: map[place]*looked{}, blobs: map[digest.Digest]blob{}, told: map[told]bool{}}
	j.verdict = api.Verdict{To: q.To, From: q.From, Channel: q.Channel, Reasons: []api.Reason{}, Risks: []api.Reason{},
		Basis: api.Basis{Releases: []api.JudgedRelease{}}, Registry: o.Registry, Version: o.Version, Made: time.Now().UTC()}
	if q.Unchanged != nil {
		err = j.check(ctx, *q.Unchanged)
		return j.give(), err
	}
	if j.recorded, err = documents.Origins(ctx, o.Store.Tags); err != nil {
		return api.Verdict{}, err
	}
	if err := j.judge(ctx); err != nil {
		return api.Verdict{}, err
	}
	if err := j.content(ctx); err != nil {
		return api.Verdict{}, err
	}
	return j.give(), nil
}

// judgement is one call of Judge.
type judgement struct {
	Options
	question
	keys  []*signature.Keyring
	known updates.Known
	tell  func(api.ReadyProgress)

	recorded []mirror.Origin
	served   []resources.File // the cluster resources, once they are needed

	now     api.ReadyProgress
	looked  map[place]*looked
	blobs   map[digest.Digest]blob // that were found
	told    map[told]bool          // what verdict.Reasons are about
	verdict api.Verdict
}

// told is what a reason is about. The same thing may be missing of several images.
type told struct{ code, where string }

// refuse adds a reason for a no, once.
func (j *judgement) refuse(r api.Reason) {
	key := told{r.Code, r.Where}
	if j.told[key] {
		return
	}
	j.told[key] = true
	j.verdict.Reasons = append(j.verdict.Reasons, r)
}

// risk adds a risk.
func (j *judgement) risk(r api.Reason) { j.verdict.Risks = append(j.verdict.Risks, r) }

// judge looks at what was asked for.
func (j *judgement) judge(ctx context.Context) error {
	r, ok, err := j.choose()
	if err != nil || !ok {
		return err
	}
	j.verdict.To, j.verdict.Architecture, j.verdict.Nodes = r.Version.String(), r.Arch, j.nodes
	if j.request.From != "" {
		return j.upgrade(ctx, r)
	}
	return j.release(ctx, r)
}

// give returns the verdict.
func (j *judgement) give() api.Verdict {
	v := j.verdict
	switch {
	case len(v.Reasons) > 0:
		v.Answer = api.ReadyNo
	case len(v.Risks) > 0:
		v.Answer = api.ReadyRisks
	default:
		v.Answer = api.ReadyYes
	}
	v.Blobs = len(j.blobs)
	for _, b := range j.blobs {
		v.Bytes += b.size
	}
	return v
}

// at names an image at this registry.
func (j *judgement) at(p place) string {
	return j.Registry + "/" + p.repository + "@" + p.digest.String()
}
