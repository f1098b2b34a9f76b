package store

import (
	"database/sql"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
)

// TestStore_plansOnPostgreSQL has PostgreSQL find the rows of each statement by an index, as
// TestStore_plans_SQLite does: with enable_seqscan = off a plan reads a whole table only where no
// index serves it. What may is listed in scans; PostgreSQL has a plan for the removal of all rows as well.
func TestStore_plansOnPostgreSQL(t *testing.T) {
	f := newFixture(t)
	db, err := postgres.Beside(databaseIn(t, f.dir), map[string]string{"enable_seqscan": "off"})
	f.must(err)
	defer func() { f.must(db.Close()) }()
	statements := composed()
	for place, text := range statementLiterals(t) {
		if _, err := explainOnServer(f, db, text); err == nil {
			statements[place] = text
		}
	}
	if len(statements) < 100 {
		t.Fatalf("only %d statements were found", len(statements))
	}
	allowed, seen := scans(), 0
	for place, text := range statements {
		plan, err := explainOnServer(f, db, text)
		if err != nil {
			t.Errorf("%s: %v", place, err)
			continue
		}
		seen++
		for _, line := range plan {
			if !seqScan.MatchString(line) {
				continue
			}
			explained := plain(text) == `DELETE FROM followed`
			for begin := range allowed {
				explained = explained || strings.HasPrefix(plain(text), begin)
			}
			if !explained {
				t.Errorf("%s: %s, by\n%s", place, strings.TrimSpace(line), plain(text))
			}
		}
	}
	t.Logf("%d plans", seen)
}

var seqScan = regexp.MustCompile(`Seq Scan on (repositories|blobs|repository_blobs|manifests|manifest_refs|repository_manifests|tags|tag_history|run_blobs|run_manifests|` +
	`run_tags|quarantine_links|origins|run_origins|cluster_manifests|changes|followed)\b`)

// explainOnServer returns the lines of a plan.
func explainOnServer(f *fixture, db *sql.DB, text string) (plan []string, err error) {
	for _, value := range []string{"1", "[]"} { // which a number, a text and bytes can be, or a list
		args := slices.Repeat([]any{value}, parameters(text))
		if plan, err = database.Column[string](f.ctx, db, "EXPLAIN "+text, args...); err == nil {
			return plan, nil
		}
		if errors.Is(err, f.ctx.Err()) {
			break
		}
	}
	return nil, err
}
