package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

// The types of package integrity, for packages that import the store alone.
type (
	ScrubOptions  = integrity.ScrubOptions
	ScrubReport   = integrity.ScrubReport
	Source        = integrity.Source
	VerifyOptions = integrity.VerifyOptions
	VerifyReport  = integrity.VerifyReport
	StoreSize     = integrity.StoreSize
	Problem       = integrity.Problem
	StorageError  = integrity.StorageError
)

// Integrity returns the checker of the store, which verifies and scrubs.
func (s *Store) Integrity() *integrity.Checker { return s.checker() }

func (s *core) checker() *integrity.Checker {
	return &integrity.Checker{DB: s.db, Path: s.database, Storage: s.blobs, Guard: s.guard.Blobs,
		Store: checked{&Garbage{s}}, Now: s.now, Log: s.log}
}

// checked implements integrity.Store.
type checked struct{ *Garbage }

// MayRemove implements integrity.Store.
func (c checked) MayRemove(ctx context.Context) error { return c.mayGoOn(ctx) }

// HasBytes implements integrity.Store.
func (c checked) HasBytes(d digest.Digest) bool {
	_, ok := c.journal.leftOver(d)
	return ok
}

// Rewrite implements integrity.Store.
func (c checked) Rewrite(ctx context.Context, d digest.Digest) (bool, error) {
	r, ok := c.journal.leftOver(d)
	if !ok {
		return false, nil
	}
	return true, c.rewrite(ctx, r)
}

// PutBack implements integrity.Store. *DigestError when the content is another, *FullError.
func (c checked) PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error {
	u, err := c.newUpload("", size)
	if err != nil {
		return err
	}
	// One byte more than allowed, so that an endless source is noticed.
	if _, err = u.ReadFrom(io.LimitReader(throttle.Reader(ctx, content, throttle.New(0)), size+1)); err == nil {
		// A trigger restores the links.
		err = u.commitTo(ctx, d, func(context.Context, *sql.Tx) error { return nil })
	}
	return errors.Join(err, u.Close()) // which discards an upload without a commit
}

// UnnamedFiles implements integrity.Store.
func (c checked) UnnamedFiles(ctx context.Context, yield func(d digest.Digest, size int64) error) error {
	ever := c.now().Add(100 * 365 * 24 * time.Hour) // however new they are
	for _, a := range blobstore.Algorithms() {
		parts, err := c.blobs.Parts(ctx, a)
		if errors.Is(err, fs.ErrNotExist) {
			continue // that its blobs are missing has been reported
		}
		if err != nil {
			return fmt.Errorf("list blob files: %w", err)
		}
		for _, part := range parts {
			if err := c.garbageFiles(ctx, part, ever, yield); err != nil {
				return err
			}
		}
	}
	return nil
}
