package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// noticeOf begins the notices of the triggers.
	noticeOf = "appliance rows changed"
	// mostRows bounds the rows that a notice names.
	mostRows = 10_000
)

// triggers returns statements that make the triggers of the watched tables. A trigger runs once for
// a statement, and sends the first columns of the rows as a notice to the connection that changed
// them.
func triggers(watched []Watched) string {
	var all strings.Builder
	for _, w := range watched {
		for _, op := range w.Ops {
			verb := map[database.Op]string{database.Insert: "INSERT", database.Update: "UPDATE", database.Delete: "DELETE"}[op]
			name := "appliance_" + strings.ToLower(verb) + "_" + w.Table
			rows := "changed"
			transition := "OLD TABLE AS changed"
			switch op {
			case database.Insert:
				transition = "NEW TABLE AS changed"
			case database.Update:
				transition = "OLD TABLE AS changed NEW TABLE AS became"
				rows = "(SELECT * FROM changed UNION ALL SELECT * FROM became) u"
			}
			selected := "'[]'::json"
			if len(w.Columns) > 0 {
				selected = "json_build_array(" + strings.Join(w.Columns, ", ") + ")"
			}
			fmt.Fprintf(&all, `CREATE OR REPLACE FUNCTION %[1]s() RETURNS trigger LANGUAGE plpgsql AS $$
				DECLARE rows json;
				BEGIN
					SELECT json_agg(r) INTO rows FROM (SELECT %[2]s AS r FROM %[3]s LIMIT %[4]d) few;
					IF rows IS NOT NULL THEN
						RAISE NOTICE '%[5]s' USING DETAIL = json_build_object('table', '%[6]s', 'op', %[7]d, 'rows', rows)::text;
					END IF;
					RETURN NULL;
				END $$;
				CREATE OR REPLACE TRIGGER %[1]s AFTER %[8]s ON %[6]s REFERENCING %[9]s FOR EACH STATEMENT EXECUTE FUNCTION %[1]s();
				`, name, selected, rows, mostRows+1, noticeOf, w.Table, int(op), verb, transition)
		}
	}
	return all.String()
}

// changedRow has the columns of a row of a notice. A key that an update changes is in two rows.
type changedRow []any

func (r changedRow) Old(columns ...any) error {
	if len(r) < len(columns) {
		return errors.New("the notice of a change has fewer columns")
	}
	copy(columns, r)
	return nil
}

func (r changedRow) New(columns ...any) error { return r.Old(columns...) }

// notice is called for each notice of the writer's connection, in the goroutine that runs a
// statement.
func (s *server) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" {
		s.warning = n
		return
	}
	if n.Message != noticeOf {
		return
	}
	var all struct {
		Table string
		Op    database.Op
		Rows  [][]any
	}
	d := json.NewDecoder(strings.NewReader(n.Detail))
	d.UseNumber()
	if err := d.Decode(&all); err != nil || len(all.Rows) > mostRows {
		s.note(database.Change{Table: all.Table, Op: database.Update, Columns: changedRow{}})
		return
	}
	for _, row := range all.Rows {
		for i, value := range row {
			if n, ok := value.(json.Number); ok {
				row[i], _ = n.Int64()
			}
		}
		s.note(database.Change{Table: all.Table, Op: all.Op, Columns: changedRow(row)})
	}
}

func (s *server) note(c database.Change) { s.notes = append(s.notes, c) }

// committed tells the store of the changes of a transaction that has been committed or has failed
// to.
func (s *server) committed() {
	notes := s.notes
	s.notes = nil
	if s.options.Changed == nil {
		return
	}
	for _, c := range notes {
		s.options.Changed(c)
	}
	s.options.Committed()
}

// forget drops the changes of a transaction that was rolled back.
func (s *server) forget() { s.notes = nil }
