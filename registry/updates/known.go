package updates

import (
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Known is what the service knows of the store.
type Known struct {
	Graph *graphdata.Graph // nil: there is none
	// Why there is no graph.
	Why string
	// Data is the image with graph data, as repository:tag, and its digest.
	Data       string
	DataDigest digest.Digest
	Releases   []graphdata.Release
	Places     map[digest.Digest]string // of releases: repository:tag, or a repository alone
	// Signatures are those of releases, OpenPGP, by digest. Runs have verified theirs, perhaps by a key
	// of another vendor.
	Signatures map[digest.Digest][][]byte
	// Unread are images that may be releases, and cannot be read.
	Unread []Unread
	// Problems are what of the content has no effect, images that cannot be read among it.
	Problems []graphdata.Problem
}

// Unread is an image that cannot be read.
type Unread struct {
	store.Tag
	Err error
}

// Known returns what the last pass found, or Refresh.
func (s *Service) Known() Known {
	now := s.current.Load()
	k := Known{Graph: now.graph, Why: now.why, Releases: now.releases, Problems: now.problems, Unread: now.unread, Signatures: map[digest.Digest][][]byte{}, Places: now.places}
	if now.data.data != nil {
		k.Data, k.DataDigest = now.data.Repository+":"+now.data.Name, now.data.Digest
	}
	for hex, all := range now.signatures {
		k.Signatures[digest.NewDigestFromEncoded(digest.SHA256, hex)] = all
	}
	return k
}
