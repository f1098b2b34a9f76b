package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	refsEach     = 5   // a config and four layers
	ownLayers    = 1   // of each manifest; the others are shared, as base images are
	sharedEvery  = 50  // manifests that share a base
	garbageEvery = 100 // manifests for each blob that nothing needs
	bigRepoShare = 10  // a tenth of all manifests is in the first repository
	manifestsPer = 100 // in each of the others
	perTx        = 20_000
)

// generated says what is in a generated store.
type generated struct{ manifests []made }

// made is one generated manifest.
type made struct {
	digest digest.Digest
	number int
}

func (g *generated) anyManifest() string {
	m := g.manifests[rand.IntN(len(g.manifests))]
	return "/v2/" + generatedRepo(repoOf(m.number, len(g.manifests))) + "/manifests/" + m.digest.String()
}

func generatedRepo(n int) string { return fmt.Sprintf("generated/repository-%05d", n) }

func repoOf(manifest, scale int) int {
	if manifest < scale/bigRepoShare {
		return 0
	}
	return 1 + (manifest-scale/bigRepoShare)/manifestsPer
}

// generatedImage is the image with a number: the same at every call, and as long as a real one's manifest.
func generatedImage(n int) (image, error) {
	i, err := newImage(fmt.Sprintf("generated/%d", n), 0, 0)
	if err != nil {
		return i, err
	}
	config := digest.FromBytes(i.blobs[0])
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, config, len(i.blobs[0]))
	for l := range refsEach - 1 {
		content := generatedLayer(n, l)
		if l > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"mediaType":%q,"digest":%q,"size":%d}`, ocispec.MediaTypeImageLayerGzip, digest.FromBytes(content), len(content))
		i.blobs = append(i.blobs, content)
	}
	i.manifest = append(body, `],"annotations":{"org.opencontainers.image.source":"https://example.com/some/where"}}`...)
	i.digest = digest.FromBytes(i.manifest)
	return i, nil
}

func generatedLayer(manifest, layer int) []byte {
	if layer < ownLayers {
		return fmt.Appendf(nil, "layer %d of %d", layer, manifest)
	}
	return fmt.Appendf(nil, "base layer %d of %d", layer, manifest/sharedEvery)
}

// generate makes a store as if that many images had been pushed. The rows are written as the store would write them,
// past the store, which syncs every push: indexes last, so that they are sorted once.
func generate(ctx context.Context, c *config.Config, scale int) (_ *generated, err error) {
	if err := makeStore(ctx, c); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: c.Database}).EscapedPath()+
		"?_pragma=journal_mode(off)&_pragma=synchronous(off)&_pragma=cache_size(-400000)&_pragma=foreign_keys(0)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	restore, err := dropIndexes(ctx, db)
	if err != nil {
		return nil, err
	}
	g := &generated{manifests: make([]made, scale)}
	for n := range scale {
		i, err := generatedImage(n)
		if err != nil {
			return nil, err
		}
		g.manifests[n] = made{i.digest, n}
	}
	slices.SortFunc(g.manifests, func(a, b made) int { return strings.Compare(string(a.digest), string(b.digest)) })
	if err := g.insert(ctx, db, c.Storage); err != nil {
		return nil, err
	}
	return g, restore()
}

// makeStore lets the store make its own schema.
func makeStore(ctx context.Context, c *config.Config) error {
	for _, dir := range []string{c.Storage, filepath.Dir(c.Database)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	s, err := store.Open(ctx, store.Options{Database: c.Database, Storage: c.Storage})
	if err != nil {
		return err
	}
	return s.Close()
}

// dropIndexes drops what is slow to keep while rows come in any order; restore makes it again.
func dropIndexes(ctx context.Context, db *sql.DB) (restore func() error, err error) {
	rows, err := db.QueryContext(ctx, `SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var drop, create []string
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return nil, err
		}
		drop, create = append(drop, "DROP INDEX "+name), append(create, text)
	}
	if err := errors.Join(rows.Err(), rows.Close(), execAll(ctx, db, drop)); err != nil {
		return nil, err
	}
	return func() error { return execAll(ctx, db, create) }, nil
}

