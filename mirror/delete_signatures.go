package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// list returns the digest of a manifest, and its members if it is a list.
func list(ctx context.Context, from Pruner, repo, ref string) (digest.Digest, []digest.Digest, error) {
	desc, body, err := from.Manifest(ctx, repo, ref)
	if err != nil {
		return "", nil, err
	}
	parsed, err := image.Parse(desc.MediaType, body)
	if err != nil {
		return desc.Digest, nil, nil // what is damaged can be deleted, too
	}
	var members []digest.Digest
	for _, r := range parsed.References {
		if r.Kind == image.Child {
			members = append(members, r.Digest)
		}
	}
	return desc.Digest, members, nil
}

// staying are the members of the lists that stay, by repository. A repository is asked at its first
// list that goes.
type staying struct {
	from    Pruner
	others  map[place]string
	members map[string]map[digest.Digest]bool
}

// subjects returns the manifests of an image whose signatures go with it: those that no image has
// that stays.
func (s *staying) subjects(ctx context.Context, v *victim) ([]digest.Digest, error) {
	gone := []digest.Digest{v.digest}
	if len(v.members) == 0 {
		return gone, nil
	}
	stay, err := s.in(ctx, v.repository)
	if err != nil {
		return nil, err
	}
	for _, m := range v.members {
		if !stay[m] {
			gone = append(gone, m)
		}
	}
	return gone, nil
}

// in returns the manifests of a repository that stay, and the members of those that are lists.
func (s *staying) in(ctx context.Context, repo string) (map[digest.Digest]bool, error) {
	if stay := s.members[repo]; stay != nil {
		return stay, nil
	}
	stay := map[digest.Digest]bool{}
	for other := range s.others {
		if other.repository != repo {
			continue
		}
		stay[other.digest] = true
		_, members, err := list(ctx, s.from, repo, other.digest.String())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, m := range members {
			stay[m] = true
		}
	}
	s.members[repo] = stay
	return stay, nil
}

// deleteSignatures deletes the tags that sign some manifests.
func deleteSignatures(ctx context.Context, from Pruner, repo string, ds []digest.Digest) error {
	for _, d := range ds {
		for _, tag := range image.AttachmentTags(d) {
			desc, _, err := from.Manifest(ctx, repo, tag)
			if err == nil {
				err = from.Delete(ctx, repo, desc.Digest.String())
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", tag, err)
			}
		}
	}
	return nil
}
