package adopt

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

// manifest is one of a repository.
type manifest struct {
	desc   ocispec.Descriptor
	body   []byte
	parsed image.Manifest
	bad    string // why it is not imported, "" if it is
	put    bool
}

// repository imports one repository.
func (im *importer) repository(ctx context.Context, name string) error {
	if err := image.CheckRepository(name); err != nil {
		im.problem(image.Quote(name), "*", "%v", err)
		return nil
	}
	content, err := im.source.Content(ctx, name)
	if err != nil {
		return err
	}
	im.count(func(r *Report) { r.Problems = append(r.Problems, content.Problems...) })
	all := map[digest.Digest]*manifest{}
	for _, d := range content.Manifests {
		if err := ctx.Err(); err != nil {
			return err
		}
		all[d] = im.read(ctx, name, d)
	}
	if err := im.fetch(ctx, name, all); err != nil {
		return err
	}
	for _, m := range all {
		judge(m, all)
	}
	if err := im.putManifests(ctx, name, all); err != nil {
		return err
	}
	for _, m := range all {
		if m.bad == "" {
			im.count(func(r *Report) { r.Repositories++ })
			break
		}
	}
	return im.tag(ctx, name, content.Tags, all)
}

// read reads a manifest and verifies it.
func (im *importer) read(ctx context.Context, repository string, d digest.Digest) *manifest {
	m := &manifest{}
	if err := image.CheckDigest(d); err != nil {
		m.bad = err.Error()
		return m
	}
	body, mediaType, err := im.source.Manifest(ctx, repository, d)
	switch {
	case err != nil:
		m.bad = fmt.Sprintf("it cannot be read: %v", err)
		return m
	case d.Algorithm().FromBytes(body) != d:
		m.bad = "its content has another digest"
		return m
	}
	if mediaType == "" {
		mediaType = image.DetectMediaType(body)
	}
	m.desc = ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
	m.body = body
	if m.parsed, err = image.ParseNew(mediaType, body); err != nil {
		m.bad = err.Error()
	} else if m.desc.MediaType == "" {
		m.desc.MediaType = m.parsed.EffectiveType()
	}
	return m
}

// judge spreads the faults of children to their indexes: an index of which the source has an image
// that cannot be imported is not imported. An image that the source lacks as well is not waited for.
func judge(m *manifest, all map[digest.Digest]*manifest) string {
	if m.bad != "" {
		return m.bad
	}
	for _, r := range m.parsed.References {
		child := all[r.Digest]
		if r.Kind != image.Child || child == nil || child == m {
			continue
		}
		if judge(child, all) != "" {
			m.bad = fmt.Sprintf("its image %s cannot be imported", r.Digest)
			return m.bad
		}
	}
	return ""
}

// wanted returns the blobs of manifests, without the foreign layers that the source does not have either.
func (im *importer) wanted(all map[digest.Digest]*manifest) map[digest.Digest]ocispec.Descriptor {
	wanted := map[digest.Digest]ocispec.Descriptor{}
	for _, m := range all {
		if m.bad != "" {
			continue
		}
		for _, r := range m.parsed.References {
			if r.Kind != image.Child && !(r.Foreign && !im.has(r.Digest)) {
				wanted[r.Digest] = ocispec.Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size}
			}
		}
	}
	return wanted
}

// fetch brings the blobs of all manifests, and marks the manifests that lack one.
func (im *importer) fetch(ctx context.Context, repository string, all map[digest.Digest]*manifest) error {
	bad, err := im.bring(ctx, repository, im.wanted(all))
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.bad != "" {
			continue
		}
		for _, r := range m.parsed.Required() {
			if what := bad[r.Digest]; what != "" {
				m.bad = fmt.Sprintf("its %s %s %s", r.Kind, r.Digest, what)
				break
			}
		}
	}
	return nil
}

// putManifests puts images first, and then the indexes that name them.
func (im *importer) putManifests(ctx context.Context, repository string, all map[digest.Digest]*manifest) error {
	for _, d := range slices.Sorted(maps.Keys(all)) {
		m := all[d]
		if m.bad != "" {
			im.problem(repository, d.String(), "%s", m.bad)
			continue
		}
		if err := im.put(ctx, repository, m, all); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) put(ctx context.Context, repository string, m *manifest, all map[digest.Digest]*manifest) error {
	if m.put {
		return nil
	}
	m.put = true
	for _, r := range m.parsed.References {
		if child := all[r.Digest]; r.Kind == image.Child && child != nil {
			if err := im.put(ctx, repository, child, all); err != nil {
				return err
			}
		}
	}
	if im.o.Run != nil {
		if err := im.o.Run.PutManifest(ctx, repository, m.desc, m.body); err != nil {
			if !mismatch(err) {
				return fmt.Errorf("manifest %s: %w", m.desc.Digest, err)
			}
			m.bad = err.Error()
			im.problem(repository, m.desc.Digest.String(), "%s", m.bad)
			return nil
		}
	}
	im.count(func(r *Report) { r.Manifests++ })
	return nil
}

// tag sets the tags that the appliance does not have.
func (im *importer) tag(ctx context.Context, repository string, tags map[string]digest.Digest, all map[digest.Digest]*manifest) error {
	set := map[string]digest.Digest{}
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		d := tags[tag]
		switch m, err := all[d], image.CheckTag(tag); {
		case err != nil:
			im.problem(repository, tag, "%v", err)
		case m == nil:
			im.problem(repository, tag, "it names %s, which the repository does not have", d)
		case m.bad != "":
			im.problem(repository, tag, "it names %s, which is not imported", d)
		default:
			if there := im.existing(repository, tag); there != "" && there != d {
				im.problem(repository, tag, "it names %s here already, and %s there: it is left as it is", there, d)
				continue
			}
			set[tag] = d
		}
	}
	if len(set) == 0 {
		return nil
	}
	if im.o.Run != nil {
		if err := im.o.Run.Tag(ctx, map[string]map[string]digest.Digest{repository: set}); err != nil {
			return err
		}
	}
	im.count(func(r *Report) { r.Tags += len(set) })
	return nil
}

func (im *importer) existing(repository, tag string) digest.Digest {
	if im.o.Existing == nil {
		return ""
	}
	return im.o.Existing(repository, tag)
}
