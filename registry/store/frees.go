package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Image is a manifest in a repository.
type Image struct {
	Repository string
	Digest     digest.Digest
}

// Freed is what the next collection removes after a deletion.
type Freed struct {
	Manifests, Blobs int
	Bytes            int64 // of the blobs
}

var (
	// Of the manifests ?2 in the repository ?1: the indexes that list them, and what keeps them there besides. What
	// belongs to a manifest goes with that, and is kept until then.
	listedIn = `SELECT d.value, p.digest FROM json_each(?2) d CROSS JOIN manifest_refs f CROSS JOIN repository_manifests p
		WHERE f.digest = d.value AND f.kind = 'child' AND p.repository = ?1 AND p.digest = f.manifest`
	keepers = listedIn + `
		UNION SELECT d.value, t.name FROM json_each(?2) d CROSS JOIN tags t WHERE t.repository = ?1 AND t.digest = d.value
		UNION SELECT d.value, '' FROM json_each(?2) d CROSS JOIN cluster_manifests k WHERE k.digest = d.value
		UNION SELECT d.value, '' FROM json_each(?2) d WHERE EXISTS (` + subjects("?1", "d.value") + `)`

	// Of the indexes ?2, what they list there.
	lists = `SELECT d.value, f.digest FROM json_each(?2) d CROSS JOIN manifest_refs f CROSS JOIN repository_manifests p
		WHERE f.manifest = d.value AND f.kind = 'child' AND p.repository = ?1 AND p.digest = f.digest`

	// Of the manifests ?1, with the repositories that have them, 0 for a run.
	havers = `SELECT d.value, l.repository FROM json_each(?1) d CROSS JOIN repository_manifests l WHERE l.digest = d.value
		UNION SELECT d.value, 0 FROM json_each(?1) d CROSS JOIN run_manifests p WHERE p.digest = d.value`

	// The blobs that nothing but the manifests ?1 refers to.
	onlyOf = `SELECT count(*), coalesce(sum(b.size), 0) FROM blobs b
		WHERE b.digest IN (SELECT f.digest FROM json_each(?1) d CROSS JOIN manifest_refs f WHERE f.manifest = d.value AND f.kind <> 'child')
		AND NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = b.digest AND f.manifest NOT IN (SELECT value FROM json_each(?1)))
		AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.digest = b.digest)`

	// The blobs of the repository ?2 that nothing there but the manifests ?1 refers to.
	onlyHere = `SELECT count(*), coalesce(sum(b.size), 0) FROM blobs b
		WHERE b.digest IN (SELECT f.digest FROM json_each(?1) d CROSS JOIN manifest_refs f WHERE f.manifest = d.value AND f.kind <> 'child')
		AND EXISTS (SELECT 1 FROM repository_blobs l WHERE l.repository = ?2 AND l.digest = b.digest)
		AND NOT EXISTS (SELECT 1 FROM manifest_refs f CROSS JOIN repository_manifests p ON p.digest = f.manifest AND p.repository = ?2
			WHERE f.digest = b.digest AND f.manifest NOT IN (SELECT value FROM json_each(?1)))`
)

// Frees returns what DeleteImage of all of some images, and a collection, would free: with their children and what
// belongs to them, and without what anything else has. Nothing is deleted.
func (s *Manifests) Frees(ctx context.Context, images []Image) (Freed, error) {
	by := map[string][]digest.Digest{}
	for _, i := range images {
		by[i.Repository] = append(by[i.Repository], i.Digest)
	}
	gone := map[int64]map[digest.Digest]bool{} // by repository
	for name, some := range by {
		id, err := repositoryID(ctx, s.db.Reader(), name)
		if err != nil {
			return Freed{}, err
		}
		e := ending{ctx: ctx, q: s.db.Reader(), repository: id, gone: map[digest.Digest]bool{}, kept: map[digest.Digest][]digest.Digest{}}
		if err := e.add(some); err != nil {
			return Freed{}, fmt.Errorf("find out what a deletion frees: %w", err)
		}
		gone[id] = e.gone
	}
	freed, err := freedBy(ctx, s.db.Reader(), gone)
	if err != nil {
		return Freed{}, fmt.Errorf("find out what a deletion frees: %w", err)
	}
	return freed, nil
}

// ending finds out which manifests of a repository a deletion would take out of it, as a removal does.
type ending struct {
	ctx        context.Context
	q          database.Querier
	repository int64
	gone       map[digest.Digest]bool
	// kept are children that stay, and what keeps them, "" for a tag.
	kept map[digest.Digest][]digest.Digest
	// alone leaves what belongs to the manifests, as Delete does and DeleteImage does not.
	alone bool
}

// add adds manifests and all that goes with them.
func (e *ending) add(some []digest.Digest) error {
	for len(some) > 0 {
		linked, err := listDigests(e.ctx, e.q, allLinked, e.repository, some)
		if err != nil {
			return err
		}
		linked = slices.DeleteFunc(linked, func(d digest.Digest) bool { return e.gone[d] })
		for _, d := range linked {
			e.gone[d] = true
			delete(e.kept, d)
		}
		var belonging map[digest.Digest][]digest.Digest
		if !e.alone {
			if belonging, err = e.pairs(allBelongings, linked); err != nil {
				return err
			}
		}
		if err := e.children(linked); err != nil {
			return err
		}
		some = slices.AppendSeq(slices.Collect(maps.Keys(belonging)), maps.Keys(e.orphaned()))
	}
	return nil
}

