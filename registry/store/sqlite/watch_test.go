package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	modernc "modernc.org/sqlite"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// TestDB_Damage overwrites a page that a query comes to when it has read others.
func TestDB_Damage(t *testing.T) {
	f := newFixture(t)
	const notes = 100
	for i := range notes {
		f.note(fmt.Sprintf("%04d", i), strings.Repeat(fmt.Sprintf("note %04d ", i), 100))
	}
	f.reopen() // which checkpoints the WAL
	path := f.path
	content, err := os.ReadFile(path)
	f.must(err)
	at := bytes.Index(content, fmt.Appendf(nil, "note %04d ", notes-1)) / 4096 * 4096
	f.must(f.Close())
	f.DB = nil
	copy(content[at:at+4096], bytes.Repeat([]byte{0xff}, 4096))
	f.must(os.WriteFile(path, content, 0o600))
	var log bytes.Buffer
	f.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	f.reopen()

	if err := f.Damage(); err != nil {
		t.Errorf("before it is read the damage is %v", err)
	}
	for range 2 {
		read := 0
		err = database.Query(f.ctx, f.reader, func(*sql.Rows) error { read++; return nil }, `SELECT value FROM notes`)
		var corrupt *database.CorruptError
		if read == 0 || !errors.As(err, &corrupt) || corrupt.Path != path || !errors.As(err, new(*modernc.Error)) || !strings.Contains(corrupt.Hint(), "appliance restore") {
			t.Errorf("after %d rows the error is %v", read, err)
		}
	}
	if _, err := database.Exists(f.ctx, f.reader, `SELECT 1 FROM notes WHERE name = '0000'`); err != nil {
		t.Errorf("what is not damaged: %v", err)
	}
	if !errors.As(f.Damage(), new(*database.CorruptError)) {
		t.Errorf("the damage is %v", f.Damage())
	}
	if n := strings.Count(log.String(), "the database is damaged"); n != 1 || !strings.Contains(log.String(), "appliance verify") {
		t.Errorf("the log has %s", &log)
	}
	f.reopen()
	if err := f.Damage(); err != nil {
		t.Errorf("after a restart the damage is %v", err)
	}
}

// What a reader of rows finds out is remembered like what SQLite finds.
func TestDB_Damaged(t *testing.T) {
	f := newFixture(t)
	wrong := errors.New("a wrong row")
	for _, err := range []error{f.Damaged(wrong), f.Damage()} {
		var corrupt *database.CorruptError
		if !errors.As(err, &corrupt) || !errors.Is(err, wrong) || corrupt.Path != f.path {
			t.Errorf("got %v", err)
		}
	}
}
