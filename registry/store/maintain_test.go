package store

import (
	"database/sql"
	"fmt"
	"os"
	"testing"
	"time"
)

func (f *fixture) walSize() int64 {
	f.t.Helper()
	info, err := os.Stat(f.database + "-wal")
	f.must(err)
	return info.Size()
}

// growWAL writes while somebody reads, so that nothing of the WAL can be used again. It returns the reader.
func (f *fixture) growWAL() *sql.Tx {
	f.t.Helper()
	reader, err := f.reader.BeginTx(f.ctx, &sql.TxOptions{ReadOnly: true})
	f.must(err)
	_, err = exists(f.ctx, reader, `SELECT 1 FROM secrets`) // and from now on it sees the database as it is now
	f.must(err)
	for i := 0; f.walSize() <= 2*walKept; i++ {
		_, err := f.writer.ExecContext(f.ctx, `INSERT INTO secrets (name, value) VALUES (?, randomblob(1000000))`, fmt.Sprint("large ", i))
		f.must(err)
	}
	return reader
}

func TestStore_Maintain_ShrinksTheWAL(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	reader := f.growWAL()
	began := time.Now()
	f.must(f.Maintain(f.ctx)) // it cannot, and neither waits for long nor fails
	if took := time.Since(began); took >= busyTimeout {
		t.Errorf("it waited %s for a reader", took)
	}
	if size := f.walSize(); size <= walKept {
		t.Errorf("the WAL has %d bytes under a reader that needs it", size)
	}
	f.must(reader.Rollback())
	f.must(f.Maintain(f.ctx))
	if size := f.walSize(); size > walKept {
		t.Errorf("the WAL has %d bytes", size)
	}
	f.pushImage("app", "later", "v2")
	for _, tag := range []string{"v1", "v2"} {
		_, err := f.ManifestByTag(f.ctx, "app", tag)
		f.must(err)
	}
	var patience int64
	f.must(f.writer.QueryRow(`PRAGMA busy_timeout`).Scan(&patience))
	if patience != busyTimeout.Milliseconds() {
		t.Errorf("the writer is left with a busy timeout of %d ms", patience)
	}
}

// Between two calls of Maintain, too: what a large run made of the WAL goes with the next write that uses it again.
func TestStore_WALIsBounded(t *testing.T) {
	f := newFixture(t)
	f.must(f.growWAL().Rollback())
	for i := 0; f.walSize() > walKept; i++ {
		if i == 10 {
			t.Fatalf("the WAL still has %d bytes", f.walSize())
		}
		f.pushImage("app", fmt.Sprint(i))
	}
}

func TestStore_Maintain_LetsThePlannerLook(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	f.must(f.Maintain(f.ctx))
	looked, err := exists(f.ctx, f.reader, `SELECT 1 FROM sqlite_stat1 WHERE tbl = 'manifest_refs'`)
	if err != nil || !looked {
		t.Errorf("there are no statistics: %v", err)
	}
}

// Statistics of a table that has grown since, and is too large now to be analyzed while pushes wait, would let the
// planner read all of it as if it were small.
func TestStore_Maintain_ForgetsWhatIsNotTrueAnyMore(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.must(f.Maintain(f.ctx))
	analyzed := func(table string) bool {
		t.Helper()
		looked, err := exists(f.ctx, f.reader, `SELECT 1 FROM sqlite_stat1 WHERE tbl = ?`, table)
		f.must(err)
		return looked
	}
	if !analyzed("manifest_refs") || !analyzed("blobs") {
		t.Fatal("there are no statistics")
	}
	_, err := f.writer.Exec(fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO manifest_refs (manifest, position, kind, digest, size, media_type, elsewhere)
		SELECT ?, i, 'layer', 'sha256:' || i, 1, 'x/y', 1 FROM n`, analysisRows+20), m.Digest)
	f.must(err)
	f.must(f.Maintain(f.ctx))
	if analyzed("manifest_refs") || !analyzed("blobs") {
		t.Error("statistics of a small table are kept for a large one, or those of the others are not")
	}
	f.must(f.Maintain(f.ctx))
	f.mustHave("app", "v1")
}
