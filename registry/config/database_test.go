package config

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

const besideDatabase = "hostname: registry.example.com\nstorage: /srv/storage\ncontrolSocket: /run/appliance/a.sock\ntls: {certificate: /c, key: /k}\n"

func TestParse_database(t *testing.T) {
	const address = "postgres://appliance@db.internal:5432/appliance?sslmode=verify-full&passfile=/etc/appliance/pgpass"
	c, err := Parse("config.yaml", []byte("database: "+address+"\n"+besideDatabase))
	if err != nil || c.DatabaseServer() != address || c.Database != "/run/appliance/appliance.db" {
		t.Fatalf("got %+v, %v", c, err)
	}
	text, err := c.Marshal()
	if err != nil || !strings.Contains(string(text), "database: "+address+"\n") {
		t.Errorf("written as %s, %v", text, err)
	}
	if again, _, ok := Readdress(text, c, "other.example.com", 443); !ok || !strings.Contains(string(again), address) {
		t.Errorf("with another address: %s", again)
	}
	if err := c.NeedsFile("a backup", "do otherwise"); err == nil || hint.Of(err) != "do otherwise" {
		t.Errorf("got %v", err)
	}
	c, err = Parse("config.yaml", []byte(besideDatabase+"database: /q//db\n"))
	if err != nil || c.Database != "/q/db" || c.DatabaseServer() != "" || c.NeedsFile("", "") != nil {
		t.Errorf("a file: %+v, %v", c, err)
	}
}

// What may be a password is not repeated.
func TestParse_databaseIsRefused(t *testing.T) {
	for _, bad := range []string{"postgres://u:hidden@db/x", "postgres://u:hidden%zz@db/x", "postgresql://u:hid?den@h:p/x", "postgres://u@db/x?password=hidden",
		"postgres://u:hidden@db", "relative.db", "postgres//u:hidden@db", "postgre://u:hidden@h/x", "postgres:u:hidden@db/x", "host=db password=hidden dbname=x"} {
		_, err := Parse("config.yaml", []byte(besideDatabase+"database: "+bad+"\n"))
		if err == nil || hint.Of(err) == "" || !strings.Contains(err.Error(), "config.yaml:5: database:") || strings.Contains(err.Error()+hint.Of(err), "hidden") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
