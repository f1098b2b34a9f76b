package sqlite

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// growWAL writes while a transaction reads, so that nothing of the WAL can be used again.
// It returns the reader.
func (f *fixture) growWAL() *sql.Tx {
	f.t.Helper()
	reader, err := f.reader.BeginTx(f.ctx, &sql.TxOptions{ReadOnly: true})
	f.must(err)
	_, err = database.Exists(f.ctx, reader, `SELECT 1 FROM notes`) // and from now on it sees the database as it is now
	f.must(err)
	for i := 0; f.size("-wal") <= 2*walKept; i++ {
		_, err := f.writer.ExecContext(f.ctx, `INSERT INTO notes (name, value) VALUES (?, randomblob(1000000))`, fmt.Sprint("large ", i))
		f.must(err)
	}
	return reader
}

func TestDB_Maintain_shrinksTheWAL(t *testing.T) {
	f := newFixture(t)
	f.note("first", 1)
	reader := f.growWAL()
	began := time.Now()
	f.must(f.Maintain(f.ctx)) // it cannot, and neither waits for long nor fails
	if took := time.Since(began); took >= busyTimeout {
		t.Errorf("it waited %s for a reader", took)
	}
	if size := f.size("-wal"); size <= walKept {
		t.Errorf("the WAL has %d bytes under a reader that needs it", size)
	}
	f.must(reader.Rollback())
	f.must(f.Maintain(f.ctx))
	if size := f.size("-wal"); size > walKept {
		t.Errorf("the WAL has %d bytes", size)
	}
	f.note("later", 1)
	var found int
	f.must(f.reader.QueryRow(`SELECT count(*) FROM notes WHERE name IN ('first', 'later')`).Scan(&found))
	if found != 2 {
		t.Errorf("%d notes are left", found)
	}
	var patience int64
	f.must(f.writer.QueryRow(`PRAGMA busy_timeout`).Scan(&patience))
	if patience != busyTimeout.Milliseconds() {
		t.Errorf("the writer is left with a busy timeout of %d ms", patience)
	}
}

// What a large run made of the WAL goes with the next write that uses it again, without Maintain.
func TestDB_WALIsBounded(t *testing.T) {
	f := newFixture(t)
	f.must(f.growWAL().Rollback())
	for i := 0; f.size("-wal") > walKept; i++ {
		if i == 10 {
			t.Fatalf("the WAL still has %d bytes", f.size("-wal"))
		}
		f.note(fmt.Sprint(i), 1)
	}
}

func (f *fixture) analyzed(table string) bool {
	f.t.Helper()
	looked, err := database.Exists(f.ctx, f.reader, `SELECT 1 FROM sqlite_stat1 WHERE tbl = ?`, table)
	f.must(err)
	return looked
}

// Statistics of a table that has grown since, and is too large now to be analyzed while writers
// wait, would let the planner read all of it as if it were small.
func TestDB_Maintain_statistics(t *testing.T) {
	f := newFixture(t)
	f.note("a", 1)
	grow := func(from, to int) {
		_, err := f.writer.Exec(`WITH RECURSIVE n (i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?)
			INSERT INTO parts (note, position) SELECT 'a', i FROM n`, from, to)
		f.must(err)
	}
	grow(1, 10)
	f.must(f.Maintain(f.ctx))
	if !f.analyzed("parts") || !f.analyzed("notes") {
		t.Fatal("there are no statistics")
	}
	grow(11, analysisRows+20)
	f.must(f.Maintain(f.ctx))
	if f.analyzed("parts") || !f.analyzed("notes") {
		t.Error("statistics of a small table are kept for a large one, or those of the others are not")
	}
	f.must(f.Maintain(f.ctx))
}
