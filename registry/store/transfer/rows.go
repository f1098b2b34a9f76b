package transfer

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
)

// rows copies the rows of all tables in one transaction, compares both sides, and ends the mark.
func (c *copying) rows(ctx context.Context) error {
	return c.to.db.Write(ctx, func(tx *sql.Tx) error {
		c.report.Rows, c.report.Tables = 0, nil // the transaction may run again
		if err := c.to.clear(ctx, tx); err != nil {
			return err
		}
		for _, t := range tables {
			copied, err := c.table(ctx, tx, t)
			if err != nil {
				return fmt.Errorf("copy table %s: %w", t.name, err)
			}
			c.report.Rows += copied.Rows
			c.report.Tables = append(c.report.Tables, copied)
		}
		if c.report.SameStorage {
			if err := c.identify(ctx, tx); err != nil {
				return err
			}
		}
		if err := c.to.settle(ctx, tx); err != nil {
			return err
		}
		state, err := c.compare(ctx, tx)
		if err != nil {
			return err
		}
		return writeMark(ctx, tx, mark{From: c.from.name(), Config: c.From.Config, To: c.To.Config, Whole: true, Digest: state, At: c.Now().UTC()})
	})
}

// clear empties the tables. The triggers of PostgreSQL are off until settle: those of SQLite have
// nothing to do while there are no followers.
func (t *target) clear(ctx context.Context, tx *sql.Tx) error {
	for _, of := range slices.Backward(tables) {
		if t.server {
			if _, err := tx.ExecContext(ctx, `ALTER TABLE `+of.name+` DISABLE TRIGGER USER`); err != nil {
				return fmt.Errorf("switch off the triggers of %s: %w", of.name, err)
			}
		}
		rows := ""
		if of.name == "meta" { // the id stays: a storage may know it
			rows = ` WHERE name <> '` + blobstore.OwnerNote + `'`
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+of.name+rows); err != nil {
			return fmt.Errorf("empty table %s: %w", of.name, err)
		}
	}
	return nil
}

// settle has new rows get ids after those of the rows that were copied, and the triggers work.
func (t *target) settle(ctx context.Context, tx *sql.Tx) error {
	if !t.server { // the next id is that after the last
		return nil
	}
	counted, err := database.Column[string](ctx, tx, `SELECT table_name FROM information_schema.columns
		WHERE table_schema = current_schema() AND column_name = 'id' AND is_identity = 'YES' ORDER BY table_name`)
	if err != nil {
		return fmt.Errorf("find the ids of rows: %w", err)
	}
	for _, name := range counted {
		var next int64
		err := tx.QueryRowContext(ctx, `SELECT setval(pg_get_serial_sequence('`+name+`', 'id'), (SELECT coalesce(max(id), 0) + 1 FROM `+name+`), false)`).Scan(&next)
		if err != nil {
			return fmt.Errorf("count on the ids of %s: %w", name, err)
		}
	}
	for _, of := range tables {
		if _, err := tx.ExecContext(ctx, `ALTER TABLE `+of.name+` ENABLE TRIGGER USER`); err != nil {
			return fmt.Errorf("switch on the triggers of %s: %w", of.name, err)
		}
	}
	return nil
}