// children adds the children of manifests to those that stay, with what keeps them.
func (e *ending) children(of []digest.Digest) error {
	found, err := listDigests(e.ctx, e.q, allChildren, e.repository, of)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(d digest.Digest) bool { _, known := e.kept[d]; return known || e.gone[d] })
	by, err := e.pairs(keepers, found)
	for _, d := range found {
		e.kept[d] = by[d]
	}
	return err
}

// orphaned returns the children that nothing keeps any more.
func (e *ending) orphaned() map[digest.Digest]bool {
	all := map[digest.Digest]bool{}
	for d, by := range e.kept {
		if !slices.ContainsFunc(by, func(k digest.Digest) bool { return !e.gone[k] }) {
			all[d] = true
		}
	}
	return all
}

// pairs runs a query with two columns about manifests, and returns the second by the first.
func (e *ending) pairs(text string, about []digest.Digest) (map[digest.Digest][]digest.Digest, error) {
	all := map[digest.Digest][]digest.Digest{}
	scan := func(rows *sql.Rows) error {
		var a, b digest.Digest
		err := rows.Scan(&a, &b)
		all[a] = append(all[a], b)
		return err
	}
	if len(about) == 0 {
		return all, nil
	}
	return all, database.Query(e.ctx, e.q, scan, text, e.repository, asJSON(about))
}

// Going is what a deletion of an image does.
type Going struct {
	Manifests []digest.Digest // that go from the repository, the image first
	Tags      []string        // that go with them, at most a thousand
	AllTags   int
	Children  []digest.Digest // that stay, since something else keeps them
	Freed     Freed
}

// tagsGoing bounds the names of the tags that go.
const tagsGoing = 1000

// Goes returns what DeleteImage or, with alone, Delete of an image would do, and the error with which it
// would refuse. Nothing is deleted.
func (s *Manifests) Goes(ctx context.Context, repo string, d digest.Digest, alone bool) (g Going, err error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return g, err
	}
	q := s.db.Reader()
	id, err := s.spared(ctx, q, repo, d)
	if err != nil {
		return g, err
	}
	e := ending{ctx: ctx, q: q, repository: id, gone: map[digest.Digest]bool{}, kept: map[digest.Digest][]digest.Digest{}, alone: alone}
	if err = e.add([]digest.Digest{d}); err == nil && !e.gone[d] {
		return g, &NotFoundError{Kind: "manifest", Name: d.String()}
	}
	g.Children = slices.Sorted(maps.Keys(e.kept))
	all := slices.Sorted(maps.Keys(e.gone))
	g.Manifests = append([]digest.Digest{d}, slices.DeleteFunc(slices.Clone(all), func(o digest.Digest) bool { return o == d })...)
	if err == nil {
		g.Freed, err = freedBy(ctx, q, map[int64]map[digest.Digest]bool{id: e.gone})
	}
	if err == nil {
		g.Tags, err = database.Column[string](ctx, q, `SELECT t.name FROM json_each(?2) d CROSS JOIN tags t
			WHERE t.repository = ?1 AND t.digest = d.value ORDER BY t.name LIMIT ?3`, id, asJSON(all), tagsGoing)
	}
	if err == nil {
		err = q.QueryRowContext(ctx, `SELECT count(*) FROM json_each(?2) d CROSS JOIN tags t WHERE t.repository = ?1 AND t.digest = d.value`,
			id, asJSON(all)).Scan(&g.AllTags)
	}
	if err != nil {
		err = fmt.Errorf("find out what a deletion does: %w", err)
	}
	return g, err
}

// Loses returns how many blobs, and how many bytes of them, a repository does not need any more once some manifests
// are gone from it. Unlike what a collection frees then, that depends on no other repository.
func (s *Manifests) Loses(ctx context.Context, repo string, gone []digest.Digest) (f Freed, err error) {
	f.Manifests = len(gone)
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if err == nil {
		err = s.db.Reader().QueryRowContext(ctx, onlyHere, asJSON(gone), id).Scan(&f.Blobs, &f.Bytes)
	}
	if err != nil {
		err = fmt.Errorf("find out what %s does not need any more: %w", repo, err)
	}
	return f, err
}

// freedBy counts what only the links of some manifests keep.
func freedBy(ctx context.Context, q database.Querier, gone map[int64]map[digest.Digest]bool) (f Freed, err error) {
	dropped := map[digest.Digest]bool{}
	for _, some := range gone {
		maps.Copy(dropped, some)
	}
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		var repository int64
		err := rows.Scan(&d, &repository)
		if !gone[repository][d] {
			delete(dropped, d)
		}
		return err
	}
	if err := database.Query(ctx, q, scan, havers, asJSON(slices.Sorted(maps.Keys(dropped)))); err != nil {
		return f, err
	}
	f.Manifests = len(dropped)
	err = q.QueryRowContext(ctx, onlyOf, asJSON(slices.Sorted(maps.Keys(dropped)))).Scan(&f.Blobs, &f.Bytes)
	return f, err
}

// Lists returns the indexes of a repository that list one of some manifests, or are one of them, with what they list there.
func (s *Manifests) Lists(ctx context.Context, repo string, some []digest.Digest) (map[digest.Digest][]digest.Digest, error) {
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if err != nil {
		return nil, err
	}
	e := ending{ctx: ctx, q: s.db.Reader(), repository: id}
	above, err := e.pairs(listedIn, some)
	if err != nil {
		return nil, fmt.Errorf("list the indexes of %s: %w", repo, err)
	}
	all := map[digest.Digest][]digest.Digest{}
	for child, indexes := range above {
		for _, d := range indexes {
			all[d] = append(all[d], child)
		}
	}
	below, err := e.pairs(lists, some)
	if err != nil {
		return nil, fmt.Errorf("list the indexes of %s: %w", repo, err)
	}
	maps.Copy(all, below)
	return all, nil
}
