package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/leases"
)

// Upload sessions of several daemons. One that has received nothing is a row alone, and its upload is
// begun again at each request; the others have their state in the storage. A request takes the session
// until it ends or the lease of its daemon does.

// beginner is a storage that begins an upload which has its id already.
type beginner interface {
	BeginUpload(id, repo string, started time.Time) blobstore.Upload
}

// resumeShared is Resume.
func (s *Uploads) resumeShared(ctx context.Context, repo, id string) (*Upload, error) {
	one, found, err := s.guard.shared.Sessions.Resume(ctx, repo, id, s.patience)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &NotFoundError{Kind: "upload", Name: id}
	}
	u := &Upload{store: s.core, user: one.User, session: true, claimed: true, counted: one.Files}
	if storage, ok := s.blobs.(beginner); ok && !one.Files {
		u.bytes = storage.BeginUpload(id, repo, one.Created)
		return u, nil
	}
	if u.bytes, err = s.blobs.ResumeUpload(ctx, repo, id); err == nil {
		u.checked = u.bytes.Size()
		return u, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		s.guard.shared.Sessions.End(id) // its daemon died before it saved anything
		return nil, &NotFoundError{Kind: "upload", Name: id}
	}
	s.guard.Sessions.Release(id)
	return nil, fmt.Errorf("resume upload %s: %w", id, err)
}

func (u *Upload) row() leases.Session {
	return leases.Session{Repository: u.bytes.Repository(), User: u.user, Created: u.bytes.Started()}
}

// beginShared records a session that has received nothing.
func (u *Upload) beginShared() error {
	if err := u.store.guard.shared.Sessions.Begin(context.Background(), u.ID(), u.row()); err != nil {
		return fmt.Errorf("begin upload: %w", err)
	}
	return nil
}

// admitShared counts the session at its first byte, if need be by dropping the least recently used
// session of its user.
func (u *Upload) admitShared() error {
	s := u.store
	ctx := database.WithUser(context.Background(), u.user)
	for {
		limit, drop, err := s.guard.shared.Sessions.Admit(ctx, u.ID(), u.row())
		switch {
		case err != nil:
			return err
		case limit == 0:
			u.claimed = true
			return nil
		case drop == "":
			return &TooManyError{limit}
		}
		if err := s.removeUploadFiles(drop); err != nil {
			s.guard.Sessions.Release(drop)
			return err
		}
		s.guard.shared.Sessions.End(drop)
	}
}

// owned reports whether no other daemon can have taken the upload.
func (u *Upload) owned() bool { return !u.claimed || u.store.guard.Sessions.Holds(u.ID()) }

// errTaken is the error of an upload whose daemon has lost its lease.
func (u *Upload) errTaken(what string) error {
	return fmt.Errorf("%s upload %s: this daemon had no connection to the database for too long; try again: %w", what, u.ID(), ErrUnavailable)
}
