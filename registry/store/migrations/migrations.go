// Package migrations is the schema of the store, as a file for each version. A file is never
// edited: a change is a new one.
package migrations

import (
	"embed"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

//go:embed *.sql
var files embed.FS

// Schema returns the schema of the store.
func Schema() sqlite.Schema {
	return sqlite.Schema{Application: 0x6d697272, Migrations: files} // "mirr"
}
