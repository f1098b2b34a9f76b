package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
)

// distributionDir is where the distribution registry, of which the images "registry:2" and
// "registry:3" are made, keeps everything.
const distributionDir = "docker/registry/v2"

// Distribution is the directory of a distribution registry.
type Distribution struct{ root *os.Root }

// OpenDistribution opens the directory of a distribution registry: its rootdirectory, or a directory
// below that.
func OpenDistribution(dir string) (*Distribution, error) {
	for _, below := range []string{distributionDir, "registry/v2", "v2", "."} {
		root, err := os.OpenRoot(path.Join(dir, below))
		if errors.Is(err, fs.ErrNotExist) && below != "." {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open the registry's directory: %w", err)
		}
		if info, err := root.Stat("repositories"); err == nil && info.IsDir() {
			if _, err := root.Stat("blobs"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				root.Close()
				return nil, hint.New(fmt.Errorf("open the registry's blobs: %w", err),
					"a symbolic link that leads out of the directory is not followed: mount --bind its target in its place")
			}
			return &Distribution{root}, nil
		}
		if err := root.Close(); err != nil {
			return nil, err
		}
	}
	return nil, hint.New(fmt.Errorf("%s is not the directory of a distribution registry: it has no %s/repositories", dir, distributionDir),
		"name the directory that its configuration has as storage.filesystem.rootdirectory, or that is mounted at /var/lib/registry")
}

// Close closes the directory.
func (s *Distribution) Close() error { return s.root.Close() }

// Files returns the directory.
func (s *Distribution) Files() *os.Root { return s.root }

// BlobName returns the name of a blob's file.
func (s *Distribution) BlobName(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")
}

// Repositories lists the directories that have manifests: a repository may lie in another. It lists
// symbolic links as well, of which Content tells that they are not followed: they may lead anywhere, and
// the other registry follows them.
func (s *Distribution) Repositories(ctx context.Context) (names []string, err error) {
	err = fs.WalkDir(s.root.FS(), "repositories", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && e.Type()&fs.ModeSymlink != 0 && !strings.HasPrefix(e.Name(), "_") {
			names = append(names, strings.TrimPrefix(name, "repositories/"))
		}
		if err != nil || !e.IsDir() {
			return err
		}
		if !strings.HasPrefix(e.Name(), "_") {
			return nil
		}
		if e.Name() == "_manifests" {
			names = append(names, strings.TrimPrefix(path.Dir(name), "repositories/"))
		}
		return fs.SkipDir
	})
	slices.Sort(names)
	return names, err
}

// maxLink bounds the file that holds a digest.
const maxLink = 200

// link reads a file that holds a digest.
func (s *Distribution) link(name string) (digest.Digest, error) {
	text, err := readFile(s.root, name, maxLink)
	if err != nil {
		return "", err
	}
	d := digest.Digest(strings.TrimSpace(string(text)))
	return d, image.CheckDigest(d)
}

// Content reads the links of a repository. One without its file was deleted.
func (s *Distribution) Content(_ context.Context, repository string) (Content, error) {
	c := Content{Tags: map[string]digest.Digest{}}
	if info, err := s.root.Lstat(path.Join("repositories", repository)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		c.Problems = []Problem{{repository, "*", "its directory is a symbolic link, which is not followed: mount --bind its target in its place"}}
		return c, nil
	}
	dir := path.Join("repositories", repository, "_manifests")
	algorithms, err := s.names(path.Join(dir, "revisions"))
	if err != nil {
		return c, err
	}
	for _, algorithm := range algorithms {
		revisions, err := s.names(path.Join(dir, "revisions", algorithm))
		if err != nil {
			return c, err
		}
		for _, hex := range revisions {
			named := digest.Digest(algorithm + ":" + hex)
			d, err := s.link(path.Join(dir, "revisions", algorithm, hex, "link"))
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				c.Problems = append(c.Problems, Problem{repository, named.String(), fmt.Sprintf("its link cannot be read: %v", err)})
			case d != named:
				c.Problems = append(c.Problems, Problem{repository, named.String(), "its link names " + d.String()})
			default:
				c.Manifests = append(c.Manifests, d)
			}
		}
	}
	tags, err := s.names(path.Join(dir, "tags"))
	if err != nil {
		return c, err
	}
	for _, tag := range tags {
		switch d, err := s.link(path.Join(dir, "tags", tag, "current", "link")); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			c.Problems = append(c.Problems, Problem{repository, tag, fmt.Sprintf("its link cannot be read: %v", err)})
		default:
			c.Tags[tag] = d
		}
	}
	return c, nil
}

// names lists a directory, which need not exist.
func (s *Distribution) names(dir string) (names []string, err error) {
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Manifest reads a manifest, which is a blob.
func (s *Distribution) Manifest(_ context.Context, _ string, d digest.Digest) (body []byte, mediaType string, err error) {
	body, err = readFile(s.root, s.BlobName(d), image.MaxManifestBytes)
	return body, "", err
}
