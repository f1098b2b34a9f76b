package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/mirror-appliance/appliance/internal/diskspace"
)

// A database that an older version made is converted when there is space for it.
func TestDB_Maintain_convertsAnOlderDatabase(t *testing.T) {
	f := newFixture(t)
	_, err := f.writer.ExecContext(f.ctx, `PRAGMA auto_vacuum = 0; VACUUM`)
	f.must(err)
	f.reopen()
	mode := func() int {
		p, err := readPages(f.ctx, f.reader)
		f.must(err)
		return p.vacuum
	}
	if mode() != 0 {
		t.Fatal("it is converted when it is opened")
	}
	f.note("kept", 1)
	f.note("large", make([]byte, 3<<20))
	f.delete("large")

	f.space.Bytes = func(string) (free, total int64, err error) { return diskspace.Least + 1, 1 << 40, nil }
	f.must(f.Maintain(f.ctx))
	if mode() != 0 {
		t.Error("it is converted without space for it")
	}
	f.space.Bytes = diskspace.Bytes
	before := f.size("")
	f.must(f.Maintain(f.ctx))
	if mode() != autoVacuum || f.size("") > before {
		t.Errorf("mode %d, and %d bytes", mode(), f.size(""))
	}
	if got := f.notes(); got != "kept" {
		t.Errorf("left: %s", got)
	}
}

func (f *fixture) delete(names ...any) {
	f.t.Helper()
	for _, name := range names {
		f.must(f.WriteFreeing(f.ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(f.ctx, `DELETE FROM notes WHERE name = ?`, name)
			return err
		}))
	}
}

// A write that waits ends the conversion, which is not an error.
func TestDB_convert_givesWay(t *testing.T) {
	f := newFixture(t)
	ctx, giveUp := context.WithCancelCause(f.ctx)
	conn, err := f.writer.Conn(f.ctx)
	f.must(err)
	go f.giveWay(ctx, f.writer.Stats().WaitCount, giveUp)
	done := make(chan error)
	go func() { done <- f.Share(f.ctx, insertNote("waiting")) }()
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, errGaveWay) {
		t.Error(err)
	}
	f.must(conn.Close())
	f.must(<-done)
}

// What was deleted is given back when the database is closed, and is as good as free until then.
func TestDB_Close_givesFreePagesBack(t *testing.T) {
	f := newFixture(t)
	for n := range 40 {
		f.note(fmt.Sprint(n), make([]byte, 256<<10))
	}
	f.reopen()
	grown := f.size("")
	for n := range 40 {
		f.delete(fmt.Sprint(n))
	}
	if free := f.Reusable(f.path); free < grown/2 {
		t.Errorf("of %d bytes %d are free", grown, free)
	}
	f.reopen()
	if size := f.size(""); grown < 8<<20 || size > grown/4 {
		t.Errorf("the database had %d bytes, and has %d with nothing in it", grown, size)
	}
}
