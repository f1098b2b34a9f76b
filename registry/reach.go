package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	// answerTime is how long the registry of a catalog may take to tell which image its name means: a
	// page waits for it.
	answerTime = time.Minute
	// readTime is how long the whole may take: a vendor's catalog has a gigabyte.
	readTime = time.Hour
)

var (
	errNoAnswer = hint.New(fmt.Errorf("the registry has not answered within %s", answerTime), "see whether this host reaches it, and its proxy")
	errTooLong  = hint.New(fmt.Errorf("the catalog was not read within %s", readTime), "the line is slow: type the names of packages, a run fetches only what they need")
)

// reachedAtMost is how many catalogs of other registries are remembered. Each is a file of some megabytes.
const reachedAtMost = 8

// openReach makes the job that reads catalogs at their registries. It takes no turn among the runs, of which
// one may last for hours.
func (d *daemon) openReach() {
	const name = "reading of a catalog"
	d.reading = newBoard[api.CatalogReading, []api.ReachedCatalog](d, name, func(p *api.CatalogReading, host string) { p.Host = host })
	d.jobs.Reach = jobs.New(jobs.Kind[api.CatalogRead, api.CatalogReading, api.ReachedCatalog]{
		Name: name, Alone: d.alone(name), Drain: d.draining, Log: d.log,
		Run: shown(d.reading, func() bool { return d.jobs.Reach.Stop() }, reaching{d}.run),
	})
	d.onClose(func() error {
		d.jobs.Reach.Wait()
		return nil
	})
}

// reaching has the catalogs that were read at their registries.
type reaching struct{ *daemon }

// run is the job.
func (r reaching) run(ctx context.Context, q api.CatalogRead, progress func(api.CatalogReading)) (api.ReachedCatalog, error) {
	now := api.CatalogReading{Began: time.Now(), Catalog: q.Catalog}
	progress(now)
	one, err := r.reach(ctx, q, func(fetched int64) {
		now.Fetched = fetched
		progress(now)
	})
	if err != nil && ctx.Err() != nil {
		return one, err
	}
	all := r.list(context.WithoutCancel(ctx))
	kept := one
	if err != nil {
		kept = all.of(q.Catalog)
		kept.Error = troubleOf(err)
	}
	all = all.with(kept)
	r.reading.keep((*[]api.ReachedCatalog)(&all))
	return one, err
}

// reachedCatalogs are catalogs that were read at other registries, the last one first.
type reachedCatalogs []api.ReachedCatalog

func (r reaching) list(ctx context.Context) reachedCatalogs {
	if _, all := r.reading.look(ctx); all != nil {
		return *all
	}
	return reachedCatalogs{}
}

// of returns what is known of a catalog by its name.
func (all reachedCatalogs) of(name string) api.ReachedCatalog {
	if i := slices.IndexFunc(all, func(c api.ReachedCatalog) bool { return c.Catalog == name }); i >= 0 {
		return all[i]
	}
	return api.ReachedCatalog{Catalog: name}
}

// with returns the list with one in the first place.
func (all reachedCatalogs) with(one api.ReachedCatalog) reachedCatalogs {
	others := slices.DeleteFunc(slices.Clone(all), func(c api.ReachedCatalog) bool { return c.Catalog == one.Catalog })
	others = slices.Insert(others, 0, one)
	return others[:min(len(others), reachedAtMost)]
}

// has reports whether one of them has a digest.
func (r reaching) has(d digest.Digest) bool {
	return slices.ContainsFunc(r.list(context.Background()), func(c api.ReachedCatalog) bool { return c.Digest == d })
}

// Reached implements admin.Reaching.
func (r reaching) Reached(ctx context.Context) api.ReachedCatalogs {
	seen := r.reading.see(ctx)
	all := reachedCatalogs{}
	if seen.last != nil {
		all = *seen.last
	}
	if cut := seen.interrupted; cut != nil && all.of(cut.Catalog).Read.Before(cut.Began) {
		one := all.of(cut.Catalog)
		one.Error = troubleOf(hint.New(fmt.Errorf("the daemon on host %s ended while it read the catalog", seen.host), "read it again"))
		all = all.with(one)
	}
	return api.ReachedCatalogs{Running: seen.doing, Read: all}
}

