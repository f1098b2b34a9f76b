package ready

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/release"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// enforced begins the names of images whose signatures the policy of a release is about.
const enforced = "quay.io/openshift-release-dev/"

// payload is a release that is judged.
type payload struct {
	graphdata.Release
	release.Payload
	repository string // that has its image
	cure       *api.Cure
	// Where nodes read images by digest: while they are installed, and once they run.
	installing, running cluster.Sources
	bundle              bool // it stands for a bundle of an operator
}

// wanted is an image of a release, by the name that its source has.
type wanted struct {
	component string
	name      string // repository
	digest    digest.Digest
}

func (p *payload) String() string { return p.Release.Version.String() }

// release judges one release.
func (j *judgement) release(ctx context.Context, r graphdata.Release) error {
	image := j.known.Places[r.Digest]
	repository, _, _ := strings.Cut(image, ":")
	p := &payload{Release: r, repository: repository, cure: j.cureOf(r)}
	j.verdict.Basis.Releases = append(j.verdict.Basis.Releases, api.JudgedRelease{Version: p.String(), Architecture: r.Arch, Digest: r.Digest, Payload: r.Payload, Image: image})
	if err := j.sources(p); err != nil {
		return err
	}
	j.signed(p)
	if !j.platforms(ctx, p) {
		return nil
	}
	all, unread, err := j.images(ctx, p)
	if err != nil {
		return err
	}
	before := len(j.verdict.Reasons)
	j.now = api.ReadyProgress{Release: p.String(), Of: len(all)}
	for _, w := range all {
		if err := j.image(ctx, p, w); err != nil {
			return err
		}
		j.now.Images++
		j.tell(j.now)
	}
	if unread == nil {
		return j.bootImages(ctx, p, all)
	}
	if len(j.verdict.Reasons) == before || !errors.Is(unread, fs.ErrNotExist) { // a part that is absent is a reason already
		j.refuse(api.Reason{Code: "release-unread", Where: j.at(place{p.repository, r.Digest}), Text: "the images of the release are not known: " + unread.Error(), Hint: again, Cure: p.cure})
	}
	return nil
}

// platforms reports whether a release for several architectures has those of the nodes. That it has not is
// a reason.
func (j *judgement) platforms(ctx context.Context, p *payload) bool {
	if p.Release.Arch != graphdata.Multi {
		return true
	}
	has, err := j.archs(ctx, place{p.repository, p.Release.Digest})
	for _, a := range j.nodes {
		if err == nil && !slices.Contains(has, a) {
			j.refuse(api.Reason{Code: "platform-absent", Where: p.Release.Payload, Text: "the release has no image for " + a, Hint: "take a release for this architecture"})
			return false
		}
	}
	return true
}

// cureOf is a release that is here, in part, as content: of the channel of the cluster, or the usual one of
// the release.
func (j *judgement) cureOf(r graphdata.Release) *api.Cure {
	channel := j.request.Channel
	if channel == "" && j.known.Graph != nil {
		channel = j.usual(j.known.Graph.ChannelsOf(r))
	}
	return cureOf(r.Version, r.Arch, channel)
}

// sources sets where nodes read images: what cluster-config prints for the version, of which the cluster
// resources that this registry serves are a part; or what a cluster has, if that is known.
func (j *judgement) sources(p *payload) (err error) {
	if j.request.Cluster != nil {
		p.running = j.request.Cluster.Digests
		return nil
	}
	if j.served == nil {
		j.served, err = mirror.Resources(j.Registry, j.Options.Version, j.recorded, func(string) bool { return true })
		if err != nil {
			return err
		}
	}
	facts := cluster.Facts{Registries: []cluster.Registry{{Address: j.Registry}}, Resources: j.served,
		Version: cluster.Version{Major: int(p.Release.Version.Major), Minor: int(p.Release.Version.Minor)}} //nolint:gosec // of a version
	for _, u := range j.Upstreams {
		facts.Upstreams = append(facts.Upstreams, cluster.Upstream{Prefix: u.Prefix, URL: u.URL, HeldOnly: u.Mode == config.ModeMirroredOnly})
	}
	if p.installing, p.running, err = facts.Sources(); err != nil {
		j.refuse(api.Reason{Code: "cluster-config", Where: "appliance cluster-config", Text: err.Error(), Hint: hint.Of(err)})
	}
	return nil
}

