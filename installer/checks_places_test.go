package installer

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

func TestDatabaseNames(t *testing.T) {
	dir := t.TempDir()
	backup := databaseName + ".schema-1.backup"
	for _, name := range []string{databaseName, backup, "appliance.dbx", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names := databaseNames(host.Local(), filepath.Join(dir, databaseName))
	if !slices.Contains(names, backup) || !slices.Contains(names, databaseName+".reserve") {
		t.Errorf("what the store keeps beside its database is not known: %v", names)
	}
	if others := foreignNames(host.Local(), dir, names); !slices.Equal(others, []string{"appliance.dbx", "notes.txt"}) {
		t.Errorf("others' files are taken to be %v", others)
	}
}
