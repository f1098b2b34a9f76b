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
	// A cursor is written so often that a restart repeats little, and so seldom that the writes do
	// not matter beside what is read.
	cursorBlobs = 256
	cursorBytes = 1 << 30

	damageListed = 1000     // in a report; the rest is only counted
	payment      = 64 << 10 // what a store pays for at once, at most
)

// ScrubStore is what is scrubbed.
type ScrubStore interface {
	// Blobs yields the blobs after a digest, in order, and holds nothing meanwhile.
	Blobs(ctx context.Context, after digest.Digest, yield func(d digest.Digest, size int64) error) error
	// ScrubBlob reads a blob to its end and says in what way it is damaged, "" if it is whole or not
	// held any more. A damaged one is out of service, in quarantine, when it returns; an error is none of
	// the blob, and ends the scrub. pay is called with how many bytes were read, 64 KiB at most.
	ScrubBlob(ctx context.Context, d digest.Digest, pay func(ctx context.Context, n int) error) (damage string, err error)
	// Quarantined yields what is in quarantine.
	Quarantined(ctx context.Context, yield func(d digest.Digest, size int64, cause string, since time.Time) error) error
	// Reinspect reads a blob in quarantine again, and puts it back if it is whole after all.
	Reinspect(ctx context.Context, d digest.Digest, size int64, pay func(ctx context.Context, n int) error) (whole bool, err error)
	// PutBack reads a blob to its end and puts it back into service, if it is what its digest says.
	PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error
	// TidyQuarantine forgets what nobody needs any more and what has come back.
	TidyQuarantine(ctx context.Context) error
	// BlobImages yields what cannot be pulled whole without a blob.
	BlobImages(ctx context.Context, d digest.Digest, yield func(image string) error) error
	// BlobSources yields where a blob may have come from, the likeliest first.
	BlobSources(ctx context.Context, d digest.Digest, yield func(registry, path string) error) error
	// ScrubCursor gives what SetScrubCursor was last given, "" at first.
	ScrubCursor(ctx context.Context) (digest.Digest, error)
	SetScrubCursor(ctx context.Context, d digest.Digest) error
}

// ScrubOptions say how fast to read, and whom to ask for what is damaged.
type ScrubOptions struct {
	BytesPerSecond int64 // 0: as fast as it goes
	// Refetch gets a blob once more. sources are where it may have come from, the likeliest first; there
	// may be none. What it reads is verified. nil: what is damaged stays in quarantine.
	Refetch func(ctx context.Context, d digest.Digest, size int64, sources []Source) (io.ReadCloser, error)
	// Progress is called as bytes are read, those of the blob under way included. Checkpoint is called after the cursor
	// was written, with what the next scrub does not repeat. nil: no call.
	Progress   func(ScrubReport)
	Checkpoint func(ctx context.Context, r ScrubReport)
}

// Source is a repository on a registry.
type Source struct {
	Registry   string `json:"registry"` // host[:port]
	Repository string `json:"repository"`
}

// ScrubReport is what a scrub found.
type ScrubReport struct {
	Blobs    int64    `json:"blobs"`    // read
	Bytes    int64    `json:"bytes"`    // of these
	Resumed  bool     `json:"resumed"`  // it went on where another had stopped
	Complete bool     `json:"complete"` // it came to the end
	Damaged  int64    `json:"damaged"`  // blobs, with those that were in quarantine before
	Repaired int64    `json:"repaired"` // of these
	Damage   []Damage `json:"damage"`   // the first thousand
}

// Damage is one damaged blob.
type Damage struct {
	Digest      digest.Digest `json:"digest"`
	Size        int64         `json:"size"`
	Cause       string        `json:"cause"`
	Known       bool          `json:"known"`  // it was in quarantine before
	Images      []string      `json:"images"` // repository:tag or repository@digest that need it, a hundred at most
	Repaired    bool          `json:"repaired"`
	RepairError string        `json:"repairError,omitempty"`
}

// Scrub reads all blobs at a bounded rate, takes out of service what is damaged, and fetches it again where
// it can. It goes on where the last one stopped, if that did not come to its end, and tries again to fetch
// what was in quarantine before. When it fails or ctx ends, the report tells what was found until then.
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

// quarantined looks again at what was found before, and tries to repair it.
func (c *scrub) quarantined(ctx context.Context) error {
	return c.store.Quarantined(ctx, func(d digest.Digest, size int64, cause string, _ time.Time) error {
		whole, err := c.store.Reinspect(ctx, d, size, c.pay)
		if err != nil || whole {
			return err
		}
		return c.damaged(ctx, Damage{Digest: d, Size: size, Cause: cause, Known: true})
	})
}

// blobs reads blob by blob. However it ends, the next scrub knows how far it has got.
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

// damaged reports a damaged blob, after it has tried to repair it.
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
