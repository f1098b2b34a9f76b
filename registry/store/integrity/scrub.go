package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
)

const (
	// The cursor is saved often enough that a restart repeats little, and seldom enough that it costs little.
	cursorBlobs = 256
	cursorBytes = 1 << 30

	damageListed = 1000     // in a report; the rest is counted
	payment      = 64 << 10 // bytes that a store reads at a time
)

// ScrubStore is the store to scrub.
type ScrubStore interface {
	// Blobs yields the blobs after a digest, in order, and locks nothing meanwhile.
	Blobs(ctx context.Context, after digest.Digest, yield func(d digest.Digest, size int64) error) error
	// ScrubBlob reads a blob and returns its damage, "" if it is whole or no longer exists. A damaged blob is in
	// quarantine when it returns. An error is not the blob's, and ends the scrub. pay is called with the number of
	// bytes read, at most 64 KiB.
	ScrubBlob(ctx context.Context, d digest.Digest, pay func(ctx context.Context, n int) error) (damage string, err error)
	// Quarantined yields the blobs in quarantine.
	Quarantined(ctx context.Context, yield func(d digest.Digest, size int64, cause string, since time.Time) error) error
	// Reinspect reads a blob in quarantine again and puts it back if it is whole.
	Reinspect(ctx context.Context, d digest.Digest, size int64, pay func(ctx context.Context, n int) error) (whole bool, err error)
	// PutBack verifies content and makes it the blob.
	PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error
	// TidyQuarantine removes blobs from quarantine that are not referred to or that exist again.
	TidyQuarantine(ctx context.Context) error
	// BlobImages yields the images that refer to a blob.
	BlobImages(ctx context.Context, d digest.Digest, yield func(image string) error) error
	// BlobSources yields the repositories that a blob may have come from, the likeliest first.
	BlobSources(ctx context.Context, d digest.Digest, yield func(registry, path string) error) error
	// ScrubCursor returns the last argument of SetScrubCursor, "" at first.
	ScrubCursor(ctx context.Context) (digest.Digest, error)
	SetScrubCursor(ctx context.Context, d digest.Digest) error
}

// ScrubOptions configure a scrub.
type ScrubOptions struct {
	BytesPerSecond int64 // 0: no limit
	// Refetch opens a blob at one of its possible sources, the likeliest first; there may be none. The content is
	// verified. nil: damaged blobs stay in quarantine.
	Refetch func(ctx context.Context, d digest.Digest, size int64, sources []Source) (io.ReadCloser, error)
	// Progress is called as bytes are read, with those of an incomplete blob. Checkpoint is called after the cursor is
	// saved, with what the next scrub does not repeat. nil: no call.
	Progress   func(ScrubReport)
	Checkpoint func(ctx context.Context, r ScrubReport)
}

// Source is a repository on a registry.
type Source struct {
	Registry   string `json:"registry"` // host[:port]
	Repository string `json:"repository"`
}

// ScrubReport is the result of a scrub.
type ScrubReport struct {
	Blobs    int64    `json:"blobs"`    // read
	Bytes    int64    `json:"bytes"`    // of these
	Resumed  bool     `json:"resumed"`  // it continued a scrub that had stopped
	Complete bool     `json:"complete"` // it reached the end
	Damaged  int64    `json:"damaged"`  // blobs, those in quarantine before included
	Repaired int64    `json:"repaired"` // of these
	Damage   []Damage `json:"damage"`   // the first thousand
}

// Damage is one damaged blob.
type Damage struct {
	Digest      digest.Digest `json:"digest"`
	Size        int64         `json:"size"`
	Cause       string        `json:"cause"`
	Known       bool          `json:"known"`  // in quarantine before
	Images      []string      `json:"images"` // repository:tag or repository@digest that refer to it, a hundred at most
	Repaired    bool          `json:"repaired"`
	RepairError string        `json:"repairError,omitempty"`
}

// Scrub reads all blobs at a limited rate, quarantines damaged ones, and fetches them again, as well as those in quarantine
// before. It continues where the last scrub stopped, unless that one was complete. If it fails or ctx ends, the report has
// what was found until then.
func Scrub(ctx context.Context, s ScrubStore, o ScrubOptions) (ScrubReport, error) {
	c := &scrub{store: s, options: o, report: ScrubReport{Damage: []Damage{}}, pay: func(ctx context.Context, _ int) error { return ctx.Err() }}
	if o.Progress == nil {
		c.options.Progress = func(ScrubReport) {}
	}
	if o.Checkpoint == nil {
		c.options.Checkpoint = func(context.Context, ScrubReport) {}
	}
	if o.BytesPerSecond > 0 {
		c.pay = rate.NewLimiter(rate.Limit(o.BytesPerSecond), payment).WaitN
	}
	err := c.run(ctx)
	return c.report, err
}