// images returns the images of a release: its own, and its components. What of the payload cannot be read
// is unread.
func (j *judgement) images(ctx context.Context, p *payload) (all []wanted, unread, err error) {
	name, _, _ := strings.Cut(p.Release.Payload, "@")
	all = []wanted{{"release", name, p.Release.Digest}}
	at := place{p.repository, p.Release.Digest}
	layers, err := j.layers(ctx, at, "")
	if err == nil {
		p.Payload, err = release.ReadLayers(layers, j.opener(ctx, p.repository))
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		return all, err, nil
	}
	if p.Payload.Version != p.String() {
		j.refuse(api.Reason{Code: "release-unread", Where: j.at(at), Text: "it names itself " + p.Payload.Version, Hint: again, Cure: p.cure})
	}
	for _, c := range p.Components {
		named, err := reference.ParseNormalizedNamed(c.Image)
		digested, ok := named.(reference.Canonical)
		if err != nil || !ok {
			j.refuse(api.Reason{Code: "release-unread", Where: j.at(at), Text: fmt.Sprintf("component %s is not named by digest: %s", c.Name, c.Image), Hint: "take another release"})
			continue
		}
		all = append(all, wanted{c.Name, digested.Name(), digested.Digest()})
	}
	j.policies(p)
	return all, nil, nil
}

// policies gives reasons where it is not known what nodes demand of signatures.
func (j *judgement) policies(p *payload) {
	for _, err := range p.Unread {
		j.refuse(api.Reason{Code: "policy-unknown", Where: p.Release.Payload, Text: "what nodes demand of signatures is not known: " + err.Error(),
			Hint: "this version of the appliance does not understand it: upgrade the appliance, and report it"})
	}
	if !cluster.Enforces(p.String()) {
		return
	}
	for _, c := range p.Components {
		if strings.HasPrefix(c.Image, enforced) && len(p.demanded(c.Image)) == 0 && len(p.Unread) == 0 {
			j.refuse(api.Reason{Code: "policy-unknown", Where: p.Release.Payload, Text: "nodes of this version verify each image, and no policy of the release is about " + c.Name,
				Hint: "this version of the appliance does not find the policy: upgrade the appliance, and report it"})
			return
		}
	}
}

// bootImages looks for the ISO that openshift-install takes out of the release, for each architecture of
// the nodes.
func (j *judgement) bootImages(ctx context.Context, p *payload, all []wanted) error {
	n := slices.IndexFunc(all, func(w wanted) bool { return w.component == release.BootComponent })
	if n < 0 {
		if p.Components != nil && j.request.From == "" {
			j.refuse(api.Reason{Code: "boot-image-absent", Where: p.Release.Payload, Text: "the release has no " + release.BootComponent + ": openshift-install would ask the internet for the boot image",
				Hint: "take a release that has it: 4.12 and later"})
		}
		return nil
	}
	at, ok, err := j.find(ctx, p.running, all[n])
	if err != nil || !ok {
		return err // which is a reason already
	}
	archs := j.nodes
	if p.Release.Arch != graphdata.Multi {
		archs = []string{p.Release.Arch}
	} else if len(archs) == 0 {
		archs, err = j.archs(ctx, at)
	}
	for _, arch := range archs {
		layers, err := j.layers(ctx, at, arch)
		if err == nil {
			_, err = release.FindISO(layers, j.opener(ctx, at.repository), release.Machine(arch))
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) { // what is absent is a reason already
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		j.refuse(api.Reason{Code: "boot-image-absent", Where: j.at(at), Text: err.Error() + ": openshift-install would ask the internet for the boot image",
			Hint: again, Cure: p.cure})
	}
	return err
}

// opener opens the blobs of a repository.
func (j *judgement) opener(ctx context.Context, repository string) release.Open {
	return func(d digest.Digest) (io.ReadCloser, error) {
		body, _, err := stored.Repository{Store: j.Store, Name: repository}.Blob(ctx, d)
		return body, err
	}
}
