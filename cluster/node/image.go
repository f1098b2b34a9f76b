package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
)

// state is what was found of an image.
type state struct {
	wanted
	at                place // where nodes get it
	top               *manifest
	manifests, layers int
	signed, asked     int      // of the manifests
	sparse            []string // architectures of a list that are not there
	wide              string   // the entry about it, if that is of more than its repository
	unmapped, second  []problem
	missing, refused  []problem
	others            []*other
}

// manifest is one that was read.
type manifest struct {
	digest digest.Digest
	parsed image.Manifest
	body   []byte
}

// layers returns the layers, the lowest first.
func (m *manifest) layers() (all []digest.Digest) {
	for _, r := range m.parsed.References {
		if r.Kind == image.Layer {
			all = append(all, r.Digest)
		}
	}
	return all
}

func (c *checker) manifest(ctx context.Context, at place, ref string) (*manifest, error) {
	client, err := c.client(at.registry)
	if err != nil {
		return nil, err
	}
	desc, body, err := client.Manifest(ctx, at.repository, ref)
	if err != nil {
		return nil, err
	}
	parsed, err := image.Parse(desc.MediaType, body)
	if err != nil {
		return nil, fmt.Errorf("%s@%s: %w", at, desc.Digest, err)
	}
	return &manifest{desc.Digest, parsed, body}, nil
}

// image looks at an image: where it is mirrored, its manifests, its layers, and what is attached to it.
func (c *checker) image(ctx context.Context, w wanted) *state {
	s := &state{wanted: w}
	places, source, mirrored := c.places(w.ref)
	if mirrored && c.InstallConfig && source.Source != w.ref.Name() {
		s.wide = source.Source
	}
	if !mirrored && w.name != "release" {
		s.unmapped = append(s.unmapped, problem{fmt.Sprintf("%s: no mirror is named for %s: nodes ask it itself", w.name, w.ref.Name()),
			"make the files anew: appliance cluster-config; or put it into imageDigestSources and the mirror sets"})
		return s
	}
	isDown := func(p place) bool { return slices.Contains(c.down, p.registry) } // which was told
	if up := slices.DeleteFunc(slices.Clone(places), isDown); len(up) > 0 {
		places = up
	}
	for n, at := range places {
		m, err := c.manifest(ctx, at, w.ref.Digest().String())
		switch {
		case err == nil:
			if n > 0 {
				s.second = append(s.second, problem{fmt.Sprintf("%s: %s has it, and %s, which comes first, does not", w.name, at, places[0]), "the installer asks the first mirror only: mirror it there too"})
			}
			s.at, s.top = at, m
			c.whole(ctx, s, m)
			c.elsewhere(ctx, s, places[n+1:])
			return s
		case n < len(places)-1:
			continue
		}
		text := fmt.Sprintf("%s: %s", w.name, err)
		if mirrored && !source.NeverContact && errors.Is(err, fs.ErrNotExist) {
			text += "; nodes would ask " + source.Source
		}
		s.missing = append(s.missing, problem{text, "mirror it again: appliance mirror"})
	}
	return s
}

// whole looks at the parts of an image that is there.
func (c *checker) whole(ctx context.Context, s *state, m *manifest) {
	parts := []*manifest{m}
	if image.IsIndex(m.parsed.EffectiveType()) {
		children, err := c.children(ctx, s.at, m)
		if err == nil && len(children.held) == 0 {
			err = fmt.Errorf("%s@%s: none of the images of the list is there", s.at, m.digest)
		}
		if err != nil {
			s.missing = append(s.missing, problem{s.name + ": " + err.Error(), hint.Of(err)})
			return
		}
		parts, s.sparse = append(parts, children.held...), children.absent
	}
	for _, part := range parts {
		s.manifests++
		for _, r := range part.parsed.Required() {
			s.layers++
			if err := c.layer(ctx, s.at, r.Digest); err != nil {
				s.missing = append(s.missing, problem{s.name + ": " + err.Error(), "mirror it again: appliance mirror; on the registry's host: appliance verify"})
				return
			}
		}
		c.attachment(ctx, s, part)
	}
}

// children are the images of a list.
type children struct {
	held   []*manifest
	absent []string // architectures that are not there, where none was asked for
}

// children reads the images of a list: with an architecture of the hosts that one, else those that are
// there.
func (c *checker) children(ctx context.Context, at place, m *manifest) (found children, err error) {
	arch := cluster.Architecture(c.Machine)
	archs := labels(m.body)
	for _, r := range m.parsed.References {
		if r.Kind != image.Child || arch != "" && archs[r.Digest] != arch {
			continue
		}
		child, err := c.manifest(ctx, at, r.Digest.String())
		if errors.Is(err, fs.ErrNotExist) && arch == "" {
			found.absent = append(found.absent, archs[r.Digest])
			continue
		}
		if err != nil {
			return found, err
		}
		found.held = append(found.held, child)
	}
	return found, nil
}

// layer asks for a layer, without fetching it. Images share layers, which are asked for once.
func (c *checker) layer(ctx context.Context, at place, d digest.Digest) error {
	key := at.String() + "@" + d.String()
	c.mu.Lock()
	err, known := c.heads[key]
	c.mu.Unlock()
	if known {
		return err
	}
	client, err := c.client(at.registry)
	if err == nil {
		_, err = client.Stat(ctx, at.repository, d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heads[key] = err
	return err
}

// attachment asks for the signatures of a manifest as nodes do, which accept few answers as "not
// signed" and fail the pull at any other, also of images that no policy is about.
func (c *checker) attachment(ctx context.Context, s *state, m *manifest) {
	tags := image.AttachmentTags(m.digest)
	if len(tags) == 0 {
		return
	}
	s.asked++
	signature, err := c.manifest(ctx, s.at, tags[0])
	if kind := mediaType(signature); err == nil && kind != ocispec.MediaTypeImageManifest {
		err = fmt.Errorf("%s:%s is of type %s", s.at, tags[0], kind)
	}
	if err == nil {
		for _, r := range signature.parsed.Required() {
			if err = c.layer(ctx, s.at, r.Digest); err != nil {
				break
			}
		}
	}
	if err == nil {
		s.signed++
		return
	}
	if !isUnsigned(err) && ctx.Err() == nil {
		s.refused = append(s.refused, problem{s.name + ": " + err.Error() + ": nodes take this for an error, and do not pull the image",
			"a node must get 404 with MANIFEST_UNKNOWN for a signature that is not there: check proxies before the registry, and the rights of the user"})
	}
}

// mediaType returns that of a manifest; nodes take signatures of OCI's only.
func mediaType(m *manifest) string {
	if m == nil {
		return ""
	}
	return m.parsed.EffectiveType()
}

// isUnsigned reports whether an answer is one that nodes take for "not signed": 404 with
// MANIFEST_UNKNOWN, with UNKNOWN and a message with "not found", or without an error in its body.
func isUnsigned(err error) bool {
	var answered interface {
		Answer() (status int, code, message string)
	}
	if !errors.As(err, &answered) {
		return false
	}
	status, code, message := answered.Answer()
	switch {
	case status != 404:
		return false
	case code == "MANIFEST_UNKNOWN", code == "":
		return true
	}
	return code == "UNKNOWN" && strings.Contains(strings.ToLower(message), "not found")
}