// Packages implements admin.Reaching.
func (r reaching) Packages(ctx context.Context, q api.ReachedPackagesRequest) (api.CatalogPackages, error) {
	d := r.list(ctx).of(q.Catalog).Digest
	if d == "" {
		return api.CatalogPackages{Packages: []api.CatalogPackage{}}, &store.NotFoundError{Kind: "reading of catalog", Name: q.Catalog}
	}
	return r.views.ReachedPackages(ctx, q, d)
}

// Stop implements admin.Reaching.
func (r reaching) Stop(ctx context.Context) (running bool) {
	return r.reading.stop(ctx, r.jobs.Reach.Stop)
}

// reach reads what a catalog offers at its registry, as a run reads it.
func (d *daemon) reach(ctx context.Context, q api.CatalogRead, fetched func(int64)) (one api.ReachedCatalog, err error) {
	of, err := d.settings(q.ImageSet)
	if err != nil {
		return one, err
	}
	asked := map[string]any{"operators": []map[string]string{{"catalog": q.Catalog}}}
	text, err := json.Marshal(map[string]any{"kind": "ImageSetConfiguration", "apiVersion": "mirror.openshift.io/v2alpha1", "mirror": asked})
	if err != nil {
		return one, err
	}
	set, err := imageset.ParseEither("image-set.yaml", text)
	if err != nil {
		return one, admin.BadImageSet(err)
	}
	if len(set.HostPaths()) > 0 {
		return one, admin.BadImageSet(hint.New(fmt.Errorf("%q is a path of the host: only the catalog of a registry is read", q.Catalog), "on the host appliance list operators --catalog lists its operators"))
	}
	ref, err := set.Mirror.Operators[0].Reference()
	if err != nil {
		return one, admin.BadImageSet(err)
	}
	s, done, err := d.asSet(d.cfg.Database+".reading", of, text)
	if err != nil {
		return one, err
	}
	defer done()
	err = s.opened(ctx, nil, func(ctx context.Context, o mirror.Options) error {
		ctx, cancel := context.WithTimeoutCause(ctx, readTime, errTooLong)
		defer cancel()
		source, err := o.Open(ref)
		if err != nil {
			return err
		}
		root, err := resolved(ctx, source, ref.Ref(), answerTime)
		if err != nil {
			return err
		}
		n, err := d.views.Reach(ctx, &metered{Source: source, tell: fetched}, root)
		if err != nil {
			return causeOf(ctx, err)
		}
		one = api.ReachedCatalog{Catalog: q.Catalog, Digest: root, Read: time.Now(), Packages: n}
		return nil
	})
	return one, err
}

// resolved returns the digest that a reference means at its source.
func resolved(ctx context.Context, source catalog.Source, ref string, within time.Duration) (digest.Digest, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errNoAnswer)
	defer cancel()
	desc, _, err := source.Manifest(ctx, ref)
	return desc.Digest, causeOf(ctx, err)
}

// causeOf returns why a context has ended, instead of the error that came of it.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// metered is a source that tells how many bytes of blobs were read of it.
type metered struct {
	catalog.Source
	tell func(fetched int64)

	mu      sync.Mutex // held while telling, so that progress stays in order
	fetched int64
}

// Blob implements catalog.Source.
func (m *metered) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return m.BlobFrom(ctx, d, 0)
}

// BlobFrom implements catalog.Source.
func (m *metered) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	open := m.Source.Blob
	if offset > 0 {
		open = func(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
			return m.Source.BlobFrom(ctx, d, offset)
		}
	}
	body, size, err := open(ctx, d)
	if err != nil {
		return nil, size, err
	}
	return &meteredBody{body, m}, size, nil
}

type meteredBody struct {
	io.ReadCloser
	of *metered
}

func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	b.of.fetched += int64(n)
	b.of.tell(b.of.fetched)
	return n, err
}
