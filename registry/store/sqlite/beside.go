package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// OpenBeside opens a database for reading, also while another process has its Lock. Errors:
// *database.SchemaError unless it has the version of the schema, *database.NotDatabaseError.
func OpenBeside(ctx context.Context, path string, schema Schema) (_ *sql.DB, err error) {
	if err := checkBesides(path); err != nil {
		return nil, err
	}
	empty, err := checkFile(path, os.O_RDONLY, schema.Application)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.New(fmt.Errorf("there is no database %s", path), "check `database:` in config.yaml, and whether the file system is mounted")
	}
	if err != nil {
		return nil, err
	}
	if empty {
		return nil, &database.NotDatabaseError{Path: path, Reason: "it is empty"}
	}
	db, err := (&damage{path: path, log: slog.New(slog.DiscardHandler)}).connect(dsn(path, "query_only(1)"), hooks{})
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	// Of a new database everything may still be in the WAL, which the header of the file knows nothing of.
	var id uint32
	var have int
	err = db.QueryRowContext(ctx, `SELECT application_id, user_version FROM pragma_application_id, pragma_user_version`).Scan(&id, &have)
	switch {
	case err != nil:
	case id != schema.Application:
		err = &database.NotDatabaseError{Path: path, Reason: "it has none of its tables"}
	case have != schema.Version():
		err = &database.SchemaError{Path: path, Have: have, Known: schema.Version()}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
