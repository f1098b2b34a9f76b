package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/release"
)

// enforced begins the names of images whose signatures the policy of a release is about.
const enforced = "quay.io/openshift-release-dev/"

const (
	atOnce = 16 // images
	most   = 40 // releases that are looked at unless they are named
	listed = 10 // images that are told one by one
)

// heldReleases returns the releases that the tags of the mirrors name, by the names that their sources
// have.
func (c *checker) heldReleases(ctx context.Context) (all []string) {
	for _, s := range c.Sources {
		seen := map[string]string{} // registry by path and tag: another one with the same is looked at with it
		for _, m := range s.Mirrors {
			host, path, _ := strings.Cut(m, "/")
			client, err := c.client(host)
			if err != nil || path == "" || slices.Contains(c.down, host) {
				continue
			}
			tags, err := client.Tags(ctx, path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				c.tell(finding.Failed, "release", m, err.Error(), "")
				continue
			}
			for _, tag := range tags {
				if !cluster.IsRelease(tag) {
					continue
				}
				if elsewhere := path + ":" + tag; seen[elsewhere] == "" || seen[elsewhere] == host {
					seen[elsewhere] = host
					all = append(all, m+":"+tag)
				}
			}
		}
	}
	switch {
	case len(c.down) > 0 && len(c.down) == len(c.Mirrors()) || ctx.Err() != nil:
		return nil
	case len(all) == 0:
		c.tell(finding.Failed, "release", "", "no mirror has a release", "mirror one (appliance mirror), or name one that is pulled through: --release HOST:PORT/REPOSITORY@sha256:…")
	case len(all) > most:
		c.tell(finding.Failed, "release", "", fmt.Sprintf("the mirrors have %d releases, some of which an upstream may have and not the registry", len(all)), "name the ones to look at: --release "+all[len(all)-1])
		return nil
	}
	return all
}

// payload is a release that is looked at.
type payload struct {
	spec   string // as it was named
	name   string // of its tag, if it has one
	images []wanted
	release.Payload
}

// wanted is an image that nodes pull.
type wanted struct {
	name string // of the component
	ref  reference.Canonical
}

// release looks at a release: that its payload can be read, and everything of each image in it.
func (c *checker) release(ctx context.Context, spec string) {
	named, err := reference.ParseNormalizedNamed(spec)
	if err != nil {
		c.tell(finding.Failed, "release", spec, err.Error(), "name it like registry.example.com:8443/openshift/release-images@sha256:…")
		return
	}
	places, _, _ := c.places(named)
	places = slices.DeleteFunc(places, func(p place) bool { return slices.Contains(c.down, p.registry) })
	if len(places) == 0 {
		return // which was told of the registry
	}
	p, err := c.payload(ctx, named, places)
	if err != nil {
		if ctx.Err() == nil {
			c.tell(finding.Failed, "release", spec, err.Error(), "mirror it (appliance mirror), or name another: --release")
		}
		return
	}
	c.tell(finding.OK, "release", spec, fmt.Sprintf("OpenShift %s with %d images", cmp.Or(p.Version, "of an unknown version"), len(p.Components)), "")
	states := c.images(ctx, p)
	if ctx.Err() != nil {
		return
	}
	c.tellMirrors(p, states)
	c.tellImages(p, states)
	c.tellOthers(p, states)
	c.tellSignatures(p, states)
	c.bootImage(ctx, p, states)
}

// payload reads the list of images of a release.
func (c *checker) payload(ctx context.Context, named reference.Named, places []place) (p *payload, err error) {
	p = &payload{spec: named.String(), name: named.String()}
	ref := "latest"
	switch n := named.(type) {
	case reference.Digested:
		ref = n.Digest().String()
		p.name = ref[:len("sha256:")+12]
	case reference.Tagged:
		ref, p.name = n.Tag(), n.Tag()
	}
	for _, at := range places {
		m, err := c.manifest(ctx, at, ref)
		if errors.Is(err, fs.ErrNotExist) && len(places) > 1 && at != places[len(places)-1] {
			continue
		}
		if err != nil {
			return nil, err
		}
		p.add("release", reference.TrimNamed(named), m.digest)
		one, err := c.instance(ctx, at, m)
		if err != nil {
			return nil, err
		}
		if p.Payload, err = c.readPayload(ctx, at, one); err != nil {
			return nil, err
		}
		for _, component := range p.Components {
			ref, err := reference.ParseNormalizedNamed(component.Image)
			digested, ok := ref.(reference.Canonical)
			if err != nil || !ok {
				return nil, fmt.Errorf("component %s is not named by digest: %s", component.Name, component.Image)
			}
			p.add(component.Name, reference.TrimNamed(digested), digested.Digest())
		}
		return p, nil
	}
	return nil, fs.ErrNotExist
}

func (p *payload) add(name string, at reference.Named, d digest.Digest) {
	ref, err := reference.WithDigest(at, d)
	if err == nil {
		p.images = append(p.images, wanted{name, ref})
	}
}

