package admin_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func TestHandler_badRequests(t *testing.T) {
	f := serve(t)
	for _, test := range []struct{ method, path, body, message string }{
		{"POST", "/api/v1/users", `{"name":"a","role":"pull","password":"long-enough","repositories":["a*b"]}`, "repository pattern"},
		{"POST", "/api/v1/users", `{"name":"init","role":"admin","password":"long-enough"}`, ""},
		{"PUT", "/api/v1/users/init", `{"repositories":["A"]}`, "repository pattern"},
		{"POST", "/api/v1/verify", `{"bytesPerSecond":-1}`, "is negative"},
		{"POST", "/api/v1/scrub", `{"bytesPerSecond":-1}`, "is negative"},
		{"POST", "/api/v1/scrub", ``, "not the JSON"},
	} {
		status, answer := f.send(t, test.method, test.path, test.body)
		if test.message == "" {
			if status != http.StatusCreated {
				t.Fatalf("%s is answered %d %s", test.path, status, answer)
			}
			continue
		}
		if status != http.StatusBadRequest || !strings.Contains(answer, test.message) {
			t.Errorf("%s %s is answered %d %s, want 400 …%s…", test.path, test.body, status, answer, test.message)
		}
	}
}

// TestClient_noAnswer: who gave a deadline is told that it passed, and where to look.
func TestClient_noAnswer(t *testing.T) {
	f := serve(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	err := f.client.Ping(ctx, "")
	var hint interface{ Hint() string }
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "journalctl") {
		t.Errorf("error is %v", err)
	}
}

// TestClient_lost is a daemon that is killed during a job, also in the middle of a line.
func TestClient_lost(t *testing.T) {
	for name, sent := range map[string]string{"before a line": "", "in a line": "9\r\n{\"result\"\r\n"} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "sock")
			l, err := net.Listen("unix", socket)
			must(t, err)
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					t.Error(err)
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+sent)
			}()
			c := client.NewUnix(socket)
			defer c.Close()
			_, err = c.Scrub(t.Context(), api.ScrubRequest{}, nil)
			var hint interface{ Hint() string }
			if err == nil || !strings.Contains(err.Error(), "stopped before scrub had ended") || !errors.As(err, &hint) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// TestListen_answered: a daemon that is stopped without its systemd socket is back
// with the next pull.
func TestListen_answered(t *testing.T) {
	f := serve(t)
	_, err := admin.Listen(t.Context(), f.socket)
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "systemctl stop appliance.socket appliance") {
		t.Errorf("error is %v", err)
	}
}
