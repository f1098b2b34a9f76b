package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"modernc.org/sqlite"
)

// TestStore_Damage overwrites a page that a query comes to when it has read others.
func TestStore_Damage(t *testing.T) {
	f := newFixture(t)
	const notes = 100
	for i := range notes {
		f.must(f.SetNote(f.ctx, fmt.Sprintf("%04d", i), strings.Repeat(fmt.Sprintf("note %04d ", i), 100)))
	}
	f.reopen() // which folds the WAL into the file
	path := f.database
	content, err := os.ReadFile(path)
	f.must(err)
	at := bytes.Index(content, fmt.Appendf(nil, "note %04d ", notes-1)) / 4096 * 4096
	f.must(f.Close())
	f.Store = nil
	copy(content[at:at+4096], bytes.Repeat([]byte{0xff}, 4096))
	f.must(os.WriteFile(path, content, 0o600))
	f.reopen()
	var log bytes.Buffer
	f.damage.log = slog.New(slog.NewTextHandler(&log, nil))

	if err := f.Damage(); err != nil {
		t.Errorf("before it is read the damage is %v", err)
	}
	for range 2 {
		read := 0
		err = query(f.ctx, f.reader, func(*sql.Rows) error { read++; return nil }, `SELECT value FROM meta`)
		var corrupt *CorruptError
		if read == 0 || !errors.As(err, &corrupt) || corrupt.Path != path || !errors.As(err, new(*sqlite.Error)) || !strings.Contains(corrupt.Hint(), "appliance restore") {
			t.Errorf("after %d rows the error is %v", read, err)
		}
	}
	if _, err := f.Note(f.ctx, "0000"); err != nil {
		t.Errorf("what is not damaged: %v", err)
	}
	if !errors.As(f.Damage(), new(*CorruptError)) {
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

// TestStore_Damage_index lets an index lie, which no request notices by itself.
func TestStore_Damage_index(t *testing.T) {
	f := newFixture(t)
	_, err := smallImage(f.ctx, f.Store, "app", "v1")
	f.must(err)
	f.corrupt(`PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = 'CREATE INDEX tags_by_digest ON tags (updated)' WHERE name = 'tags_by_digest'; PRAGMA writable_schema = 0`)
	f.reopen()
	if err := f.Damage(); err != nil {
		t.Errorf("before anyone has looked the damage is %v", err)
	}
	report, err := f.Verify(f.ctx, VerifyOptions{})
	if err != nil || report.Clean() || f.Damage() == nil || !strings.Contains(f.Damage().Error(), "tags_by_digest") {
		t.Errorf("verify finds %+v, %v; the damage is %v", report.Problems, err, f.Damage())
	}
}
