package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store"
)

// snapshots are the files beside the database that backups have there.
func (f *fixture) snapshots(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(f.socket)), "db.snapshot-*"))
	must(t, err)
	return found
}

// released waits until no request is under way, and expects that nothing is left of a backup: no
// file, and nothing that keeps a collection from removing one.
func (f *fixture) released(t *testing.T) {
	t.Helper()
	f.handling.Lock()
	defer f.handling.Unlock()
	if left := f.snapshots(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if removed := f.collectOne(t, "garbage of "+t.Name()); removed != 1 {
		t.Error("collections still leave files")
	}
}

// collectOne pushes an image, deletes it, and collects its blob.
func (f *fixture) collectOne(t *testing.T, content string) (removed int) {
	t.Helper()
	u, err := f.store.Uploads.New(t.Context(), "garbage")
	must(t, err)
	_, err = u.ReadFrom(strings.NewReader(content))
	must(t, err)
	d := digest.FromString(content)
	_, err = u.Commit(t.Context(), d)
	must(t, err)
	m, err := f.store.Manifests.Put(t.Context(), "garbage", fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[]}`,
		ocispec.MediaTypeImageManifest, d, len(content)), store.PutOptions{})
	must(t, err)
	must(t, f.store.Manifests.Delete(t.Context(), "garbage", m.Digest))
	removed, _, err = f.store.Garbage.RemoveBlobs(t.Context(), time.Now().Add(time.Hour), []digest.Digest{d})
	must(t, err)
	return removed
}

func TestClient_Backup(t *testing.T) {
	f := serve(t)
	t.Run("holds snapshot and files until it is done", func(t *testing.T) {
		must(t, f.client.Backup(t.Context(), func(ctx context.Context, snapshot string) error {
			if found := f.snapshots(t); len(found) != 1 || filepath.Base(found[0]) != snapshot {
				t.Errorf("the snapshot is %s, there is %v", snapshot, found)
			} else if content, err := os.ReadFile(found[0]); err != nil || !bytes.HasPrefix(content, []byte("SQLite format 3\x00")) {
				t.Errorf("it is no database: %v", err)
			}
			if removed := f.collectOne(t, "held"); removed != 0 {
				t.Error("a collection removes files meanwhile")
			}
			return ctx.Err()
		}))
		if left := f.snapshots(t); len(left) > 0 { // at once: the daemon may be stopped next
			t.Errorf("left behind: %v", left)
		}
		f.released(t)
	})
	t.Run("two at a time", func(t *testing.T) {
		must(t, f.client.Backup(t.Context(), func(ctx context.Context, first string) error {
			must(t, f.client.Backup(ctx, func(context.Context, string) error { return nil }))
			if found := f.snapshots(t); len(found) != 1 || filepath.Base(found[0]) != first {
				t.Errorf("after the second the first has %v", found)
			}
			if removed := f.collectOne(t, "held by the first"); removed != 0 {
				t.Error("a collection removes files meanwhile")
			}
			return nil
		}))
		f.released(t)
	})
	t.Run("an error of the copying is what comes out", func(t *testing.T) {
		broken := errors.New("the disk is full")
		if err := f.client.Backup(t.Context(), func(context.Context, string) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("error is %v", err)
		}
		f.released(t)
	})
	t.Run("a client that gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := f.client.Backup(ctx, func(ctx context.Context, _ string) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		f.released(t)
	})
}

// TestHandler_backup_clientGone is a command that was killed: its connection ends,
// and nothing else is said.
func TestHandler_backup_clientGone(t *testing.T) {
	f := serve(t)
	conn, err := net.Dial("unix", f.socket)
	must(t, err)
	_, err = io.WriteString(conn, "POST /api/v1/backup HTTP/1.1\r\nHost: local\r\nContent-Length: 0\r\n\r\n")
	must(t, err)
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	must(t, err)
	if !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) || len(f.snapshots(t)) != 1 {
		t.Fatalf("answered %s, there is %v", answer[:n], f.snapshots(t))
	}
	must(t, conn.Close())
	f.released(t)
}

func TestHandler_endBackup_unknown(t *testing.T) {
	f := serve(t)
	if code, body := f.send(t, http.MethodDelete, "/api/v1/backup/db.snapshot-1", ""); code != http.StatusNotFound {
		t.Errorf("answered %d %s", code, body)
	}
}

// TestClient_Backup_lost is a daemon that ends during a backup: what it had promised to keep may
// go, so the copying is told to stop, and fails even if it did not notice.
func TestClient_Backup_lost(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", socket)
	must(t, err)
	defer l.Close()
	began := make(chan struct{})
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Error(err)
		}
		line := `{"progress":{"snapshot":"x"}}` + "\n"
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(line), line)
		<-began
	}()
	c := client.NewUnix(socket)
	defer c.Close()
	err = c.Backup(t.Context(), func(ctx context.Context, _ string) error {
		close(began)
		<-ctx.Done()
		return nil
	})
	var hint interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), "stopped before backup had ended") || !errors.As(err, &hint) {
		t.Errorf("error is %v", err)
	}
}
