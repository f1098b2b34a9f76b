package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// composed are the statements that Go code puts together, by name. All others are
// read from the source.
func composed() map[string]string {
	all := map[string]string{
		"manifest by digest": manifestByDigest, "manifest by tag": manifestByTag, "link by digest": linkByDigest, "link by tag": linkByTag, "blob": visibleBlob,
		"referrers": referrersOf, "needed link": neededLink, "staged blob": stagedBlob, "user": selectUser + ` WHERE name = ?`,
		"links after": linksAfter, "unused link": stillUnused, "garbage": garbageIn, "is garbage": stillGarbage,
		"belongings": allBelongings, "belongings of one": belongingsOf, "orphans": orphans,
		"evictable": selectEvictable, "unneeded": selectUnneeded, "strays": selectStrays, "evictable bytes": sumEvictable,
		"held blob": blobContent().find, "held manifest": manifestContent().find,
		"staged blobs": lastStaged("run_blobs"), "staged manifests": lastStaged("run_manifests"),
		"clear tags": clearing("run_tags", "name", 1), "clear origins": clearing("run_origins", "tag", 1), "clear blobs": clearing("run_blobs", "digest", 1), "clear manifests": clearingManifests,
		"insert references": insertRows(2), "moves of a run": runMoves, "pinned": selectPinned, "pin": pinLink, "unpin": unpinLink, "parts": countParts, "keeping": selectKeeping,
		"keepers": keepers, "havers": havers, "only of": onlyOf, "only here": onlyHere, "listed in": listedIn, "lists": lists, "shared": selectShared,
		"usage": usageOf, "rest of origins": restOfOrigins, "origins after": originsAfter, "rest of manifests": restOfManifests, "manifests after": manifestsAfter, "rest of tags": restOfTags, "tags after": tagsAfter,
		"users after": usersAfter, "clusters after": clustersAfter, "notes after": notesAfter,
		"followed pulled": followedPulled, "lacks again": lacksAgain, "unlisted notes": unlistedNotes,
		"images after": imagesAfter, "unreached after": unreachedAfter,
	}
	for name, texts := range map[string][]string{"link blobs": linkBlobs, "link references": linkReferences, "link again": linkAgain, "flip": flipping, "rolling back": rollingBack} {
		for i, text := range texts {
			all[name+" "+strconv.Itoa(i)] = text
		}
	}
	for name, text := range map[string]string{"record": recordMoves, "trim": trimHistory, "delete": deleteMoving, "put": upsertMoving} {
		all[name+" moving tags"] = movingTags(`SELECT CAST(?2 AS BIGINT), n.value, ?3 FROM json_each(?4) n`) + text
	}
	for _, c := range datedColumns {
		all["times of "+c.table], all["clamp times of "+c.table] = c.list(), c.update()
	}
	return all
}

// scans are the statements, by how they begin, that may read a whole table or index,
// and the reason.
func scans() map[string]string {
	return map[string]string{
		`SELECT (SELECT count(*) FROM repositories`:                                                                "counts all, for metrics and the status",
		`SELECT coalesce(sum(size), 0) FROM blobs`:                                                                 "counts all, once for each eviction",
		`SELECT l.repository, r.name, l.digest FROM repository_manifests l INDEXED BY repository_manifests_pinned`: "lists all that is pinned",
		`WITH RECURSIVE below (digest) AS (SELECT ?2`:                                                              "reads the parts of one image that it has found",
		`WITH RECURSIVE kept (repository, digest)`:                                                                 "counts all that was pulled through, once for each eviction",
		`SELECT DISTINCT b.digest, b.size`:                                                                         "reads the links of pulled blobs, once for each eviction",
		`SELECT json_array(`:                                                                                       "looks for times in the future, once for each collection",
		`SELECT id, name, committed`:                                                                               "there are few runs",
		`SELECT id FROM runs`:                                                                                      "there are few runs",
		`SELECT DISTINCT id, repository, whole`:                                                                    "there are few removals",
		`SELECT id, digest, length(body)`:                                                                          "reads the journal when the store is opened",
		`SELECT r.name, t.name, t.digest FROM repositories r CROSS JOIN tags t ON t.repository = r.id WHERE r.name GLOB`: "looks for releases after a change, in the background",
		`SELECT r.name, l.digest FROM repositories r CROSS JOIN repository_manifests l ON`:                               "looks for releases after a change, in the background",
		`SELECT name, role, repositories`:                                                  "lists the accounts",
		`SELECT id, name FROM repositories`:                                                "names what uses the space, once for each count",
		`SELECT t.repository, t.name, '' FROM tags t`:                                      "compares all with a list of all",
		`SELECT l.repository, l.digest FROM repository_manifests l CROSS`:                  "compares all with a list of all",
		`DELETE FROM users WHERE name NOT IN`:                                              "compares all with a list of all",
		`SELECT 1 FROM followed WHERE lacks`:                                               "finds the first row of an index of what is lacking",
		`SELECT count(*) FROM (SELECT 1 FROM followed`:                                     "counts up to a bound",
		`SELECT id, address, ca, token, users, started, seen, session = '', listing, CASE`: "counts up to a bound what a follower lists",
		`SELECT seq FROM changes ORDER BY seq DESC`:                                        "skips as many rows as are kept, at each maintenance",
		`INSERT INTO repositories`:                                                         "SQLite looks for removals of the new row; there are few",
	}
}

