package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	chunk       = 64 // manifests and blobs of the feed that are fetched together
	atOnce      = 8  // manifests
	blobsAtOnce = 4
)

// fetch brings the content that came by the feed and is not here.
func (f *Follower) fetch(ctx context.Context) error {
	var absent error
	for last := (store.Lacking{}); ; {
		some, err := f.o.Store.Following.Lacking(ctx, last, chunk)
		if err != nil || len(some) == 0 {
			return errors.Join(err, absent)
		}
		last = some[len(some)-1]
		missing, err := f.bring(ctx, some)
		if err != nil {
			return err
		}
		absent = errors.Join(absent, missing)
	}
}

// wanted is a blob, and the repositories that are to have it.
type wanted struct {
	ocispec.Descriptor
	repos []string
}

// bring brings some content. missing is about manifests that the first does not have any more: the feed
// names that too, so that it is read on.
func (f *Follower) bring(ctx context.Context, some []store.Lacking) (missing, err error) {
	run, err := f.o.Store.Following.Run(ctx)
	if err != nil {
		return nil, err
	}
	arrived, missing, err := f.manifests(ctx, some)
	if err != nil {
		return nil, err
	}
	blobs, err := blobsOf(some, arrived)
	if err != nil {
		return nil, err
	}
	if err := f.blobs(ctx, run, blobs); err != nil {
		return nil, err
	}
	if err := f.o.Store.Following.Stage(ctx, run, arrived); err != nil {
		return nil, err
	}
	for _, l := range some {
		if !l.Manifest {
			if err := f.o.Store.Following.HasBlob(ctx, l); err != nil {
				return nil, err
			}
		}
	}
	return missing, f.recordSources(ctx, run, some)
}

// recordSources has a scrub fetch damaged content from the first.
func (f *Follower) recordSources(ctx context.Context, run *store.Run, some []store.Lacking) error {
	from := map[string][]string{}
	for _, l := range some {
		from[l.Repository] = []string{f.content.Registry() + "/" + l.Repository}
	}
	return run.Source(ctx, from)
}

// manifests reads manifests that are here, and fetches the others.
func (f *Follower) manifests(ctx context.Context, some []store.Lacking) (arrived []store.Arrived, missing, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, l := range some {
		if !l.Manifest {
			continue
		}
		g.Go(func() error {
			body, err := f.o.Store.Following.Manifest(ctx, l.Digest)
			if errors.Is(err, store.ErrNotFound) {
				_, body, err = f.content.Manifest(ctx, l.Repository, l.Digest.String())
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, fs.ErrNotExist):
				missing = errors.Join(missing, err)
				return nil
			case err == nil:
				arrived = append(arrived, store.Arrived{Lacking: l, Body: body})
			}
			return err
		})
	}
	return arrived, missing, g.Wait()
}

// blobsOf lists the blobs that the first has of some content.
func blobsOf(some []store.Lacking, arrived []store.Arrived) (map[digest.Digest]*wanted, error) {
	all := map[digest.Digest]*wanted{}
	add := func(repo string, desc ocispec.Descriptor) {
		if all[desc.Digest] == nil {
			all[desc.Digest] = &wanted{Descriptor: desc}
		}
		if w := all[desc.Digest]; !slices.Contains(w.repos, repo) {
			w.repos = append(w.repos, repo)
		}
	}
	for _, l := range some {
		if !l.Manifest {
			add(l.Repository, ocispec.Descriptor{Digest: l.Digest, Size: l.Size})
		}
	}
	for _, a := range arrived {
		m, err := image.Parse(a.MediaType, a.Body)
		if err != nil {
			return nil, fmt.Errorf("manifest %s of %s: %w", a.Digest, a.Repository, err)
		}
		for _, r := range m.Required() {
			if a.Blobs == nil || a.Blobs[r.Digest] {
				add(a.Repository, ocispec.Descriptor{Digest: r.Digest, Size: r.Size})
			}
		}
	}
	return all, nil
}

