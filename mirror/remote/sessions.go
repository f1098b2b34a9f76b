package remote

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/durable"
)

const (
	// sessionFrom is the size of the smallest blob whose upload session is kept: for others a new
	// one costs less than the file.
	sessionFrom = 4 << 20
	// sessionTTL is when a session is forgotten. Registries forget theirs sooner.
	sessionTTL = 7 * 24 * time.Hour
)

// sessions keeps the upload sessions of blobs in a directory, a file for each, so that another run
// continues them. A location may have a secret in it, so that files are for their owner only. A
// session that cannot be kept, or is lost, costs a new one.
type sessions struct {
	dir string // "": none are kept
	now func() time.Time
}

// session is the content of a file.
type session struct {
	Registry   string        `json:"registry"`
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Location   string        `json:"location"`
}

func (s *sessions) path(u *upload) string {
	key := u.registry + "/" + u.repo + "@" + u.desc.Digest.String()
	return filepath.Join(s.dir, digest.FromString(key).Encoded()+".json")
}

// find returns where the upload of a blob was, "" if that is not known.
func (s *sessions) find(u *upload) string {
	if s.dir == "" {
		return ""
	}
	data, err := os.ReadFile(s.path(u))
	var kept session
	if err != nil || json.Unmarshal(data, &kept) != nil || kept.Registry != u.registry ||
		kept.Repository != u.repo || kept.Digest != u.desc.Digest {
		return ""
	}
	return kept.Location
}

// keep writes where an upload is, before a byte of it is sent.
func (s *sessions) keep(u *upload, location string) error {
	if s.dir == "" || u.desc.Size < sessionFrom {
		return nil
	}
	data, err := json.Marshal(session{u.registry, u.repo, u.desc.Digest, location})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(s.dir, ".session-*")
	if err != nil {
		return err
	}
	return durable.Replace(s.path(u), tmp, data)
}

// forget removes the session of a blob.
func (s *sessions) forget(u *upload) {
	if s.dir != "" {
		_ = os.Remove(s.path(u)) // one that is left is found to be gone
	}
}

// tidy removes what no run has continued.
func (s *sessions) tidy() {
	files, _ := filepath.Glob(filepath.Join(s.dir, "*"))
	unfinished, _ := filepath.Glob(filepath.Join(s.dir, ".session-*"))
	for _, file := range append(files, unfinished...) {
		if info, err := os.Lstat(file); err == nil && s.now().Sub(info.ModTime()) > sessionTTL {
			_ = os.Remove(file)
		}
	}
}
