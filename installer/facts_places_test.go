package installer

import (
	"slices"
	"testing"
)

func TestDatabaseNames(t *testing.T) {
	backup := databaseName + ".schema-1.backup"
	there := []string{databaseName, backup, "appliance.dbx", "lost+found", "notes.txt"}
	names := databaseNames("/srv/"+databaseName, there)
	if !slices.Contains(names, backup) || !slices.Contains(names, databaseName+".reserve") {
		t.Errorf("what the store keeps beside its database is not known: %v", names)
	}
	if others := foreignNames(there, names); !slices.Equal(others, []string{"appliance.dbx", "notes.txt"}) {
		t.Errorf("others' files are taken to be %v", others)
	}
}
