package blobfile

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// Storage returns the Dir as what a store needs. Work with files is not ended early: ctx is for
// storages that wait for others.
func (d *Dir) Storage() blobstore.Storage { return storage{d} }

type storage struct{ *Dir }

func (s storage) Blob(d digest.Digest) blobstore.Blob { return s.Dir.Blob(d) }

func (s storage) Quarantined(d digest.Digest) blobstore.Blob { return s.Dir.Quarantined(d) }

func (s storage) TidyQuarantine(_ context.Context, keep func(digest.Digest) (bool, error)) error {
	return s.Dir.TidyQuarantine(keep)
}

func (s storage) Parts(_ context.Context, a digest.Algorithm) ([]blobstore.Part, error) {
	parts, err := s.Dir.Parts(a)
	all := make([]blobstore.Part, len(parts))
	for i, p := range parts {
		all[i] = p
	}
	return all, err
}

func (s storage) CheckMounted(_ context.Context, a digest.Algorithm) (place string, mounted bool, err error) {
	return s.Dir.CheckMounted(a)
}

func (s storage) CheckSize(int64) error { return nil }

func (s storage) Spool() string { return "" }

func (s storage) CheckWritable(context.Context) error { return s.Dir.CheckWritable() }

func (s storage) NewUpload(repo string, started time.Time) (blobstore.Upload, error) {
	return opened(s.Dir.NewUpload(repo, started))
}

func (s storage) ResumeUpload(_ context.Context, repo, id string) (blobstore.Upload, error) {
	return opened(s.Dir.ResumeUpload(repo, id))
}

func (s storage) NewPartial(_ context.Context, blob digest.Digest, started time.Time) (blobstore.Upload, error) {
	return opened(s.Dir.NewPartial(blob, started))
}

func (s storage) PartialSize(_ context.Context, blob digest.Digest) int64 {
	return s.Dir.PartialSize(blob)
}

func (s storage) ResumePartial(ctx context.Context, blob digest.Digest, offset int64) (blobstore.Upload, error) {
	return opened(s.Dir.ResumePartial(ctx, blob, offset))
}

func (s storage) Uploads(context.Context) (ids []string, err error) { return s.Dir.Uploads() }

func (s storage) OldUpload(_ context.Context, id string, before, now time.Time) (size int64, old bool, err error) {
	return s.Dir.OldUpload(id, before, now)
}

func (s storage) RemoveUpload(_ context.Context, id string) error { return s.Dir.RemoveUpload(id) }

// opened keeps a nil *Upload from becoming an interface that is not nil.
func opened(u *Upload, err error) (blobstore.Upload, error) {
	if err != nil {
		return nil, err
	}
	return u, nil
}
