package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// openDaemon opens a daemon that serves nobody.
func openDaemon(t *testing.T, log io.Writer) *daemon {
	t.Helper()
	root := t.TempDir()
	cfg := config.Default(root)
	cfg.Hostname = "registry.test"
	cfg.Listen = "127.0.0.1:0"
	for _, dir := range []string{cfg.Storage, filepath.Dir(cfg.Database), filepath.Dir(cfg.TLS.Certificate), filepath.Dir(cfg.TLS.CA), cfg.TLS.State} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	ca, err := tlsgen.CreateCA("test", time.Now())
	must(t, err)
	must(t, os.WriteFile(cfg.TLS.CA, ca.CertPEM(), 0o600))
	must(t, os.WriteFile(cfg.TLS.CAKey, ca.KeyPEM(), 0o600))
	d, err := open(context.Background(), cfg, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	must(t, err)
	t.Cleanup(func() { must(t, d.close()) })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestObserve_panic(t *testing.T) {
	var log bytes.Buffer
	d := openDaemon(t, &log)
	serve := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewServer(d.observe("", h))
		t.Cleanup(s.Close)
		return s
	}
	t.Run("before the answer is a 500, with the stack in the log", func(t *testing.T) {
		s := serve(func(http.ResponseWriter, *http.Request) { panic("broken handler") })
		resp, err := http.Get(s.URL + "/x")
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		if resp.StatusCode != http.StatusInternalServerError || strings.Contains(string(body), "broken handler") {
			t.Errorf("answered %d %s", resp.StatusCode, body)
		}
		s.Close() // the log is written when the handler has ended
		if !strings.Contains(log.String(), "broken handler") || !strings.Contains(log.String(), "internal_test.go") {
			t.Errorf("logged %s", log.String())
		}
	})
	t.Run("within the answer breaks the connection", func(t *testing.T) {
		s := serve(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half of it")
			w.(http.Flusher).Flush()
			panic("broken handler")
		})
		resp, err := http.Get(s.URL)
		must(t, err)
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("read %q as if it were whole", body)
		}
	})
}

func TestHealth_alive(t *testing.T) {
	d := openDaemon(t, io.Discard)
	servers, err := d.listen(t.Context())
	must(t, err)
	defer func() {
		for _, s := range servers {
			must(t, s.listener.Close())
		}
	}()
	if all := addresses(servers); len(all) != 2 || all[0] != "unix:"+d.cfg.ControlSocket || !strings.HasPrefix(all[1], "tcp:127.0.0.1:") {
		t.Errorf("listening on %v", all)
	}
	must(t, d.health.alive(t.Context()))
	t.Run("a disk that is away is not for a restart to mend", func(t *testing.T) {
		must(t, os.Rename(d.cfg.Storage, d.cfg.Storage+".away"))
		defer func() { must(t, os.Rename(d.cfg.Storage+".away", d.cfg.Storage)) }()
		if _, healthy := d.health.report(t.Context()); healthy {
			t.Error("the health check does not notice")
		}
		must(t, d.health.alive(t.Context()))
	})
	t.Run("a control socket that is away is", func(t *testing.T) {
		must(t, os.Rename(d.cfg.ControlSocket, d.cfg.ControlSocket+"x"))
		defer func() { must(t, os.Rename(d.cfg.ControlSocket+"x", d.cfg.ControlSocket)) }()
		if err := d.health.alive(t.Context()); err == nil || !strings.Contains(err.Error(), "web_gunicorn") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("a draining daemon is let end", func(t *testing.T) {
		must(t, os.Rename(d.cfg.ControlSocket, d.cfg.ControlSocket+"x"))
		defer func() { must(t, os.Rename(d.cfg.ControlSocket+"x", d.cfg.ControlSocket)) }()
		d.quit()
		must(t, d.alive(t.Context()))
	})
}

// endless is a store whose garbage has no end.
type endless struct {
	gc.Store
	began chan struct{}
}

func (e endless) GarbageBlobs(ctx context.Context, _ time.Time, _ func(digest.Digest, int64) error) error {
	close(e.began)
	<-ctx.Done()
	return ctx.Err()
}

func TestCollect_draining(t *testing.T) {
	d := openDaemon(t, io.Discard)
	store := endless{d.store, make(chan struct{})}
	d.collector.store = store
	go func() {
		<-store.began
		if _, err := d.collect(t.Context(), admin.GCRequest{}); !errors.Is(err, admin.ErrCollecting) {
			t.Errorf("a second collection gives %v", err)
		}
		d.quit()
	}()
	if _, err := d.collect(t.Context(), admin.GCRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestReach(t *testing.T) {
	now := time.Now()
	o := reach(now, 0)
	if now.Sub(o.Before) != 0 || now.Sub(o.UploadsBefore) != time.Hour || now.Sub(o.RunsBefore) != 24*time.Hour {
		t.Errorf("without a grace period: %+v", o)
	}
	o = reach(now, 48*time.Hour)
	if now.Sub(o.Before) != 48*time.Hour || now.Sub(o.UploadsBefore) != 48*time.Hour || now.Sub(o.RunsBefore) != 48*time.Hour {
		t.Errorf("with two days: %+v", o)
	}
}
