package integrity

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// The cursor is saved often enough that a restart repeats little, and seldom
	// enough that it costs little.
	cursorBlobs = 256
	cursorBytes = 1 << 30

	damageListed = 1000 // in a report; the rest is counted
)

// ScrubOptions configure a scrub.
type ScrubOptions struct {
	BytesPerSecond int64 // 0: no limit
	// Refetch opens a blob at one of its possible sources, the likeliest first; there may be none.
	// The content is verified. nil: damaged blobs stay in quarantine.
	Refetch func(ctx context.Context, d digest.Digest, size int64, sources []Source) (io.ReadCloser, error)
	// Progress is called as bytes are read, with those of an incomplete blob. Checkpoint is called
	// after the cursor is saved, with the result that the next scrub does not repeat. nil: no call.
	Progress   func(ScrubReport)
	Checkpoint func(ctx context.Context, r ScrubReport)
}

// Scrub reads all blobs at a limited rate, quarantines damaged ones, and fetches them again, as
// well as those in quarantine before. It continues where the last scrub stopped, unless that one
// was complete. If it fails or ctx ends, the report has the result so far.
func (c *Checker) Scrub(ctx context.Context, o ScrubOptions) (ScrubReport, error) {
	s := &scrub{Checker: c, options: o, report: ScrubReport{Damage: []Damage{}}, pay: throttle.New(o.BytesPerSecond)}
	if o.Progress == nil {
		s.options.Progress = func(ScrubReport) {}
	}
	if o.Checkpoint == nil {
		s.options.Checkpoint = func(context.Context, ScrubReport) {}
	}
	err := s.run(ctx)
	return s.report, err
}

// scrub is one call of Scrub.
type scrub struct {
	*Checker
	options ScrubOptions
	pay     throttle.Pace
	report  ScrubReport
}

func (s *scrub) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.TidyQuarantine, s.quarantined, s.blobs} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.report.Complete = true
	return s.TidyQuarantine(ctx)
}

