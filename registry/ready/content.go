package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// content reads every blob that was found, if that is asked for.
func (j *judgement) content(ctx context.Context) error {
	if !j.request.Content {
		return nil
	}
	for _, b := range j.blobs {
		j.now.OfBytes += b.size
	}
	pace := throttle.New(j.request.BytesPerSecond)
	for _, d := range slices.Sorted(maps.Keys(j.blobs)) {
		at := place{j.blobs[d].repository, d}
		err := j.hash(ctx, at, pace)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist): // it was taken out of service meanwhile
			j.refuse(api.Reason{Code: "blob-absent", Where: j.at(at), Text: "a blob is not here", Hint: again + "; see appliance verify", Cure: j.blobs[d].cure})
		case err != nil:
			j.refuse(api.Reason{Code: "content-damaged", Where: j.at(at), Text: err.Error(), Hint: "appliance scrub, which takes it out of service, and fetches it again where it can; otherwise mirror it again then", Cure: j.blobs[d].cure})
		}
	}
	j.verdict.ContentRead = true
	return nil
}

// hash reads a blob and compares its digest.
func (j *judgement) hash(ctx context.Context, at place, pace throttle.Pace) error {
	body, _, err := stored.Repository{Store: j.Store, Name: at.repository}.Blob(ctx, at.digest)
	if err != nil {
		return err
	}
	defer body.Close()
	hash := at.digest.Algorithm().Hash()
	counted := throttle.ReaderFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		j.now.Bytes += int64(n)
		j.tell(j.now)
		return n, err
	})
	if _, err := throttle.Copy(ctx, hash, counted, pace); err != nil {
		return fmt.Errorf("the blob cannot be read: %w", err)
	}
	if got := digest.NewDigest(at.digest.Algorithm(), hash); got != at.digest {
		return fmt.Errorf("the blob is damaged: its content has the digest %s", got)
	}
	return nil
}