func execAll(ctx context.Context, db *sql.DB, statements []string) error {
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// insert writes the rows of all manifests, in the order of their digests, and then those of blobs and repositories.
func (g *generated) insert(ctx context.Context, db *sql.DB, storage string) error {
	blobs := map[digest.Digest]int{}
	for page := range slices.Chunk(g.manifests, perTx) {
		if err := g.insertManifests(ctx, db, page, blobs); err != nil {
			return err
		}
	}
	if err := g.insertRepositories(ctx, db); err != nil {
		return err
	}
	for n := range len(g.manifests) / garbageEvery {
		blobs[digest.FromString(fmt.Sprint("garbage ", n))] = 1000
	}
	return insertBlobs(ctx, db, blobs, storage)
}

// long ago, so that no grace period is in the way
var generatedAt = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

func (g *generated) insertManifests(ctx context.Context, db *sql.DB, page []made, blobs map[digest.Digest]int) error {
	return inTx(ctx, db, func(tx *sql.Tx) error {
		manifest, err := tx.PrepareContext(ctx, `INSERT INTO manifests (digest, media_type, artifact_type, subject, annotations, size, created, body)
			VALUES (?, ?, ?, '', '{"org.opencontainers.image.source":"https://example.com/some/where"}', ?, ?, ?)`)
		if err != nil {
			return err
		}
		ref, err := tx.PrepareContext(ctx, `INSERT INTO manifest_refs (manifest, position, kind, digest, size, media_type, elsewhere) VALUES (?, ?, ?, ?, ?, ?, 0)`)
		if err != nil {
			return err
		}
		for _, m := range page {
			i, err := generatedImage(m.number)
			if err != nil {
				return err
			}
			if _, err := manifest.ExecContext(ctx, m.digest, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, len(i.manifest), generatedAt, i.manifest); err != nil {
				return err
			}
			kind, mediaType := "config", ocispec.MediaTypeImageConfig
			for position, content := range i.blobs {
				d := digest.FromBytes(content)
				blobs[d] = len(content)
				if _, err := ref.ExecContext(ctx, m.digest, position, kind, d, len(content), mediaType); err != nil {
					return err
				}
				kind, mediaType = "layer", ocispec.MediaTypeImageLayerGzip
			}
		}
		return nil
	})
}

func (g *generated) insertRepositories(ctx context.Context, db *sql.DB) error {
	scale := len(g.manifests)
	return inTx(ctx, db, func(tx *sql.Tx) error {
		for n := range repoOf(scale-1, scale) + 1 {
			if _, err := tx.ExecContext(ctx, `INSERT INTO repositories (id, name, created) VALUES (?, ?, ?)`, n+1, generatedRepo(n), generatedAt); err != nil {
				return err
			}
		}
		link, err := tx.PrepareContext(ctx, `INSERT INTO repository_manifests (repository, digest, linked) VALUES (?, ?, ?)`)
		if err != nil {
			return err
		}
		tag, err := tx.PrepareContext(ctx, `INSERT INTO tags (repository, name, digest, updated, checked) VALUES (?, ?, ?, ?, 0)`)
		if err != nil {
			return err
		}
		for _, m := range g.manifests {
			id := repoOf(m.number, scale) + 1
			if _, err := link.ExecContext(ctx, id, m.digest, generatedAt); err != nil {
				return err
			}
			if _, err := tag.ExecContext(ctx, id, fmt.Sprintf("v%07d", m.number), m.digest, generatedAt); err != nil {
				return err
			}
		}
		return nil
	})
}

// insertBlobs writes rows and files. The files are holes: what is looked at is names, sizes and times.
func insertBlobs(ctx context.Context, db *sql.DB, blobs map[digest.Digest]int, storage string) error {
	all := make([]digest.Digest, 0, len(blobs))
	for d := range blobs {
		all = append(all, d)
	}
	slices.Sort(all)
	for page := range slices.Chunk(all, perTx) {
		err := inTx(ctx, db, func(tx *sql.Tx) error {
			blob, err := tx.PrepareContext(ctx, `INSERT INTO blobs (digest, size, created) VALUES (?, ?, ?)`)
			if err != nil {
				return err
			}
			for _, d := range page {
				if _, err := blob.ExecContext(ctx, d, blobs[d], generatedAt); err != nil {
					return err
				}
				if err := touch(storage, d, int64(blobs[d])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	// As the store links them: into every repository that has a manifest of them. Garbage was once pushed as well.
	return execAll(ctx, db, []string{
		`INSERT INTO repository_blobs (repository, digest, linked) SELECT DISTINCT rm.repository, f.digest, rm.linked
			FROM repository_manifests rm JOIN manifest_refs f ON f.manifest = rm.digest ORDER BY 1, 2`,
		fmt.Sprintf(`INSERT INTO repository_blobs (repository, digest, linked) SELECT 1, digest, created FROM blobs WHERE size = 1000 AND created = %d
			ON CONFLICT DO NOTHING`, generatedAt),
	})
}

// touch makes a file of a size that takes no space.
func touch(storage string, d digest.Digest, size int64) error {
	dir := filepath.Join(storage, d.Algorithm().String(), d.Encoded()[:2])
	path := filepath.Join(dir, d.Encoded())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func inTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
