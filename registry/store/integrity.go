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
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

// What integrity exports, for packages that know the store alone.
type (
	VerifyOptions = integrity.VerifyOptions
	VerifyReport  = integrity.VerifyReport
	StoreSize     = integrity.StoreSize
	Problem       = integrity.Problem
	StorageError  = integrity.StorageError
)

// Integrity returns what verifies the store and quarantines damaged blobs.
func (s *Store) Integrity() *integrity.Checker { return s.checker() }

func (s *core) checker() *integrity.Checker {
	return &integrity.Checker{DB: s.db, Path: s.database, Files: s.files, Guard: s.guard.Blobs, Store: checked{s}, Now: s.now, Log: s.log}
}

// checked does what a Checker needs of a store.
type checked struct{ store *core }

// HasBytes implements integrity.Store.
func (c checked) HasBytes(d digest.Digest) bool {
	_, ok := c.store.journal.leftOver(d)
	return ok
}

// Rewrite implements integrity.Store.
func (c checked) Rewrite(ctx context.Context, d digest.Digest) (bool, error) {
	r, ok := c.store.journal.leftOver(d)
	if !ok {
		return false, nil
	}
	return true, c.store.rewrite(ctx, []journaled{r})
}

// PutBack implements integrity.Store. *DigestError when the content is another, *FullError.
func (c checked) PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error {
	u, err := c.store.newUpload("", size)
	if err != nil {
		return err
	}
	// One byte more than there may be, so that an endless source is noticed and not followed.
	if _, err = u.ReadFrom(io.LimitReader(throttle.Reader(ctx, content, throttle.New(0)), size+1)); err == nil {
		// The links come from quarantine, by trigger.
		err = u.commitTo(ctx, d, func(context.Context, *sql.Tx) error { return nil })
	}
	return errors.Join(err, u.Close()) // which discards it, unless it was committed
}

// UnnamedFiles implements integrity.Store.
func (c checked) UnnamedFiles(ctx context.Context, yield func(d digest.Digest, size int64) error) error {
	ever := c.store.now().Add(100 * 365 * 24 * time.Hour) // however new they are
	for _, a := range blobfile.Algorithms() {
		parts, err := c.store.files.Parts(a)
		if errors.Is(err, fs.ErrNotExist) {
			continue // that its blobs are missing has been reported
		}
		if err != nil {
			return fmt.Errorf("list blob files: %w", err)
		}
		for _, part := range parts {
			if err := c.store.garbageFiles(ctx, part, ever, yield); err != nil {
				return err
			}
		}
	}
	return nil
}

// StaleUploads implements integrity.Store.
func (c checked) StaleUploads(ctx context.Context, before time.Time, yield func(id string, size int64) error) error {
	return (&Garbage{c.store}).StaleUploads(ctx, before, yield)
}
