package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Page returns what follows a position, at most limit things of it, and records that the follower has
// saved what came before, and whether it shows that. *RelistError, *InvalidError.
func (s *Feed) Page(ctx context.Context, follower, since string, shown bool, limit int) (Page, error) {
	p, err := parsePosition(since)
	if err != nil {
		return Page{}, err
	}
	limit = max(1, min(limit, MaxChanges))
	page, next, err := s.readPage(ctx, follower, p, limit)
	check := ""
	if err == nil && next != p {
		check = rand.Text()
		next.Check = check
	}
	if err == nil {
		err = s.confirm(ctx, follower, p, shown, check)
	}
	if err != nil {
		return Page{}, fmt.Errorf("read changes: %w", err)
	}
	page.Next = next.String()
	return page, nil
}

// readPage reads a page in one transaction, so that its states are of one moment, and returns the position after it.
func (s *Feed) readPage(ctx context.Context, follower string, p position, limit int) (page Page, next position, err error) {
	tx, err := s.db.Reader().BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return Page{}, p, err
	}
	defer tx.Rollback() //nolint:errcheck // nothing is written
	users, _, err := checkFollower(ctx, tx, follower, p)
	if err != nil {
		return Page{}, p, err
	}
	if p.Listing != "" {
		return listPage(ctx, tx, p, users, limit)
	}
	return changesPage(ctx, tx, p, users, limit)
}

// changesPage has the changes after a position.
func changesPage(ctx context.Context, q database.Querier, p position, users bool, limit int) (page Page, next position, err error) {
	type row struct {
		seq int64
		Change
	}
	columns := func(r *row) []any { return []any{&r.seq, &r.Kind, &r.Repository, &r.Name} }
	rows, err := database.List(ctx, q, columns, `SELECT seq, kind, repository, name FROM changes WHERE seq > ? ORDER BY seq LIMIT ?`, p.Seq, limit)
	if err != nil {
		return Page{}, p, err
	}
	size, read := 0, 0
	for _, r := range rows {
		if size > pageBytes {
			break
		}
		read++
		p.Seq = r.seq
		if r.Kind == kindUser && !users {
			continue
		}
		if r.State, err = stateOf(ctx, q, r.Kind, r.Repository, r.Name); err != nil {
			return Page{}, p, err
		}
		size += len(r.State)
		page.Changes = append(page.Changes, r.Change)
	}
	if page.CaughtUp = read == len(rows) && len(rows) < limit; page.CaughtUp {
		err = q.QueryRowContext(ctx, `SELECT head FROM feed`).Scan(&p.Seq)
	} else {
		err = countPending(ctx, q, p, &page)
	}
	return page, p, err
}