// scrub is one call of Scrub.
type scrub struct {
	store   ScrubStore
	options ScrubOptions
	pay     func(ctx context.Context, n int) error
	report  ScrubReport
}

func (c *scrub) run(ctx context.Context) error {
	if err := c.store.TidyQuarantine(ctx); err != nil {
		return err
	}
	if err := c.quarantined(ctx); err != nil {
		return err
	}
	if err := c.blobs(ctx); err != nil {
		return err
	}
	c.report.Complete = true
	return c.store.TidyQuarantine(ctx)
}

// quarantined reads the blobs in quarantine again and tries to repair them.
func (c *scrub) quarantined(ctx context.Context) error {
	return c.store.Quarantined(ctx, func(d digest.Digest, size int64, cause string, _ time.Time) error {
		whole, err := c.store.Reinspect(ctx, d, size, c.pay)
		if err != nil || whole {
			return err
		}
		return c.damaged(ctx, Damage{Digest: d, Size: size, Cause: cause, Known: true})
	})
}

// blobs reads blob by blob, and saves the cursor even if it fails.
func (c *scrub) blobs(ctx context.Context) (err error) {
	last, err := c.store.ScrubCursor(ctx)
	if err != nil {
		return err
	}
	c.report.Resumed = last != ""
	saved, blobs, bytes := last, 0, int64(0)
	save := func(ctx context.Context) error {
		if saved == last {
			return nil
		}
		saved, blobs, bytes = last, 0, 0
		if err := c.store.SetScrubCursor(ctx, last); err != nil {
			return err
		}
		c.options.Checkpoint(ctx, c.report)
		return nil
	}
	defer func() {
		if err == nil {
			last = ""
		}
		err = errors.Join(err, save(context.WithoutCancel(ctx)))
	}()
	return c.store.Blobs(ctx, last, func(d digest.Digest, size int64) error {
		if err := c.blob(ctx, d, size); err != nil {
			return err
		}
		last, blobs, bytes = d, blobs+1, bytes+size
		if blobs < cursorBlobs && bytes < cursorBytes {
			return nil
		}
		return save(ctx)
	})
}

func (c *scrub) blob(ctx context.Context, d digest.Digest, size int64) error {
	read := c.report
	cause, err := c.store.ScrubBlob(ctx, d, func(ctx context.Context, n int) error {
		read.Bytes += int64(n)
		c.options.Progress(read)
		return c.pay(ctx, n)
	})
	if err != nil {
		return err
	}
	c.report.Blobs++
	c.report.Bytes += size
	if cause != "" {
		err = c.damaged(ctx, Damage{Digest: d, Size: size, Cause: cause})
	}
	c.options.Progress(c.report)
	return err
}

// damaged reports a damaged blob after an attempt to repair it.
func (c *scrub) damaged(ctx context.Context, d Damage) error {
	d.Images = []string{}
	err := c.store.BlobImages(ctx, d.Digest, func(image string) error {
		d.Images = append(d.Images, image)
		return nil
	})
	if err != nil {
		return err
	}
	if c.options.Refetch != nil {
		err = c.repair(ctx, d)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		d.Repaired = err == nil
		if err != nil {
			d.RepairError = err.Error()
		}
	}
	c.report.Damaged++
	if d.Repaired {
		c.report.Repaired++
	}
	if len(c.report.Damage) < damageListed {
		c.report.Damage = append(c.report.Damage, d)
	}
	return ctx.Err()
}

func (c *scrub) repair(ctx context.Context, d Damage) error {
	var sources []Source
	err := c.store.BlobSources(ctx, d.Digest, func(registry, path string) error {
		sources = append(sources, Source{Registry: registry, Repository: path})
		return nil
	})
	if err != nil {
		return err
	}
	content, err := c.options.Refetch(ctx, d.Digest, d.Size, sources)
	if err != nil {
		return fmt.Errorf("fetch it again: %w", err)
	}
	defer content.Close()
	return c.store.PutBack(ctx, d.Digest, d.Size, content)
}