// instance returns the image of a list that is read: that of the hosts' architecture, or the first
// that is there.
func (c *checker) instance(ctx context.Context, at place, m *manifest) (*manifest, error) {
	if !image.IsIndex(m.parsed.EffectiveType()) {
		return m, nil
	}
	children, err := c.children(ctx, at, m)
	if err == nil && len(children.held) == 0 {
		err = fmt.Errorf("none of the images of list %s is there: %w", m.digest, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return children.held[0], nil
}

// readPayload reads the list of images in the upper layers of a payload.
func (c *checker) readPayload(ctx context.Context, at place, m *manifest) (release.Payload, error) {
	client, err := c.client(at.registry)
	if err != nil {
		return release.Payload{}, err
	}
	p, err := release.ReadLayers(m.layers(), func(d digest.Digest) (io.ReadCloser, error) {
		body, _, err := client.Blob(ctx, at.repository, d)
		return body, err
	})
	if err != nil {
		err = fmt.Errorf("%s@%s: %w", at, m.digest, err)
	}
	return p, err
}

// images looks at all images of a release.
func (c *checker) images(ctx context.Context, p *payload) []*state {
	states := make([]*state, len(p.images))
	done := 0
	var g errgroup.Group
	g.SetLimit(atOnce)
	for n, one := range p.images {
		g.Go(func() error {
			states[n] = c.image(ctx, one)
			c.mu.Lock()
			defer c.mu.Unlock()
			done++
			c.options.Progress(done, len(p.images))
			return nil
		})
	}
	_ = g.Wait() // each state has its own problems
	return states
}

// problems tells what some images lack, one line each, and reports whether there was none.
func (c *checker) problems(check string, p *payload, level finding.Level, all []problem) bool {
	for n, one := range all {
		if n == listed {
			c.tell(level, check, p.name, fmt.Sprintf("and %d more images", len(all)-n), "")
			break
		}
		c.tell(level, check, p.name, one.text, one.hint)
	}
	return len(all) == 0
}

// problem is what is wrong with an image.
type problem struct{ text, hint string }

func collect(states []*state, of func(*state) []problem) (all []problem) {
	for _, s := range states {
		all = append(all, of(s)...)
	}
	return all
}

func (c *checker) tellMirrors(p *payload, states []*state) {
	none := c.problems("mirrors", p, finding.Failed, collect(states, func(s *state) []problem { return s.unmapped }))
	second := c.problems("mirrors", p, finding.Warning, collect(states, func(s *state) []problem { return s.second }))
	for _, s := range states {
		if s.wide != "" {
			c.tell(finding.Warning, "mirrors", p.name, "the entry "+s.wide+" is of more than a repository: openshift-install compares names of repositories, and does not find "+s.ref.Name()+" in it",
				"name repositories in imageDigestSources: appliance cluster-config does")
			return
		}
	}
	if none && second {
		c.tell(finding.OK, "mirrors", p.name, "each image has a mirror", "")
	}
}

func (c *checker) tellImages(p *payload, states []*state) {
	manifests, layers := 0, 0
	sparse := map[string]bool{}
	for _, s := range states {
		manifests, layers = manifests+s.manifests, layers+s.layers
		for _, arch := range s.sparse {
			sparse[arch] = true
		}
	}
	if !c.problems("images", p, finding.Failed, collect(states, func(s *state) []problem { return s.missing })) {
		return
	}
	text := fmt.Sprintf("%d manifests and their %d layers are there", manifests, layers)
	if n := c.through(states); n > 0 {
		text += fmt.Sprintf("; %d of %d images are at an upstream's place, and may have yet to come from there", n, len(states))
	}
	if len(sparse) > 0 {
		archs := make([]string, 0, len(sparse))
		for arch := range sparse {
			archs = append(archs, arch)
		}
		slices.Sort(archs)
		c.tell(finding.Warning, "images", p.name, text+", but not those for "+strings.Join(archs, ", "), "hosts of these architectures cannot be installed from it: mirror them with platform.architectures, or see --arch")
		return
	}
	c.tell(finding.OK, "images", p.name, text, "")
}

// through returns how many images are read where an upstream gives what is not held.
func (c *checker) through(states []*state) (n int) {
	for _, s := range states {
		if slices.ContainsFunc(c.Through, func(prefix string) bool { return strings.HasPrefix(s.at.String()+"/", prefix+"/") }) {
			n++
		}
	}
	return n
}

func (c *checker) tellSignatures(p *payload, states []*state) {
	signed, asked := 0, 0
	for _, s := range states {
		signed, asked = signed+s.signed, asked+s.asked
	}
	if !c.problems("signatures", p, finding.Failed, collect(states, func(s *state) []problem { return s.refused })) {
		return
	}
	text := fmt.Sprintf("%d of %d manifests are signed; the answer about the others is one that nodes accept", signed, asked)
	if signed == asked {
		text = fmt.Sprintf("all %d manifests are signed", asked)
	}
	if signed < asked && cluster.Enforces(p.Version) {
		level := finding.Warning
		if slices.ContainsFunc(states, func(s *state) bool { return s.signed < s.asked && strings.HasPrefix(s.ref.Name(), enforced) }) {
			level = finding.Failed
		}
		c.tell(level, "signatures", p.name, text, "nodes of this version verify the vendor's images at each pull: mirror it again, and see what the report says of signatures")
		return
	}
	c.tell(finding.OK, "signatures", p.name, text, "")
}

// labels returns the platform of each child of a list.
func labels(body []byte) map[digest.Digest]string {
	var list struct {
		Manifests []struct {
			Digest   digest.Digest
			Platform struct{ OS, Architecture string }
		}
	}
	_ = json.Unmarshal(body, &list) // it was parsed before
	all := map[digest.Digest]string{}
	for _, m := range list.Manifests {
		all[m.Digest] = m.Platform.Architecture
	}
	return all
}
