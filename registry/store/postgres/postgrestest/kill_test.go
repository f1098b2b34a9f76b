//go:build postgres

package postgrestest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The end of a server is that of all its processes: one that goes on has the shared memory, which the next start refuses.
func TestServer_Kill(t *testing.T) {
	s, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for range 3 {
		var connections []*pgx.Conn
		for range 200 {
			c, err := pgx.Connect(t.Context(), s.address("postgres"))
			if err != nil {
				t.Fatal(err)
			}
			connections = append(connections, c)
		}
		children, err := s.children()
		if err != nil || len(children) < 200 {
			t.Fatalf("the server has %d processes, %v", len(children), err)
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, pid := range children {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				continue // it has ended
			}
			if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X") {
				t.Fatalf("a process of the server goes on: %s", text)
			}
		}
		for _, c := range connections {
			_ = c.Close(t.Context()) // which the server has ended
		}
		if err := s.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
