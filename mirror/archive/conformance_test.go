package archive_test

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/desttest"
	"github.com/mirror-appliance/appliance/mirror/sourcetest"
)

// A client of an archive is a program that imports it.
func TestWriter_isADestination(t *testing.T) {
	desttest.Run(t, func(t *testing.T) desttest.Place {
		b := newWorkbench(t)
		return desttest.Place{
			Begin: func(ctx context.Context) (mirror.Destination, error) { return b.create(ctx) },
			Manifest: func(ctx context.Context, repo, ref string) ([]byte, error) {
				if len(b.chunks()) == 0 {
					return nil, fmt.Errorf("there is no archive: %w", fs.ErrNotExist)
				}
				a, err := archive.Open(ctx, b.dir)
				if err != nil {
					return nil, err
				}
				defer a.Close()
				_, body, err := a.Repository(repo, repo).Manifest(ctx, ref)
				return body, err
			},
		}
	})
}

func TestArchive_isASource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, c sourcetest.Content) mirror.Source {
		dir := t.TempDir()
		var files []file
		for tag, d := range c.Tags {
			files = append(files, tagFile("team/app", tag, d))
		}
		for d, data := range c.Manifests {
			files = append(files, blobFile(d, data))
		}
		for d, data := range c.Blobs {
			files = append(files, blobFile(d, data))
		}
		writeTar(t, filepath.Join(dir, "mirror_000001.tar"), files...)
		a, err := archive.Open(t.Context(), dir)
		must(t, err)
		t.Cleanup(func() { must(t, a.Close()) })
		return a.Repository("registry.example.com/team/app", "team/app")
	})
}