// compare reads the target in the transaction that wrote it, and returns the digest of all tables.
func (c *copying) compare(ctx context.Context, tx *sql.Tx) (state string, err error) {
	all := sha256.New()
	for i, t := range tables {
		c.Progress(c.at("comparing " + t.name))
		got, err := digestOf(ctx, tx, t, t.copied())
		if err != nil {
			return "", fmt.Errorf("compare table %s: %w", t.name, err)
		}
		if want := c.report.Tables[i]; got != want {
			return "", fmt.Errorf("table %s is not equal after it was copied: the source has %d rows with the digest %s, the target %d with %s",
				t.name, want.Rows, want.Digest, got.Rows, got.Digest)
		}
		if t.content() != t.copied() {
			if got, err = digestOf(ctx, tx, t, t.content()); err != nil {
				return "", fmt.Errorf("compare table %s: %w", t.name, err)
			}
		}
		fmt.Fprintln(all, got.Name, got.Rows, got.Digest)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// state returns the digest of all tables of the target, as compare does.
func (t *target) state(ctx context.Context, q database.Querier) (string, error) {
	all := sha256.New()
	for _, of := range tables {
		got, err := digestOf(ctx, q, of, of.content())
		if err != nil {
			return "", fmt.Errorf("read table %s of the target: %w", of.name, err)
		}
		fmt.Fprintln(all, got.Name, got.Rows, got.Digest)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// at returns the progress with a table under way.
func (c *copying) at(table string) Progress {
	p := c.tally.done
	p.Table, p.Rows = table, c.report.Rows
	return p
}

// table copies the rows of a table.
func (c *copying) table(ctx context.Context, tx *sql.Tx, t table) (Table, error) {
	into := &inserter{tx: tx, table: t.name}
	sum := newSum(t.name)
	err := eachRow(ctx, c.from.db, t, t.copied(), func(names []string, row []any) error {
		if c.to.server {
			for i, v := range row {
				if text, ok := v.(string); ok {
					row[i] = postgres.Text(text)
				}
			}
		}
		sum.add(row)
		if sum.rows%10_000 == 0 {
			p := c.at(t.name)
			p.Rows += sum.rows
			c.Progress(p)
		}
		return into.add(ctx, names, row)
	})
	if err == nil {
		err = into.flush(ctx)
	}
	return sum.table(), err
}

// eachRow calls row for each row of a table in the order of its key, with the columns in that of
// their names. where is the condition for them.
func eachRow(ctx context.Context, q database.Querier, t table, where string, row func(names []string, values []any) error) error {
	names, order, err := columnsOf(ctx, q, t)
	if err != nil {
		return err
	}
	values, places := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		places[i] = &values[i]
	}
	scan := func(rows *sql.Rows) error {
		if err := rows.Scan(places...); err != nil {
			return err
		}
		return row(names, values)
	}
	return database.Query(ctx, q, scan, `SELECT `+strings.Join(order, ", ")+` FROM `+t.name+where+` ORDER BY `+t.key)
}

// columnsOf returns the names of the columns of a table, sorted, and as they are selected.
func columnsOf(ctx context.Context, q database.Querier, t table) (names, selected []string, err error) {
	rows, err := q.QueryContext(ctx, `SELECT * FROM `+t.name+` LIMIT 0`)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	if names, err = rows.Columns(); err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		selected = append(selected, `"`+name+`"`) // user is a word of PostgreSQL
	}
	return names, selected, rows.Err()
}

func digestOf(ctx context.Context, q database.Querier, t table, where string) (Table, error) {
	sum := newSum(t.name)
	err := eachRow(ctx, q, t, where, func(_ []string, row []any) error {
		sum.add(row)
		return nil
	})
	return sum.table(), err
}

// tableSum is the digest of the rows of a table.
type tableSum struct {
	name string
	rows int64
	hash hash.Hash
}

func newSum(name string) *tableSum { return &tableSum{name: name, hash: sha256.New()} }

// add adds a row. A text and bytes are told apart by what they begin with.
func (s *tableSum) add(row []any) {
	s.rows++
	var head []byte
	for _, v := range row {
		head = head[:0]
		switch v := v.(type) {
		case int64:
			s.hash.Write(binary.BigEndian.AppendUint64(append(head, 'i'), uint64(v)))
		case string:
			s.hash.Write(binary.BigEndian.AppendUint64(append(head, 's'), uint64(len(v))))
			s.hash.Write([]byte(v))
		case []byte:
			s.hash.Write(binary.BigEndian.AppendUint64(append(head, 'b'), uint64(len(v))))
			s.hash.Write(v)
		default:
			fmt.Fprintf(s.hash, "%T %v", v, v)
		}
	}
}

func (s *tableSum) table() Table {
	return Table{Name: s.name, Rows: s.rows, Digest: hex.EncodeToString(s.hash.Sum(nil))}
}
