package images

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Bounds of a description.
const (
	maxConfig = 4 << 20
	maxListed = 200  // names, labels, referrers, moves, indexes, clusters
	maxText   = 4096 // bytes of one text
)

// Describe describes an image.
func (i *Images) Describe(ctx context.Context, at api.Place) (a api.Image, err error) {
	m, tag, err := i.find(ctx, at)
	if err != nil {
		return a, err
	}
	p, err := image.Parse(m.MediaType, m.Body)
	if err != nil {
		return a, err
	}
	a = api.Image{Repository: at.Repository, Tag: tag, Digest: m.Digest, MediaType: m.MediaType, ArtifactType: m.ArtifactType,
		Kind: kindOf(m.Digest, m.MediaType, m.ArtifactType, tag), Manifest: int64(len(m.Body)), Came: m.Created, Annotations: cutMap(m.Annotations), Subject: m.Subject}
	if d, attached := attachedTo(tag, m.Digest); attached && a.Subject == "" {
		a.Subject = d
	}
	for _, add := range []func(context.Context, *api.Image, image.Manifest) error{i.addParts, i.addConfig, i.addRelations, i.addReferrers, i.addTag} {
		if err := add(ctx, &a, p); err != nil {
			return api.Image{}, err
		}
	}
	return a, nil
}

// addParts adds the platforms of an index or the layers of an image.
func (i *Images) addParts(ctx context.Context, a *api.Image, p image.Manifest) error {
	var parts, children []digest.Digest
	for _, r := range p.References {
		if parts = append(parts, r.Digest); r.Kind == image.Child {
			children = append(children, r.Digest)
		}
	}
	held, err := i.Store.Manifests.Held(ctx, a.Repository, parts)
	if err != nil {
		return err
	}
	sizes, err := i.sizes(ctx, a.Repository, append([]digest.Digest{a.Digest}, slices.DeleteFunc(children, func(d digest.Digest) bool { return !held[d] })...))
	if err != nil {
		return err
	}
	a.Size = sizes[a.Digest]
	for _, r := range p.References {
		switch r.Kind {
		case image.Child:
			a.Platforms = append(a.Platforms, api.ImagePlatform{Platform: cut(r.Platform), Digest: r.Digest, MediaType: r.MediaType, Held: held[r.Digest], Size: sizes[r.Digest]})
		case image.Layer:
			a.Layers = append(a.Layers, api.ImageLayer{Digest: r.Digest, MediaType: cut(r.MediaType), Size: r.Size, Held: held[r.Digest], Foreign: r.Foreign})
		}
	}
	return i.addShared(ctx, a)
}

// addShared counts the images that share the layers. What a user may not see is not counted.
func (i *Images) addShared(ctx context.Context, a *api.Image) error {
	within := ""
	if restricted(ctx) {
		within = a.Repository
	}
	var layers []digest.Digest
	for _, l := range a.Layers {
		layers = append(layers, l.Digest)
	}
	shared, err := i.Store.Blobs.Shared(ctx, within, a.Digest, layers)
	for n := range a.Layers {
		a.Layers[n].Shared = shared[a.Layers[n].Digest]
	}
	return err
}

// addConfig adds the config of an image, and by its history the commands of the layers.
func (i *Images) addConfig(ctx context.Context, a *api.Image, p image.Manifest) error {
	n := slices.IndexFunc(p.References, func(r image.Reference) bool { return r.Kind == image.Config })
	if n < 0 || a.ArtifactType != dockerConfig && a.ArtifactType != ocispec.MediaTypeImageConfig {
		return nil
	}
	text, err := i.read(ctx, a.Repository, p.References[n].Digest)
	var c ocispec.Image
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		a.ConfigProblem = err.Error()
		return ctx.Err()
	}
	a.Config = &api.ImageConfig{Created: c.Created, Platform: cut(strings.Trim(c.OS+"/"+c.Architecture+"/"+c.Variant, "/")), Author: cut(c.Author), User: cut(c.Config.User),
		Entrypoint: cutList(c.Config.Entrypoint), Command: cutList(c.Config.Cmd), WorkingDir: cut(c.Config.WorkingDir), Env: cutList(c.Config.Env),
		Ports: cutList(slices.Sorted(maps.Keys(c.Config.ExposedPorts))), Volumes: cutList(slices.Sorted(maps.Keys(c.Config.Volumes))), Labels: cutMap(c.Config.Labels)}
	layer := 0
	for _, h := range c.History {
		if !h.EmptyLayer && layer < len(a.Layers) {
			a.Layers[layer].Command = cut(cmp.Or(h.CreatedBy, h.Comment))
			layer++
		}
	}
	return nil
}

