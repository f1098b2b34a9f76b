package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/metadata"
)

// pastV1 is where a mirror of version 1 is remembered: at its source, and at its destination.
type pastV1 struct {
	stores  []metadata.Store
	archive *metadata.Metadata // of the archive that is mirrored from
}

// write writes what is to be remembered, nil for nothing.
func (p pastV1) write(ctx context.Context, next *metadata.Metadata) error {
	if next == nil {
		next = p.archive
	}
	if next == nil {
		return nil
	}
	for _, s := range p.stores {
		if err := metadata.Write(ctx, s, next); err != nil {
			return hint.New(err, "the images are mirrored: run the same command again")
		}
	}
	return nil
}

// goOn has a run go on with what is remembered of a mirror of version 1, and gives it the registry to delete
// from: with a history that is what version 1 does unless it is told not to.
func (o *mirrorOptions) goOn(ctx context.Context, argument string, keys authn.Keychain, run *mirror.Options) (past pastV1, done func(), err error) {
	var opened []*pruner
	done = func() {
		for _, p := range opened {
			p.registries.Close()
		}
	}
	open := func(registry string, insecure bool) (*pruner, error) {
		as := *o
		as.destVerify = o.destVerify && !insecure
		at, _, err := as.pruner(ctx, registry, run.Prefix, keys, o.log)
		if err == nil {
			opened = append(opened, at)
		}
		return at, err
	}
	toRegistry := !strings.HasPrefix(argument, "file://")
	stored := o.set.v1 && run.Config.Storage.IsSet() && len(o.from) == 0
	var at *pruner
	published := o.set.v1 && o.v1.Metadata != nil
	if toRegistry && (o.prune || stored || published) {
		if at, err = open(run.Registry, false); err != nil {
			return past, done, err
		}
	}
	if o.prune || stored && toRegistry && !o.skipPruning {
		run.Prune = at
	}
	if published {
		past, err = o.publish(ctx, at, path.Join(run.Prefix, "oc-mirror"))
	}
	if !stored {
		return past, done, err
	}
	source, err := storeV1(run.Config.Storage, open)
	if err != nil {
		return past, done, err
	}
	if run.Past, err = metadata.Read(ctx, source); err != nil {
		return past, done, err
	}
	if run.Past == nil {
		run.Past = metadata.New()
	}
	past.stores = append(past.stores, source)
	if !toRegistry {
		return past, done, nil
	}
	there := metadata.Image{Registry: at, Repository: path.Join(run.Prefix, "oc-mirror"), Tag: run.Past.UID.String()}
	past.stores = append(past.stores, there)
	err = o.checkSequence(ctx, []int{run.Past.PastMirror.Sequence + 1}, there)
	if errors.As(err, new(metadata.OrderError)) {
		err = hint.New(err, "storageConfig has runs into another destination, or this one has lost its metadata: give each destination a storageConfig of its own, or leave the check out: --skip-metadata-check")
	}
	return past, done, err
}

// storeV1 returns where storageConfig has the metadata.
func storeV1(s imageset.Storage, open func(registry string, insecure bool) (*pruner, error)) (metadata.Store, error) {
	if s.Local.Path != "" {
		return metadata.Directory(s.Local.Path), nil
	}
	ref, err := imageset.ParseReference(s.Registry.ImageURL)
	if err != nil {
		return nil, fmt.Errorf("storageConfig.registry.imageURL: %w", err)
	}
	at, err := open(ref.Registry(), s.Registry.SkipTLS)
	if err != nil {
		return nil, err
	}
	return metadata.Image{Registry: at, Repository: ref.Repository(), Tag: ref.Tag}, nil
}

// publish checks that archives follow the last one at their destination, which has the metadata of the newest
// after the run. What is for a single use is not remembered.
func (o *mirrorOptions) publish(ctx context.Context, at *pruner, repository string) (past pastV1, err error) {
	of, err := metadata.Parse(o.v1.Metadata)
	if err != nil || of.SingleUse {
		return past, err
	}
	there := metadata.Image{Registry: at, Repository: repository, Tag: of.UID.String()}
	if err := o.checkSequence(ctx, o.v1.Sequences, there); err != nil {
		if errors.As(err, new(metadata.OrderError)) {
			err = hint.New(err, "mirror from the archive with that sequence first, or leave the check out: --skip-metadata-check")
		}
		return past, fmt.Errorf("error during publishing, %w", err)
	}
	return pastV1{[]metadata.Store{there}, of}, nil
}

// checkSequence checks that one of some sequences follows the last run to its destination, in version 1's
// words.
func (o *mirrorOptions) checkSequence(ctx context.Context, sequences []int, there metadata.Store) error {
	if o.skipCheck || o.skipPruning { // as there
		return nil
	}
	last, err := metadata.Read(ctx, there)
	if err != nil {
		return err
	}
	for _, n := range sequences {
		if err = metadata.Check(n, last); err == nil {
			return nil
		}
	}
	if errors.As(err, new(metadata.SameError)) {
		return hint.New(err, "the destination has a run that storageConfig does not have: restore that, or leave the check out: --skip-metadata-check")
	}
	return err
}
