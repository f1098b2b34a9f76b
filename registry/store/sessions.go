package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

const (
	// maxUserSessions and maxSessions bound the unfinished uploads of one user and of all. Each has
	// two files after its first byte.
	maxUserSessions = 1024
	maxSessions     = 8 * maxUserSessions
	// savedSessions bounds the empty sessions that survive a restart: those of pushes that are
	// about to send their first byte.
	savedSessions = 256
)

// sessions counts the unfinished uploads. An empty session stays in memory and has no file: a
// client may open any number, and the oldest are dropped.
type sessions struct {
	each, all int

	mu    sync.Mutex // guards what follows
	empty map[string]session
	files map[string]session // without a user for those found at the start
	users map[string]int     // of files
}

type session struct {
	user  string
	bytes blobstore.Upload
	since time.Time // it was last used
}

func newSessions() *sessions {
	return &sessions{each: maxUserSessions, all: maxSessions,
		empty: make(map[string]session), files: make(map[string]session), users: make(map[string]int)}
}

// find counts the sessions that an earlier process left.
func (s *sessions) find(ctx context.Context, blobs blobstore.Storage) error {
	ids, err := blobs.Uploads(ctx)
	if err != nil {
		return fmt.Errorf("list uploads: %w", err)
	}
	for _, id := range ids {
		s.files[id] = session{}
	}
	return nil
}

// remember keeps an empty session, until recall.
func (s *sessions) remember(id string, one session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := 0
	var oldest, oldestOfMine string
	if len(s.empty) >= s.each { // else no user has too many
		for other, o := range s.empty {
			if oldest == "" || o.since.Before(s.empty[oldest].since) {
				oldest = other
			}
			if o.user != one.user {
				continue
			}
			mine++
			if oldestOfMine == "" || o.since.Before(s.empty[oldestOfMine].since) {
				oldestOfMine = other
			}
		}
	}
	if mine >= s.each {
		delete(s.empty, oldestOfMine)
	} else if len(s.empty) >= s.all {
		delete(s.empty, oldest)
	}
	s.empty[id] = one
}

// recall returns an empty session, and forgets it.
func (s *sessions) recall(id string) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.empty[id]
	delete(s.empty, id)
	return one, ok
}

// staleEmpty lists the empty sessions without an access since before.
func (s *sessions) staleEmpty(before time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stale []string
	for id, one := range s.empty {
		if one.since.Before(before) {
			stale = append(stale, id)
		}
	}
	return stale
}

// forget drops an empty session if it is still stale.
func (s *sessions) forget(id string, before time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.empty[id]
	if ok = ok && one.since.Before(before); ok {
		delete(s.empty, id)
	}
	return ok
}

// admit counts a session that is about to have files. With a *TooManyError, drop may be the least
// recently used session of the user, to make room.
func (s *sessions) admit(id, user string, now time.Time) (drop string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.files[id]; ok {
		return "", nil
	}
	switch {
	case s.users[user] >= s.each:
		err = &TooManyError{s.each}
	case len(s.files) >= s.all:
		err = &TooManyError{s.all}
	default:
		s.files[id] = session{user: user, since: now}
		s.users[user]++
		return "", nil
	}
	for other, o := range s.files {
		if o.user == user && !o.since.IsZero() && (drop == "" || o.since.Before(s.files[drop].since)) {
			drop = other
		}
	}
	return drop, err
}

// used records an access of a session with files.
func (s *sessions) used(id string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one, ok := s.files[id]; ok {
		one.since = now
		s.files[id] = one
	}
}

// ended stops counting a session.
func (s *sessions) ended(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.files[id]
	if !ok {
		return
	}
	delete(s.files, id)
	if one.since.IsZero() {
		return
	}
	if s.users[one.user]--; s.users[one.user] <= 0 {
		delete(s.users, one.user)
	}
}

// admitSession admits an upload, if need be by dropping the least recently used session of its
// user: the sessions of crashed clients must not lock their user out.
func (s *core) admitSession(id, user string) error {
	for {
		drop, full := s.sessions.admit(id, user, s.now())
		if full == nil || drop == "" {
			return full
		}
		if taken, err := s.guard.Sessions.TryTake(context.Background(), drop); err != nil {
			return err
		} else if !taken {
			s.sessions.used(drop, s.now()) // it is in use, and others come first
			if s.sessions.busy(user, s.guard.Sessions) {
				return full
			}
			continue
		}
		removed := s.removeUploadFiles(drop)
		s.guard.Sessions.Release(drop)
		if removed != nil {
			return removed
		}
	}
}

// busy reports whether all sessions of a user are in use.
func (s *sessions) busy(user string, g sessionGuard) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, o := range s.files {
		if o.user == user && !g.InUse(context.Background(), id) {
			return false
		}
	}
	return true
}

func (s *core) removeUploadFiles(id string) error {
	if err := s.blobs.RemoveUpload(context.Background(), id); err != nil {
		return fmt.Errorf("remove upload %s: %w", id, err)
	}
	s.sessions.ended(id)
	return nil
}

// saveSessions saves the newest empty sessions. An error is logged only: a push without its session
// begins again.
func (s *core) saveSessions() {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	empty := s.sessions.empty
	newest := slices.SortedFunc(maps.Keys(empty),
		func(a, b string) int { return empty[b].since.Compare(empty[a].since) })
	for _, id := range newest[:min(len(newest), savedSessions)] {
		if s.checkNewFile(0) != nil {
			return
		}
		if err := empty[id].bytes.Save(empty[id].since); err != nil {
			s.log.Warn("could not save an empty upload session", "upload", id, "error", err)
			return
		}
	}
}

// emptySession resumes an empty session.
func (s *core) emptySession(repo, id string) (*Upload, bool) {
	one, ok := s.sessions.recall(id)
	if !ok {
		return nil, false
	}
	if one.bytes.Repository() != repo {
		s.sessions.remember(id, one)
		return nil, false
	}
	return &Upload{store: s, user: one.user, bytes: one.bytes, session: true}, true
}
