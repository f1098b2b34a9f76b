package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/metadata"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// checkPast returns an error for an image set with a history that this run does not go on with.
func (e *engine) checkPast() error {
	if e.o.Past != nil || e.o.Documents != nil {
		return nil
	}
	return CheckStorage(e.o.Config)
}

// CheckStorage returns an error for an image set whose history only the command mirror goes on with.
func CheckStorage(c *imageset.Config) error {
	if !c.Storage.IsSet() {
		return nil
	}
	return hint.New(fmt.Errorf("%s: only appliance mirror goes on with the history of oc-mirror v1 (storageConfig)", c.At("storageConfig")),
		"run appliance mirror, or take storageConfig out of the file; nothing has been written")
}

// startsOf returns what the channels of a mirror of version 1 begin with.
func startsOf(past *metadata.Metadata) starts {
	s := starts{Operators: map[string]map[string]map[string]string{}, Channels: map[string]string{}}
	for _, p := range past.PastMirror.Platforms {
		s.Channels[p.Channel] = p.MinVersion
	}
	for _, o := range past.PastMirror.Operators {
		packages := map[string]map[string]string{}
		for _, p := range o.Packages {
			packages[p.Name] = map[string]string{}
			for _, c := range p.Channels {
				packages[p.Name][c.Name] = c.MinVersion
			}
		}
		s.Operators[o.Catalog] = packages
	}
	return s
}

// next returns what is to be remembered after a run in which nothing failed.
func (e *engine) next(r *Report) (*metadata.Metadata, error) {
	run := metadata.PastMirror{Timestamp: r.Started.Unix()}
	var of struct {
		Mirror json.RawMessage `json:"mirror"`
	}
	text, err := yaml.YAMLToJSON(e.o.Config.Text)
	if err == nil {
		err = json.Unmarshal(text, &of)
	}
	if err != nil {
		return nil, fmt.Errorf("remember the image set: %w", err)
	}
	begun := e.begun(r)
	if run.Mirror, err = e.resolvedV1(of.Mirror, begun.Channels, r.Mirrored); err != nil {
		return nil, fmt.Errorf("remember the image set: %w", err)
	}
	for _, channel := range slices.Sorted(maps.Keys(begun.Channels)) {
		head := func(c imageset.Channel) bool {
			return c.Name == channel && !c.Full && (c.MinVersion == "" || c.MaxVersion == "")
		}
		if slices.ContainsFunc(e.o.Config.Mirror.Platform.Channels, head) { // version 1 goes on from there, for those only
			run.Platforms = append(run.Platforms, metadata.Platform{Channel: channel, MinVersion: begun.Channels[channel]})
		}
	}
	for _, o := range e.o.Config.Mirror.Operators {
		of := operatorV1(o, begun.Operators[o.UniqueName()])
		of.ImagePin = e.catalogs.Pins()[of.Catalog]
		run.Operators = append(run.Operators, of)
	}
	for _, i := range r.Mirrored {
		run.Associations = append(run.Associations, e.associations(i)...)
	}
	return e.o.Past.Next(run, e.associated(run.Associations)), nil
}

// resolvedV1 returns the section mirror of an image set with the versions that channels were mirrored from and to:
// version 1 compares them with those of its next run, and fails without.
func (e *engine) resolvedV1(section json.RawMessage, begun map[string]string, images []*plan.Image) (json.RawMessage, error) {
	var all map[string]json.RawMessage
	var platform map[string]json.RawMessage
	var channels []map[string]any
	if json.Unmarshal(section, &all) != nil || json.Unmarshal(all["platform"], &platform) != nil || json.Unmarshal(platform["channels"], &channels) != nil {
		return section, nil // it has no channels
	}
	for n, c := range e.o.Config.Mirror.Platform.Channels {
		least := cmp.Or(c.MinVersion, begun[c.Name])
		most := cmp.Or(c.MaxVersion, newestOf(c.Name, images), least)
		if n < len(channels) && most != "" {
			channels[n]["minVersion"], channels[n]["maxVersion"] = cmp.Or(least, most), most
		}
	}
	text, err := json.Marshal(channels)
	if err != nil {
		return nil, err
	}
	platform["channels"] = text
	if all["platform"], err = json.Marshal(platform); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// newestOf returns the newest release of a channel, "" if there is none.
func newestOf(channel string, images []*plan.Image) string {
	newest := semver.Version{}
	for _, i := range images {
		name := i.Release[:max(strings.LastIndexByte(i.Release, '-'), 0)] // without its architecture
		if v, err := semver.Parse(name); err == nil && i.Type == plan.Release && i.Channel == channel && v.GT(newest) {
			newest = v
		}
	}
	if newest.Equals(semver.Version{}) {
		return ""
	}
	return newest.String()
}

func operatorV1(o imageset.Operator, packages map[string]map[string]string) metadata.Operator {
	to := metadata.Operator{Catalog: o.UniqueName(), Packages: []metadata.Package{}}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		p := metadata.Package{Name: name}
		for _, channel := range slices.Sorted(maps.Keys(packages[name])) {
			p.Channels = append(p.Channels, metadata.Channel{Name: channel, MinVersion: packages[name][channel]})
		}
		to.Packages = append(to.Packages, p)
	}
	return to
}

