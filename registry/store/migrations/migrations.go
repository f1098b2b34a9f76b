// Package migrations is the schema of the store, as a file for each version and engine. A file is
// never edited: a change is a new one, for each engine.
//
// What several daemons share is in PostgreSQL alone. Those tables have a list and numbers of their
// own, postgres/own, so that SQLite, which has one daemon, gets neither the tables nor a version.
// They are made after all versions that both engines have: such a version knows nothing of them, and
// they may refer to the tables of both.
package migrations

import (
	"embed"
	"io/fs"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

//go:embed *.sql
var files embed.FS

//go:embed postgres/*.sql
var postgresFiles embed.FS

// Schema returns the schema of the store.
func Schema() sqlite.Schema {
	return sqlite.Schema{Application: 0x6d697272, Migrations: files} // "mirr"
}

// Postgres returns the same for PostgreSQL.
func Postgres() fs.FS {
	sub, _ := fs.Sub(postgresFiles, "postgres") // whose name is a valid one
	return sub
}

//go:embed postgres/own/*.sql
var ownFiles embed.FS

// Own returns the versions that PostgreSQL alone has.
func Own() fs.FS {
	sub, _ := fs.Sub(ownFiles, "postgres/own")
	return sub
}

// Watched returns the tables whose changes the store's caches follow.
func Watched() []postgres.Watched {
	all := []database.Op{database.Insert, database.Update, database.Delete}
	return []postgres.Watched{
		{Table: "tags", Columns: []string{"repository", "name"}, Ops: all},
		{Table: "repository_manifests", Columns: []string{"repository", "digest"}, Ops: all},
		{Table: "repository_blobs", Columns: []string{"repository", "digest"}, Ops: []database.Op{database.Delete}},
		{Table: "manifests", Ops: []database.Op{database.Update}},
		{Table: "repositories", Ops: []database.Op{database.Update}},
		{Table: "origins", Ops: all},
		{Table: "users", Ops: all},
		{Table: "quarantine", Ops: all},
		{Table: "changes", Ops: []database.Op{database.Insert}},
		{Table: "meta", Columns: []string{"name"}, Ops: all},
	}
}