func countPending(ctx context.Context, q database.Querier, p position, page *Page) error {
	return q.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM changes WHERE seq > ? LIMIT ?) few`, p.Seq, pendingCounted).Scan(&page.Pending)
}

// listPage has the next things of a list of all. The changes since the list began follow it.
func listPage(ctx context.Context, q database.Querier, p position, users bool, limit int) (page Page, next position, err error) {
	for size := 0; p.Listing != "" && len(page.Changes) < limit && size <= pageBytes; {
		keys, err := listKeys(ctx, q, p, limit-len(page.Changes))
		if err != nil {
			return Page{}, p, err
		}
		if len(keys) == 0 || p.Listing == kindUser && !users {
			p = p.nextKind()
			continue
		}
		for _, c := range keys {
			if size > pageBytes {
				break
			}
			p.Repo, p.Name = c.Repository, c.Name
			if c.State, err = stateOf(ctx, q, c.Kind, c.Repository, c.Name); err != nil {
				return Page{}, p, err
			}
			size += len(c.State)
			page.Changes = append(page.Changes, c)
		}
	}
	return page, p, countPending(ctx, q, p, &page)
}

// nextKind returns the position at the beginning of the next kind, or at the end of the list.
func (p position) nextKind() position {
	next := position{Session: p.Session, Seq: p.Seq}
	if i := slices.Index(listed(), p.Listing); i >= 0 && i+1 < len(listed()) {
		next.Listing = listed()[i+1]
	}
	return next
}

// The things of a list after one. Those of repositories are read to the end of a repository, and then
// along the names of the next, since one statement for both reads a repository again for each page.
const (
	restOfManifests = `SELECT r.name, l.digest FROM repositories r CROSS JOIN repository_manifests l ON l.repository = r.id
		WHERE r.name = ?1 AND l.digest > ?2 ORDER BY l.digest LIMIT ?3`
	manifestsAfter = `SELECT r.name, l.digest FROM repositories r CROSS JOIN repository_manifests l ON l.repository = r.id
		WHERE r.name > ?1 AND ?2 = ?2 ORDER BY r.name, l.digest LIMIT ?3`
	restOfTags = `SELECT r.name, t.name FROM repositories r CROSS JOIN tags t ON t.repository = r.id
		WHERE r.name = ?1 AND t.name > ?2 ORDER BY t.name LIMIT ?3`
	tagsAfter = `SELECT r.name, t.name FROM repositories r CROSS JOIN tags t ON t.repository = r.id
		WHERE r.name > ?1 AND ?2 = ?2 ORDER BY r.name, t.name LIMIT ?3`
	usersAfter    = `SELECT ?1, name FROM users WHERE name > ?2 ORDER BY name LIMIT ?3`
	clustersAfter = `SELECT ?1, id FROM clusters WHERE id > ?2 ORDER BY id LIMIT ?3`
	notesAfter    = `SELECT ?1, name FROM meta WHERE name > ?2 AND name >= '` + wantsNote + `' AND name < 'wants!' ORDER BY name LIMIT ?3`
)

func listKeys(ctx context.Context, q database.Querier, p position, n int) (keys []Change, err error) {
	statements := map[string][]string{
		kindManifest: {restOfManifests, manifestsAfter}, kindTag: {restOfTags, tagsAfter},
		kindUser: {usersAfter}, kindCluster: {clustersAfter}, kindNote: {notesAfter},
	}[p.Listing]
	if statements == nil {
		return nil, &InvalidError{What: "position", Reason: "it is none that this feed gave"}
	}
	columns := func(c *Change) []any { return []any{&c.Repository, &c.Name} }
	for _, text := range statements {
		if err == nil && len(keys) < n {
			var more []Change
			more, err = database.List(ctx, q, columns, text, p.Repo, p.Name, n-len(keys))
			keys = append(keys, more...)
		}
	}
	for i := range keys {
		keys[i].Kind = p.Listing
	}
	return keys, err
}

// The states of things, as JSON in the feed and in the table followed, whose statements read some of it.
type (
	manifestState struct {
		MediaType string        `json:"mediaType"` // declared, "" where the manifest names its own
		Pulled    int           `json:"pulled"`    // as in repository_manifests
		Linked    int64         `json:"linked"`
		Blobs     []string      `json:"blobs,omitempty"` // that are here, of one that was pulled through; a pushed one has all
		Origins   []originState `json:"origins,omitempty"`
	}
	originState struct {
		Tag      string `json:"tag"`
		Origin   string `json:"origin"`
		About    string `json:"about"` // text, whose bytes stay as they are
		Recorded int64  `json:"recorded"`
	}
	tagState struct {
		Digest  digest.Digest `json:"digest"`
		Updated int64         `json:"updated"`
	}
	blobState struct {
		Size int64 `json:"size"`
	}
	userState struct {
		Role         string `json:"role"`
		Repositories string `json:"repositories"` // as in users
		PasswordHash []byte `json:"passwordHash"`
		Created      int64  `json:"created"`
		Updated      int64  `json:"updated"`
	}
	clusterState struct {
		Name    string   `json:"name"`
		User    string   `json:"user"`
		Facts   string   `json:"facts"`
		Updated int64    `json:"updated"`
		Needs   []string `json:"needs"`
	}
	noteState struct {
		Value string `json:"value"`
	}
)

// stateOf returns the state of a thing, nil if it does not exist.
func stateOf(ctx context.Context, q database.Querier, kind, repository, name string) (json.RawMessage, error) {
	var state any
	var err error
	switch kind {
	case kindManifest:
		state, err = manifestStateOf(ctx, q, repository, name)
	case kindTag:
		var t tagState
		err = q.QueryRowContext(ctx, `SELECT t.digest, t.updated FROM repositories r CROSS JOIN tags t ON t.repository = r.id
			WHERE r.name = ? AND t.name = ?`, repository, name).Scan(&t.Digest, &t.Updated)
		state = t
	case kindBlob:
		var b blobState
		err = q.QueryRowContext(ctx, visibleBlob, repository, name).Scan(&b.Size)
		state = b
	case kindUser:
		var u userState
		err = q.QueryRowContext(ctx, `SELECT role, repositories, password_hash, created, updated FROM users WHERE name = ?`, name).
			Scan(&u.Role, &u.Repositories, &u.PasswordHash, &u.Created, &u.Updated)
		state = u
	case kindCluster:
		var c clusterState
		err = q.QueryRowContext(ctx, `SELECT name, "user", facts, updated FROM clusters WHERE id = ?`, name).
			Scan(&c.Name, &c.User, &c.Facts, &c.Updated)
		if err == nil {
			c.Needs, err = database.Column[string](ctx, q, `SELECT digest FROM cluster_manifests WHERE cluster = ? ORDER BY digest`, name)
		}
		state = c
	case kindNote:
		var n noteState
		err = q.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, name).Scan(&n.Value)
		state = n
	default:
		err = fmt.Errorf("a change has the unknown kind %s", kind)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s %s: %w", kind, repository, name, err)
	}
	return json.Marshal(state)
}

func manifestStateOf(ctx context.Context, q database.Querier, repository, name string) (m manifestState, err error) {
	var id int64
	err = q.QueryRowContext(ctx, `SELECT l.repository, l.media_type, l.pulled, l.linked FROM repositories r
		CROSS JOIN repository_manifests l ON l.repository = r.id WHERE r.name = ? AND l.digest = ?`, repository, name).
		Scan(&id, &m.MediaType, &m.Pulled, &m.Linked)
	if err == nil && m.Pulled != 0 {
		m.Blobs, err = database.Column[string](ctx, q, `SELECT DISTINCT f.digest FROM manifest_refs f
			CROSS JOIN repository_blobs l ON l.repository = ?2 AND l.digest = f.digest
			WHERE f.manifest = ?1 AND f.kind <> 'child' AND f.elsewhere = 0`, name, id)
	}
	if err == nil {
		scan := func(rows *sql.Rows) error {
			var o originState
			err := rows.Scan(&o.Tag, &o.Origin, &o.About, &o.Recorded)
			m.Origins = append(m.Origins, o)
			return err
		}
		err = database.Query(ctx, q, scan, `SELECT tag, origin, about, recorded FROM origins WHERE repository = ? AND digest = ? ORDER BY tag, origin`, id, name)
	}
	return m, err
}
