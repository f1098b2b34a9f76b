package blobfile

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// NewPartial begins the upload of a blob, without what an interrupted one has left. It has no
// repository: no session resumes it.
func (d *Dir) NewPartial(blob digest.Digest, started time.Time) (*Upload, error) {
	id := blobstore.PartialID(blob)
	if err := d.RemoveUpload(id); err != nil {
		return nil, err
	}
	return &Upload{dir: d, id: id, state: state{Repository: blob.String(), Started: started},
		hash: digest.SHA256.Hash()}, nil
}

// PartialSize returns how many bytes of a blob an interrupted upload has left.
func (d *Dir) PartialSize(blob digest.Digest) int64 {
	info, err := os.Lstat(d.upload(blobstore.PartialID(blob)))
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// ResumePartial opens the interrupted upload of a blob with its first offset bytes. fs.ErrNotExist
// when it does not have them.
//
// All bytes of the file count, whether Save has confirmed them or not: those that it has not are
// read and hashed here. After a crash they may be others, which the digest of the whole tells.
func (d *Dir) ResumePartial(ctx context.Context, blob digest.Digest, offset int64) (_ *Upload, err error) {
	u := &Upload{dir: d, id: blobstore.PartialID(blob), saved: true}
	if u.file, err = os.OpenFile(d.upload(u.id), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	u.recall(blob, offset)
	hashed := u.state.Offset
	u.state.Offset, u.disk.Told = offset, offset
	if err = u.rewind(); err == nil {
		err = u.hashRest(ctx, hashed)
	}
	if err != nil {
		return nil, errors.Join(err, u.file.Close())
	}
	return u, nil
}

// recall takes the saved state, unless it is of more than offset bytes.
func (u *Upload) recall(blob digest.Digest, offset int64) {
	content, err := os.ReadFile(u.dir.uploadState(u.id))
	u.hash = digest.SHA256.Hash()
	if err == nil && json.Unmarshal(content, &u.state) == nil && u.state.Repository == blob.String() &&
		u.state.Offset <= offset && u.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(u.state.Hash) == nil {
		return
	}
	u.hash = digest.SHA256.Hash()
	u.state = state{Repository: blob.String()}
	_ = u.Forget() // a later resumption would not find these bytes in it: the digest tells, and all comes again
}

// hashRest hashes the file from an offset to its end.
func (u *Upload) hashRest(ctx context.Context, from int64) error {
	want := u.state.Offset - from
	n, err := throttle.Copy(ctx, u.hash, io.NewSectionReader(u.file, from, want), throttle.New(0))
	if err == nil && n != want {
		err = fs.ErrNotExist
	}
	return err
}