// associations returns those of an image: of its manifest, and of the members of a list. Version 1 makes
// graph images and catalogs, and has none of them.
func (e *engine) associations(i *plan.Image) (all []metadata.Association) {
	kind := string(i.Type)
	switch i.Type {
	case plan.Graph, plan.OperatorCatalog:
		return nil
	case plan.Helm:
		kind = string(plan.Generic)
	}
	at := path.Join(e.o.Registry, i.Repository) + "@" + i.Digest.String()
	for _, m := range i.Manifests {
		a := metadata.Association{Name: m.Descriptor.Digest.String(), Path: at, ID: m.Descriptor.Digest, Type: kind}
		if m.Descriptor.Digest == i.Digest {
			a.Name, a.TagSymlink = nameV1(i)
		}
		for _, b := range m.Blobs {
			a.LayerDigests = append(a.LayerDigests, b.Digest)
		}
		if image.IsIndex(m.Descriptor.MediaType) {
			a.ManifestDigests, a.LayerDigests = members(i, m), nil
		}
		if len(a.ManifestDigests)+len(a.LayerDigests) > 0 { // else version 1 refuses all of the metadata
			all = append(all, a)
		}
	}
	return all
}

// nameV1 returns the name that version 1 knows an image by, which has its digest, and its tag: that of its source, or
// one that is made.
func nameV1(i *plan.Image) (name, tag string) {
	const shown = 6
	switch {
	case i.Reference.IsLayout():
		return i.Reference.String(), i.Reference.Tag
	case i.Reference.Tag != "":
		tag = i.Reference.Tag
	case i.Type == plan.Generic || i.Type == plan.Helm:
		tag = i.Tag
	default:
		tag = i.Digest.Encoded()[:shown]
	}
	return i.Reference.Name() + "@" + i.Digest.String(), tag
}

// members returns the members of a list that were mirrored.
func members(i *plan.Image, list plan.Manifest) (all []digest.Digest) {
	parsed, err := image.Parse(list.Descriptor.MediaType, list.Body)
	if err != nil {
		return nil
	}
	for _, r := range parsed.References {
		if r.Kind == image.Child && slices.ContainsFunc(i.Manifests, func(m plan.Manifest) bool { return m.Descriptor.Digest == r.Digest }) {
			all = append(all, r.Digest)
		}
	}
	return all
}

// associated returns the images of all runs: those of this one, and where nothing was deleted those of
// earlier ones, so that a later run can delete them.
func (e *engine) associated(now []metadata.Association) []metadata.Association {
	if e.o.Prune != nil {
		return now
	}
	known := map[[2]string]bool{}
	for _, a := range now {
		known[[2]string{a.Name, a.Path}] = true
	}
	all := slices.Clone(now)
	for _, a := range e.o.Past.PastAssociations {
		if !known[[2]string{a.Name, a.Path}] {
			all = append(all, a)
		}
	}
	return all
}

// unaskedV1 returns what a mirror of version 1 remembers to have mirrored, and the plan does not have: by its digest, as
// version 1 deletes it, and by those of its tags that still name it, which would else be a need of others. What is
// listed already is left out.
func (e *engine) unaskedV1(ctx context.Context, from Pruner, p *plan.Plan, listed []*plan.Image) (all []*plan.Image, err error) {
	if e.o.Past == nil || e.o.Past.SingleUse {
		return nil, nil
	}
	asked := map[place]bool{}
	for _, i := range p.Images {
		asked[place{i.Repository, i.Digest}] = true
		for _, m := range i.Manifests {
			asked[place{i.Repository, m.Descriptor.Digest}] = true
		}
	}
	for _, i := range listed {
		asked[place{i.Repository, i.Digest}] = true
	}
	for _, a := range e.o.Past.PastAssociations {
		repository := e.repositoryV1(a.Path)
		at := place{repository, a.ID}
		if digest.Digest(a.Name).Validate() == nil || a.ID.Validate() != nil || !image.ValidRepository(repository) || asked[at] {
			continue // the members of a list go with it
		}
		asked[at] = true
		i := &plan.Image{Type: plan.Type(a.Type), Origin: a.Name, Repository: repository, Digest: a.ID}
		tags, err := tagsV1(ctx, from, i, a)
		if err != nil {
			return nil, err
		}
		for _, tag := range tags {
			as := *i
			as.Tag = tag
			all = append(all, &as)
		}
		all = append(all, i)
	}
	return all, nil
}

// repositoryV1 returns the repository of a path as version 1 has it: of a name with a registry, or of one
// below the prefix of the run.
func (e *engine) repositoryV1(at string) string {
	at, _, _ = strings.Cut(at, "@")
	if n := strings.LastIndexByte(at, ':'); n > strings.LastIndexByte(at, '/') {
		at = at[:n]
	}
	host, below, ok := strings.Cut(at, "/")
	if ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return below
	}
	return e.repository(at)
}

// named returns the complete name of an image at its destination: by its tag, or by its digest, if only
// that is known.
func (e *engine) named(i *plan.Image) string {
	if i.Tag == "" {
		return e.o.Registry + "/" + i.Repository + "@" + i.Digest.String()
	}
	return e.destination(i)
}
