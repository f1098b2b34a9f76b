package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// BundleSize is how large a bundle of an operator is with all of its images. A blob that several of
// them have counts once.
type BundleSize struct {
	Bundle  string   `json:"name"`
	Version string   `json:"version"`
	Images  int      `json:"images"`
	Bytes   int64    `json:"bytes"`
	Unknown []string `json:"unknown,omitempty"` // images whose manifests cannot be read, with the reasons
}

// BundleSizes reads the manifests of the images that some bundles need, and nothing else of them. It
// returns the size of each bundle, in their order, and of all together.
func BundleSizes(ctx context.Context, open func(imageset.Reference) (Source, error), related []operator.RelatedImage) (each []BundleSize, all BundleSize, err error) {
	images, unknown := readRelated(ctx, open, related)
	if ctx.Err() != nil {
		return nil, all, ctx.Err()
	}
	var of []*plan.Image
	failed := map[string]bool{}
	for n, r := range related {
		if n == 0 || related[n-1].Bundle != r.Bundle {
			each, of = append(each, BundleSize{Bundle: r.Bundle, Version: r.Version}), nil
		}
		last := &each[len(each)-1]
		if reason, ok := unknown[r.Image]; ok || r.Fault != nil {
			if r.Fault != nil {
				reason = r.Fault.Error()
			}
			text := fmt.Sprintf("%s: %s", r.Image, reason)
			last.Unknown, failed[text] = append(last.Unknown, text), true
		} else {
			of = append(of, images[r.Image])
		}
		size := plan.SizeOf(of, nil)
		last.Images, last.Bytes = len(of)+len(last.Unknown), size.Bytes
	}
	var whole []*plan.Image
	for _, i := range images {
		whole = append(whole, i)
	}
	all = BundleSize{Images: len(images) + len(failed), Bytes: plan.SizeOf(whole, nil).Bytes, Unknown: slices.Sorted(maps.Keys(failed))}
	return each, all, nil
}

// readRelated reads the manifests of images, each once, or returns the reasons that it cannot.
func readRelated(ctx context.Context, open func(imageset.Reference) (Source, error), related []operator.RelatedImage) (map[string]*plan.Image, map[string]string) {
	var g errgroup.Group
	g.SetLimit(maxParallel)
	var mu sync.Mutex // guards the maps
	images, unknown := map[string]*plan.Image{}, map[string]string{}
	reader := newReader(open)
	var names []string
	for _, r := range related {
		if r.Fault == nil {
			names = append(names, r.Image)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		g.Go(func() error {
			i := &plan.Image{Origin: name}
			var err error
			if i.Reference, err = imageset.ParseReference(name); err == nil {
				err = reader.Read(ctx, i)
			}
			mu.Lock()
			defer mu.Unlock()
			if images[name] = i; err != nil {
				delete(images, name)
				unknown[name] = err.Error()
			}
			return nil
		})
	}
	_ = g.Wait() // each image has its own error
	return images, unknown
}
