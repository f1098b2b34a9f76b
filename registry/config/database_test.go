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

func TestParse_sharedKey(t *testing.T) {
	const postgres, s3 = "database: postgres://appliance@db.internal/appliance\n", "storage: s3://bucket/prefix?endpoint=https://s3.internal\n"
	const rest = "hostname: registry.example.com\ncontrolSocket: /run/appliance/a.sock\n"
	const tls = "tls: {certificate: /c, key: /k}\n"
	const key = "sharedKey: /etc//appliance/shared-key\n"
	c, err := Parse("config.yaml", []byte(rest+tls+postgres+s3+key))
	if err != nil || !c.Shared() || c.SharedKey != "/etc/appliance/shared-key" {
		t.Fatalf("got %+v, %v", c, err)
	}
	written, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Parse("config.yaml", written); err != nil || back.SharedKey != c.SharedKey {
		t.Errorf("written and read: %+v, %v", back, err)
	}
	if c, err := Parse("config.yaml", []byte(rest+tls+postgres+s3)); err != nil || c.Shared() {
		t.Errorf("without it: %+v, %v", c, err)
	}
	for text, at := range map[string]string{
		tls + "database: /q/db\n" + s3 + key:       "config.yaml:6: sharedKey:",
		tls + postgres + "storage: /srv/s\n" + key: "config.yaml:6: sharedKey:",
		tls + postgres + s3 + "sharedKey: key\n":   "config.yaml:6: sharedKey:",
	} {
		if _, err := Parse("config.yaml", []byte(rest+text)); err == nil || hint.Of(err) == "" || !strings.Contains(err.Error(), at) {
			t.Errorf("%s: %v", text, err)
		}
	}
	const acme = "tls: {certificate: /c, key: /k, ca: /ca, caKey: /cakey, state: /s, acme: {directory: https://acme.internal/}}\n"
	if _, err := Parse("config.yaml", []byte(rest+acme+postgres+s3+key)); err == nil || !strings.Contains(err.Error(), "config.yaml:3: tls.acme.directory:") {
		t.Errorf("with acme: %v", err)
	}
}
