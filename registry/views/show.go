package views

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/store"
)

// shown is an image that a view is to show, and its original, whose digest is "" if it is gone.
type shown struct {
	source   catalog.Source
	digest   digest.Digest
	original original
}

// show shows an image under the name of the view, and keeps the original beside it, in one run whose
// name has the reason. Nothing is visible before all of it is.
func (v *view) show(ctx context.Context, s shown, reason string) error {
	repo, tag := v.Repository()
	source, err := v.sourceName(ctx)
	if err != nil {
		return err
	}
	origin, about, err := mirror.ViewOrigin(v.Original, s.digest, source)
	if err != nil {
		return err
	}
	run, err := v.store.Runs.Begin(ctx, reason)
	if err != nil {
		return err
	}
	tags := map[string]digest.Digest{tag: s.digest}
	if s.original.digest != "" {
		tags[tag+config.OriginalSuffix] = s.original.digest
		err = copyImage(ctx, run, s.original.source, repo, s.original.digest)
	}
	if err == nil {
		err = copyImage(ctx, run, s.source, repo, s.digest)
	}
	if err == nil {
		err = run.Tag(ctx, map[string]map[string]digest.Digest{repo: tags})
	}
	if err == nil {
		err = run.Origins(ctx, map[string]map[string]map[string]json.RawMessage{repo: {tag: {origin: about}}})
	}
	if err == nil {
		return run.Commit(ctx)
	}
	return errors.Join(fmt.Errorf("show %s: %w", v.Name, err), run.Abort(context.WithoutCancel(ctx)))
}

// originsOfTag is more than one tag has.
const originsOfTag = 100

// checkName returns an error if a tag of the view names what a run has mirrored there: each of both would
// take the tag from the other, again and again. What the view has shown there too is its own.
func (v *view) checkName(ctx context.Context) error {
	repo, tag := v.Repository()
	for _, tag := range []string{tag, tag + config.OriginalSuffix} {
		all, err := v.store.Tags.Origins(ctx, store.Origin{Repository: repo, Tag: tag}, originsOfTag)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(o store.Origin) bool { return o.Repository != repo || o.Tag != tag })
		if len(all) > 0 && !slices.ContainsFunc(all, func(o store.Origin) bool { return mirror.IsView(o.About) }) {
			return hint.New(fmt.Errorf("%s:%s is where a run of mirror has put %s", repo, tag, all[0].Origin),
				"give the view another name in config.yaml, such as views/"+v.Name+"; or mirror that elsewhere, with targetCatalog or targetRepo, and delete the tag")
		}
	}
	return nil
}

// sourceName returns the name of the CatalogSource, which another catalog may have got first.
func (v *view) sourceName(ctx context.Context) (string, error) {
	origins, err := documents.Origins(ctx, v.store.Tags)
	if err != nil {
		return "", err
	}
	repo, tag := v.Repository()
	return mirror.CatalogSource(v.registry, origins, repo+":"+tag)
}

// copyImage puts an image and all that is below it into a run. Members of an index that the source
// does not have are left out, as they are at the source.
func copyImage(ctx context.Context, run *store.Run, from catalog.Source, repo string, d digest.Digest) error {
	desc, body, err := from.Manifest(ctx, d.String())
	if err != nil {
		return err
	}
	parsed, err := image.Parse(desc.MediaType, body)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	for _, r := range parsed.References {
		if r.Kind != image.Child {
			continue
		}
		if _, _, err := from.Manifest(ctx, r.Digest.String()); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := copyImage(ctx, run, from, repo, r.Digest); err != nil {
			return err
		}
	}
	if err := copyBlobs(ctx, run, from, repo, plan.NewManifest(desc, body, parsed).Blobs); err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	return run.PutManifest(ctx, repo, desc, body)
}

// copyBlobs puts blobs into a run. Those that another repository has, and the source too, are not
// copied.
func copyBlobs(ctx context.Context, run *store.Run, from catalog.Source, repo string, blobs []ocispec.Descriptor) error {
	var ask []digest.Digest
	for _, b := range blobs {
		ask = append(ask, b.Digest)
	}
	have, _, elsewhere, err := run.Existing(ctx, map[string][]digest.Digest{repo: ask}, nil)
	if err != nil {
		return err
	}
	var confirmed []ocispec.Descriptor
	for _, b := range blobs {
		if !slices.Contains(elsewhere[repo], b.Digest) {
			continue
		}
		if size, err := from.Stat(ctx, b.Digest); err == nil && size == b.Size {
			confirmed = append(confirmed, b)
		}
	}
	staged, err := run.Confirm(ctx, map[string][]ocispec.Descriptor{repo: confirmed})
	if err != nil {
		return err
	}
	there := map[digest.Digest]bool{}
	for _, d := range append(have[repo], staged[repo]...) {
		there[d] = true
	}
	for _, b := range blobs {
		if there[b.Digest] {
			continue
		}
		if err := putBlob(ctx, run, from, repo, b); err != nil {
			return err
		}
		there[b.Digest] = true
	}
	return nil
}

func putBlob(ctx context.Context, run *store.Run, from catalog.Source, repo string, b ocispec.Descriptor) error {
	body, _, err := from.Blob(ctx, b.Digest)
	if err != nil {
		return err
	}
	return errors.Join(run.PutBlob(ctx, repo, b, body), body.Close())
}