// TestStore_plans_SQLite has each statement of the store find its rows by an index. It takes the
// statements from the source, so that a new one is among them: a literal as it stands, and one that
// is put together from composed.
func TestStore_plans_SQLite(t *testing.T) {
	f := newFixture(t)
	statements := composed()
	for place, text := range statementLiterals(t) {
		if f.compiles(text) {
			statements[place] = text
		} else if !slices.ContainsFunc(slices.Collect(maps.Values(composed())), func(whole string) bool { return contains(whole, text) }) {
			t.Errorf("%s: a part of a statement that composed() lacks: %s", place, text)
		}
	}
	if len(statements) < 100 {
		t.Fatalf("only %d statements were found", len(statements))
	}
	allowed, needed := scans(), map[string]bool{}
	for place, text := range statements {
		for line := range strings.Lines(f.explain(text, make([]any, parameters(text))...)) {
			if !scansTable(text, strings.TrimSpace(line)) {
				continue
			}
			explained := false
			for begin := range allowed {
				if strings.HasPrefix(plain(text), begin) {
					explained, needed[begin] = true, true
				}
			}
			if !explained {
				t.Errorf("%s: %s, by\n%s", place, strings.TrimSpace(line), text)
			}
		}
	}
	for begin := range allowed {
		if !needed[begin] {
			t.Errorf("no statement that begins with %s scans a table", begin)
		}
	}
}

var (
	numbered = regexp.MustCompile(`\?(\d+)`)
	formats  = regexp.MustCompile(`%(\[\d\])?[ds]`)
	scanned  = regexp.MustCompile(`^SCAN (\w+)`)
)

// parameters returns how many parameters a statement has.
func parameters(text string) (n int) {
	for _, match := range numbered.FindAllStringSubmatch(text, -1) {
		i, _ := strconv.Atoi(match[1])
		n = max(n, i)
	}
	if n == 0 {
		n = strings.Count(text, "?")
	}
	return n
}

func plain(text string) string { return strings.Join(strings.Fields(text), " ") }

// contains reports whether a statement has all pieces of a literal, which may be a format.
func contains(whole, part string) bool {
	for _, piece := range formats.Split(part, -1) {
		if !strings.Contains(plain(whole), plain(piece)) {
			return false
		}
	}
	return true
}

// scansTable reports whether a line of a plan reads all of a table, and not of a
// subquery or of an argument.
func scansTable(text, line string) bool {
	match := scanned.FindStringSubmatch(line)
	if match == nil || strings.Contains(line, "VIRTUAL TABLE") || match[1] == "CONSTANT" {
		return false
	}
	tables := `(repositories|blobs|repository_blobs|manifests|manifest_refs|repository_manifests|tags|tag_history|runs|run_blobs|` +
		`run_manifests|run_tags|users|secrets|meta|sources|quarantine|quarantine_links|blob_journal|removals|origins|run_origins|cluster_manifests|changes|followed)`
	return regexp.MustCompile(`^`+tables+`$`).MatchString(match[1]) || regexp.MustCompile(`\b`+tables+` `+match[1]+`\b`).MatchString(plain(text))
}

// compiles reports whether a text is a whole statement.
func (f *fixture) compiles(text string) bool {
	rows, err := f.db.Reader().QueryContext(f.ctx, "EXPLAIN QUERY PLAN "+text, make([]any, parameters(text))...)
	if err != nil {
		return false
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err() == nil
}

// statementLiterals returns the string literals that begin like a statement, by
// their place in the source.
func statementLiterals(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			verb, _, more := strings.Cut(plain(text), " ")
			if err == nil && more && slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}, verb) {
				found[set.Position(lit.Pos()).String()] = text
			}
			return true
		})
	}
	return found
}
