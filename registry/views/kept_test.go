package views_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestViews_theKeptOriginalIsDamaged damages what is kept of an original in files: it is made anew from
// the store.
func TestViews_theKeptOriginalIsDamaged(t *testing.T) {
	const read = "database stable:1.1.0 1.2.0"
	const file, flipped = "catalog-files/sample-database/catalog.json", "sample-database-bundle"
	change := func(with func([]byte) []byte) func(name string) error {
		return func(name string) error {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return os.WriteFile(name, with(text), 0o600)
		}
	}
	empty := change(func([]byte) []byte { return nil })
	half := change(func(b []byte) []byte { return b[:len(b)/2] })
	junk := change(func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) })
	for name, damage := range map[string]map[string]func(string) error{
		"half of a file":                  {file: half},
		"an empty file":                   {file: empty},
		"a file is missing":               {file: os.Remove},
		"junk":                            {file: junk},
		"junk, and the index":             {file: junk, "catalog-index": junk},
		"the list of the files is broken": {"catalog-sums": half},
		"of an earlier version, and junk": {file: junk, "catalog-sums": os.Remove},
		"all of it":                       {".": os.RemoveAll},
		// which is JSON still, and names another image
		"some bytes": {file: change(func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte(flipped), []byte(strings.ToUpper(flipped[:1])+flipped[1:]))
		})},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, stable("views/db:v1"))
			f.mirror(index + database("1.1.0"))
			before := f.one()
			f.shows("views/db", "v1", read)
			kept := filepath.Join(f.dir, "catalogs", before.OriginalDigest.Encoded())
			for name, change := range damage {
				f.must(change(filepath.Join(kept, name)))
			}
			if s := f.one(); s.Digest != before.Digest || len(f.past()) != 1 {
				t.Errorf("the state is %+v, the history %q", s, f.past())
			}
			f.delete("operators/sample-database-bundle", "v1.2.0")
			f.one()
			f.shows("views/db", "v1", "database stable:1.1.0")
		})
	}
}

// TestViews_aNameThatIsTaken has a view under the name of a catalog that mirror publishes.
func TestViews_aNameThatIsTaken(t *testing.T) {
	const published = "far/redhat/redhat-operator-index"
	view := stable(published + ":v4.18")
	f := newFixture(t, view)
	refused := func() {
		t.Helper()
		s := f.pass()[0]
		if !strings.Contains(s.Error, published+":v4.18 is where a run of mirror has put ") || !strings.Contains(s.Hint, "targetCatalog") {
			t.Errorf("the state is %+v", s)
		}
	}
	f.mirror(index + database("1.2.0"))
	mirrored := f.digest(published, "v4.18")
	refused()
	if f.digest(published, "v4.18") != mirrored {
		t.Error("the catalog of the run is replaced")
	}
	f.must(f.Tags.Delete(t.Context(), published, "v4.18"))
	f.one()
	f.mirror(index + database("1.1.0"))
	refused()
	past, err := f.Runs.Past(t.Context(), 1, "", "")
	f.must(err)
	f.rollBack(past[0].ID)
	if s := f.one(); s.Run == past[0].ID || f.digest(published, "v4.18") != s.Digest {
		t.Errorf("the state is %+v", s)
	}
	f.shows(published, "v4.18", "database stable:1.1.0 1.2.0")
}
