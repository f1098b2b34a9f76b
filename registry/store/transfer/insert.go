package transfer

import (
	"context"
	"database/sql"
	"strings"
)

const (
	// batchRows and batchBytes bound what one statement inserts.
	batchRows  = 128
	batchBytes = 1 << 20
)

// inserter inserts rows of a table, many with one statement.
type inserter struct {
	tx    *sql.Tx
	table string

	names  []string
	values []any
	rows   int
	bytes  int
}

// add adds a row, whose values it copies.
func (i *inserter) add(ctx context.Context, names []string, row []any) error {
	i.names = names
	for _, v := range row {
		switch v := v.(type) {
		case []byte:
			i.bytes += len(v)
		case string:
			i.bytes += len(v)
		}
		i.values = append(i.values, v)
	}
	i.rows++
	if i.rows == batchRows || i.bytes >= batchBytes {
		return i.flush(ctx)
	}
	return nil
}

// flush inserts the rows that were added. A remainder goes row by row, so that there are few
// statements to parse.
func (i *inserter) flush(ctx context.Context) error {
	n := i.rows
	if n != batchRows {
		n = 1
	}
	wide := len(i.names)
	for at := 0; at < i.rows; at += n {
		if _, err := i.tx.ExecContext(ctx, i.text(n, at), i.values[at*wide:(at+n)*wide]...); err != nil {
			return err
		}
	}
	i.values, i.rows, i.bytes = i.values[:0], 0, 0
	return nil
}

// text returns the statement for n rows. The driver of SQLite takes no bytes for NULL.
func (i *inserter) text(n, at int) string {
	var row strings.Builder
	for k := range i.names {
		if k > 0 {
			row.WriteString(", ")
		}
		if _, bytes := i.values[at*len(i.names)+k].([]byte); bytes {
			row.WriteString("coalesce(?, x'')")
		} else {
			row.WriteString("?")
		}
	}
	return `INSERT INTO ` + i.table + ` ("` + strings.Join(i.names, `", "`) + `") VALUES ` +
		strings.TrimSuffix(strings.Repeat("("+row.String()+"), ", n), ", ")
}