// quarantined reads the blobs in quarantine again and tries to repair them.
func (s *scrub) quarantined(ctx context.Context) error {
	all, err := s.Quarantined(ctx)
	if err != nil {
		return err
	}
	for _, d := range all {
		whole, err := s.Reinspect(ctx, d.Digest, d.Size, s.pay)
		if err == nil && !whole {
			err = s.damaged(ctx, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blobs reads blob by blob, and saves the cursor even if it fails.
func (s *scrub) blobs(ctx context.Context) (err error) {
	last, err := s.ScrubCursor(ctx)
	if err != nil {
		return err
	}
	s.report.Resumed = last != ""
	saved, blobs, bytes := last, 0, int64(0)
	save := func(ctx context.Context) error {
		if saved == last {
			return nil
		}
		saved, blobs, bytes = last, 0, 0
		if err := s.SetScrubCursor(ctx, last); err != nil {
			return err
		}
		s.options.Checkpoint(ctx, s.report)
		return nil
	}
	defer func() {
		if err == nil {
			last = ""
		}
		err = errors.Join(err, save(context.WithoutCancel(ctx)))
	}()
	return s.Blobs(ctx, last, func(d digest.Digest, size int64) error {
		if err := s.blob(ctx, d, size); err != nil {
			return err
		}
		last, blobs, bytes = d, blobs+1, bytes+size
		if blobs < cursorBlobs && bytes < cursorBytes {
			return nil
		}
		return save(ctx)
	})
}

func (s *scrub) blob(ctx context.Context, d digest.Digest, size int64) error {
	read := s.report
	cause, err := s.ScrubBlob(ctx, d, func(ctx context.Context, n int) error {
		read.Bytes += int64(n)
		s.options.Progress(read)
		return s.pay(ctx, n)
	})
	if err != nil {
		return err
	}
	s.report.Blobs++
	s.report.Bytes += size
	if cause != "" {
		err = s.damaged(ctx, Damage{Digest: d, Size: size, Cause: cause})
	}
	s.options.Progress(s.report)
	return err
}

// damaged reports a damaged blob after an attempt to repair it.
func (s *scrub) damaged(ctx context.Context, d Damage) (err error) {
	if d.Images, err = s.BlobImages(ctx, d.Digest); err != nil {
		return err
	}
	if s.options.Refetch != nil {
		err = s.repair(ctx, d)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		d.Repaired = err == nil
		if err != nil {
			d.RepairError = err.Error()
		}
	}
	s.report.Damaged++
	if d.Repaired {
		s.report.Repaired++
	}
	if len(s.report.Damage) < damageListed {
		s.report.Damage = append(s.report.Damage, d)
	}
	return ctx.Err()
}

func (s *scrub) repair(ctx context.Context, d Damage) error {
	sources, err := s.BlobSources(ctx, d.Digest)
	if err != nil {
		return err
	}
	content, err := s.options.Refetch(ctx, d.Digest, d.Size, sources)
	if err != nil {
		return fmt.Errorf("fetch it again: %w", err)
	}
	defer content.Close()
	return s.PutBack(ctx, d.Digest, d.Size, content)
}

const (
	imagesListed = 100

	selectImages = `WITH RECURSIVE up (digest) AS (
			SELECT manifest FROM manifest_refs WHERE digest = ?1
			UNION SELECT f.manifest FROM up JOIN manifest_refs f ON f.digest = up.digest AND f.kind = 'child')
		SELECT r.name || ':' || t.name AS image FROM up
			JOIN repository_manifests rm ON rm.digest = up.digest
			JOIN repositories r ON r.id = rm.repository
			JOIN tags t ON t.repository = rm.repository AND t.digest = rm.digest
		UNION
		SELECT r.name || '@' || up.digest FROM up
			JOIN repository_manifests rm ON rm.digest = up.digest
			JOIN repositories r ON r.id = rm.repository
			WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = rm.repository AND t.digest = rm.digest)
			AND NOT EXISTS (SELECT 1 FROM manifest_refs f
				JOIN repository_manifests p ON p.digest = f.manifest AND p.repository = rm.repository
				WHERE f.digest = up.digest AND f.kind = 'child')
		ORDER BY image LIMIT ?2`

	selectSources = `SELECT src.registry, src.path FROM sources src
		JOIN repositories r ON r.name = src.repository
		WHERE r.id IN (
			SELECT repository FROM repository_blobs WHERE digest = ?1
			UNION SELECT repository FROM quarantine_links WHERE digest = ?1
			UNION SELECT rm.repository FROM manifest_refs f JOIN repository_manifests rm ON rm.digest = f.manifest
				WHERE f.digest = ?1)
		GROUP BY src.registry, src.path ORDER BY max(src.seen) DESC, src.registry, src.path`
)

// BlobImages lists the images that cannot be pulled whole without a blob, as repository:tag, or
// repository@digest for a manifest without a tag above it; a hundred at most.
func (c *Checker) BlobImages(ctx context.Context, d digest.Digest) ([]string, error) {
	images, err := database.Column[string](ctx, c.DB.Reader(), selectImages, d, imagesListed)
	if err != nil {
		return nil, fmt.Errorf("list images of blob %s: %w", d, err)
	}
	return images, nil
}

// BlobSources lists where a blob may be fetched again, also one in quarantine: the sources of the
// repositories that have it or a manifest that refers to it, the latest first.
func (c *Checker) BlobSources(ctx context.Context, d digest.Digest) ([]Source, error) {
	if err := image.CheckDigest(d); err != nil {
		return nil, err
	}
	columns := func(s *Source) []any { return []any{&s.Registry, &s.Repository} }
	found, err := database.List(ctx, c.DB.Reader(), columns, selectSources, d)
	if err != nil {
		return nil, fmt.Errorf("list sources of blob %s: %w", d, err)
	}
	return found, nil
}
