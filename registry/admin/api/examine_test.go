package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// A database in a file is verified and restored; a server that does not answer is looked at.
func TestStatus_Examine(t *testing.T) {
	const server = "postgres://appliance@db.example.com:5432/appliance"
	down := api.Trouble{Problem: "connection refused", Hint: "see whether it runs"}
	for name, c := range map[string]struct {
		database string
		failing  map[string]api.Trouble
		want     finding.Finding
	}{
		"a file": {"/data/registry.db", nil, finding.Finding{Text: "it does not answer, or is damaged", Hint: "appliance verify; appliance restore BACKUP"}},
		"a damaged file": {"/data/registry.db", map[string]api.Trouble{"database": {Problem: "page 7 is damaged", Hint: "see dmesg"}},
			finding.Finding{Text: "page 7 is damaged", Hint: "appliance verify; appliance restore BACKUP"}},
		"a server":            {server, map[string]api.Trouble{"database": down}, finding.Finding{Subject: server, Text: down.Problem, Hint: down.Hint}},
		"a server that hangs": {server, map[string]api.Trouble{"database": {Problem: "no answer"}}, finding.Finding{Subject: server, Text: "no answer", Hint: "see whether PostgreSQL runs and can be reached from here (pg_isready); the appliance connects again by itself"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Check, c.want.Level = "database", finding.Failed
			s := api.Status{Database: c.database, Services: map[string]bool{"database": false, "disk_space": true}, Failing: c.failing}
			for _, one := range c.failing {
				s.Trouble = append(s.Trouble, one)
			}
			var told []finding.Finding
			s.Examine(time.Now(), func(f finding.Finding) {
				if f.Check == "database" || f.Check == "trouble" {
					told = append(told, f)
				}
			})
			if len(told) != 1 || told[0] != c.want {
				t.Errorf("told are %+v, and not %+v once", told, c.want)
			}
		})
	}
	s := api.Status{Services: map[string]bool{"database": true, "disk_space": false}, Failing: map[string]api.Trouble{"disk_space": down}}
	var told []string
	s.Examine(time.Now(), func(f finding.Finding) {
		if f.Check == "health" {
			told = append(told, f.Subject+" "+f.Text+" "+f.Hint)
		}
	})
	if got := strings.Join(told, "\n"); got != "disk_space connection refused see whether it runs" {
		t.Errorf("of a storage that does not answer is told %q", got)
	}
}