// read reads a config.
func (i *Images) read(ctx context.Context, repo string, d digest.Digest) ([]byte, error) {
	f, err := i.Store.Blobs.Open(ctx, repo, d)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errors.New("it is not here")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size > maxConfig {
		return nil, fmt.Errorf("it has %d bytes, more than %d", f.Size, maxConfig)
	}
	return io.ReadAll(io.LimitReader(f, maxConfig))
}

// addRelations adds what names the image and what needs it.
func (i *Images) addRelations(ctx context.Context, a *api.Image, _ image.Manifest) error {
	tags, err := i.Store.Tags.Of(ctx, a.Repository, a.Digest)
	if err != nil {
		return err
	}
	a.Tags, a.AllTags = cutList(tags), len(tags)
	lists, err := i.Store.Manifests.Lists(ctx, a.Repository, []digest.Digest{a.Digest})
	if err != nil {
		return err
	}
	delete(lists, a.Digest) // what it lists itself
	indexes := slices.Sorted(maps.Keys(lists))
	a.Indexes = indexes[:min(len(indexes), maxListed)]
	if a.Pinned, err = i.Store.Manifests.PinnedHere(ctx, a.Repository, a.Digest); err != nil {
		return err
	}
	clusters, err := i.Store.Clusters.Keeping(ctx, a.Repository, a.Digest)
	for _, c := range clusters[:min(len(clusters), maxListed)] {
		a.Clusters = append(a.Clusters, c.String())
	}
	return err
}

// addReferrers adds what is attached to the image.
func (i *Images) addReferrers(ctx context.Context, a *api.Image, _ image.Manifest) (err error) {
	a.Referrers, err = i.attached(ctx, a.Repository, a.Digest)
	return err
}

// attached returns what is attached to a manifest, by its subject or by a tag.
func (i *Images) attached(ctx context.Context, repo string, to digest.Digest) (found []api.Referrer, err error) {
	all, err := i.Store.Manifests.Referrers(ctx, repo, to, "")
	if err != nil {
		return nil, err
	}
	add := func(m store.Manifest, tag string) {
		found = append(found, api.Referrer{Digest: m.Digest, Kind: kindOf(m.Digest, m.MediaType, m.ArtifactType, tag), ArtifactType: cut(m.ArtifactType), Tag: tag,
			Size: int64(len(m.Body)), Came: m.Created, Annotations: cutMap(m.Annotations)})
	}
	for _, d := range all[:min(len(all), maxListed)] {
		m, err := i.Store.Manifests.Get(ctx, repo, d)
		if err == nil {
			add(m, "")
		} else if !errors.Is(err, store.ErrNotFound) { // deleted meanwhile
			return nil, err
		}
	}
	for _, tag := range image.AttachmentTags(to) {
		m, err := i.Store.Manifests.ByTag(ctx, repo, tag)
		if err == nil {
			add(m, tag)
		} else if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	return found, nil
}

// addTag adds the history of the tag, and what it is a mirror of.
func (i *Images) addTag(ctx context.Context, a *api.Image, _ image.Manifest) (err error) {
	if a.Tag == "" {
		return nil
	}
	if a.Origins, err = i.origins(ctx, a.Repository, a.Tag, a.Digest); err != nil {
		return err
	}
	moves, err := i.Store.Tags.Moves(ctx, a.Repository, a.Tag)
	for _, m := range slices.Backward(moves) {
		if len(a.Moves) < maxListed {
			a.Moves = append(a.Moves, api.TagMove{Was: m.Was, Became: m.Became, Moved: m.Moved, Run: cmp.Or(m.Run.Name, m.Run.ID)})
		}
	}
	return err
}

// cut returns the beginning of a text that is too long.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// cutList returns the first of some texts.
func cutList(all []string) []string {
	short := []string{}
	for _, s := range all[:min(len(all), maxListed)] {
		short = append(short, cut(s))
	}
	return short
}

// cutMap returns the first of some names with their texts.
func cutMap(all map[string]string) map[string]string {
	short := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if len(short) < maxListed {
			short[cut(name)] = cut(all[name])
		}
	}
	return short
}