// blobs puts into the run the blobs that it lacks: what any repository here has is not fetched, since the
// first has confirmed by its feed that the repository has it.
func (f *Follower) blobs(ctx context.Context, run *store.Run, all map[digest.Digest]*wanted) error {
	ask := map[string][]digest.Digest{}
	for d, w := range all {
		for _, repo := range w.repos {
			ask[repo] = append(ask[repo], d)
		}
	}
	have, _, unconfirmed, err := run.Existing(ctx, ask, nil)
	if err != nil {
		return err
	}
	staged, err := confirm(ctx, run, all, unconfirmed)
	if err != nil {
		return err
	}
	for _, done := range []map[string][]digest.Digest{have, staged} {
		for repo, ds := range done {
			for _, d := range ds {
				all[d].repos = slices.DeleteFunc(all[d].repos, func(other string) bool { return other == repo })
			}
		}
	}
	maps.DeleteFunc(all, func(_ digest.Digest, w *wanted) bool { return len(w.repos) == 0 })
	var bytes int64
	for _, w := range all {
		bytes += w.Size
	}
	f.set(func(s *State) { s.Blobs, s.Bytes = len(all), bytes })
	defer f.set(func(s *State) { s.Blobs, s.Bytes = 0, 0 })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	for _, w := range all {
		g.Go(func() error { return f.blob(ctx, run, w) })
	}
	return g.Wait()
}

func confirm(ctx context.Context, run *store.Run, all map[digest.Digest]*wanted, repos map[string][]digest.Digest) (map[string][]digest.Digest, error) {
	blobs := map[string][]ocispec.Descriptor{}
	for repo, ds := range repos {
		for _, d := range ds {
			blobs[repo] = append(blobs[repo], all[d].Descriptor)
		}
	}
	if len(blobs) == 0 {
		return nil, nil
	}
	return run.Confirm(ctx, blobs)
}

// blob fetches a blob for its repositories. One that the first lacks is left out: the image is not whole
// there either, and the feed names the blob when it comes.
func (f *Follower) blob(ctx context.Context, run *store.Run, w *wanted) error {
	defer f.set(func(s *State) { s.Blobs-- })
	for i, repo := range w.repos {
		body := &body{ctx: ctx, f: f, repo: repo, desc: w.Descriptor}
		err := run.PutBlob(ctx, repo, w.Descriptor, body)
		err = errors.Join(err, body.close())
		if errors.Is(body.failed, fs.ErrNotExist) {
			f.o.Log.WarnContext(ctx, "the first does not have a blob of an image", "repository", repo, "blob", w.Digest)
			continue
		}
		if err != nil {
			return fmt.Errorf("fetch blob %s of %s from %s: %w", w.Digest, repo, f.o.URL, err)
		}
		others := map[string][]digest.Digest{}
		for _, other := range w.repos[i+1:] {
			others[other] = []digest.Digest{w.Digest}
		}
		_, err = confirm(ctx, run, map[digest.Digest]*wanted{w.Digest: w}, others)
		return err
	}
	return nil
}

// body is a blob at the first, which is opened by the first Read, from where Seek has led.
type body struct {
	ctx    context.Context // reading takes no context of its own
	f      *Follower
	repo   string
	desc   ocispec.Descriptor
	from   int64
	rc     io.ReadCloser
	failed error // of the first, nil: none
}

// Seek lets the store read from where it has the blob.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart || b.rc != nil {
		return 0, fmt.Errorf("blob %s cannot be read from byte %d", b.desc.Digest, offset)
	}
	b.from = offset
	b.f.set(func(s *State) { s.Bytes -= offset })
	return offset, nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.rc == nil {
		if b.from == b.desc.Size && b.from > 0 {
			return 0, io.EOF
		}
		if b.rc, _, b.failed = b.f.content.BlobFrom(b.ctx, b.repo, b.desc.Digest, b.from); b.failed != nil {
			return 0, b.failed
		}
	}
	n, err := b.rc.Read(p)
	b.f.set(func(s *State) { s.Bytes -= int64(n) })
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed = err
	}
	return n, err
}

func (b *body) close() error {
	if b.rc == nil {
		return nil
	}
	return b.rc.Close()
}
