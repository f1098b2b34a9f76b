package main_test

import (
	"database/sql"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestStatus_damaged is the first to count what a damaged page of the database holds: it is not
// said to be nothing, nor that all is well.
func TestStatus_damaged(t *testing.T) {
	f, _ := filled(t)
	f.start(t)
	db, err := sql.Open("sqlite", "file:"+f.cfg.Database+"?mode=ro")
	must(t, err)
	var pages []int64
	rows, err := db.Query(`SELECT rootpage FROM sqlite_master WHERE tbl_name = 'tags' AND rootpage > 0`)
	must(t, err)
	for rows.Next() {
		var page int64
		must(t, rows.Scan(&page))
		pages = append(pages, page)
	}
	must(t, rows.Close())
	must(t, db.Close())
	database, err := os.OpenFile(f.cfg.Database, os.O_RDWR, 0)
	must(t, err)
	defer database.Close()
	for _, page := range pages {
		_, err := database.WriteAt(randomBytes(4096), (page-1)*4096)
		must(t, err)
	}
	code, stdout, stderr := outcome(t, f.command("status"))
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	for _, want := range []string{"healthy       no: database;", "held          not known\n", "trouble: database ", "hint: `appliance verify`"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it does not say %q:\n%s", want, stdout)
		}
	}
	_, stdout, _ = outcome(t, f.command("status", "-o", "json"))
	var got map[string]any
	must(t, json.Unmarshal([]byte(stdout), &got))
	if _, counted := got["store"]; counted || got["healthy"] != false {
		t.Errorf("it says\n%s", stdout)
	}
	f.kill()
}

// TestStatus_lastMirror has the last run of a command, which sync in config.yaml knows nothing of.
func TestStatus_lastMirror(t *testing.T) {
	s := newSite(t)
	contains(t, s.works(t, "status", "--quayRoot", s.root), "last mirror   never\n", "healthy       yes\n", "last gc       never\n")
	s.mirror(t, s.set(t, "set.yaml", "  additionalImages: [{name: HOST/samples/docker:v1}]\n"))
	contains(t, s.works(t, "status", "--quayRoot", s.root), "last mirror   20", ": 1 tag\n")
	var got struct{ LastMirror struct{ Tags int } }
	must(t, json.Unmarshal([]byte(s.works(t, "status", "--quayRoot", s.root, "-o", "json")), &got))
	if got.LastMirror.Tags != 1 {
		t.Errorf("as JSON it is %+v", got)
	}
	s.appendTo(t, "minFree: 2GiB\n")
	contains(t, s.works(t, "status", "--quayRoot", s.root), "config.yaml has changed since it was read: minFree")
}
