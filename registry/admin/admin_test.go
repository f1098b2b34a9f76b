package admin_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// fixture is a handler on a control socket, over a real store.
type fixture struct {
	status api.Status
	store  *store.Store
	auth   *auth.Authenticator
	client *client.Client
	http   *http.Client // speaks to the socket without the client
	socket string

	handling sync.RWMutex // read-held by each request; held by who waits for all to end

	collect func(context.Context, api.GCRequest, func(api.GCProgress)) (api.GCResult, error)
	scrub   func(context.Context, api.ScrubRequest, func(api.ScrubState)) (findings.ScrubReport, error)
	gc      *jobs.Runner[api.GCRequest, api.GCProgress, api.GCResult]
	drain   context.CancelFunc
}

type lookup struct{ s *store.Store }

func (l lookup) Lookup(ctx context.Context, name string) (auth.Record, bool, error) {
	u, err := l.s.Users.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return auth.Record{}, false, nil
	}
	return auth.Record{Role: u.Role, PasswordHash: u.PasswordHash}, err == nil, err
}

func serve(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "blobs")})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: s, auth: auth.New(lookup{s}), socket: filepath.Join(dir, "run", "sock")}
	draining, drain := context.WithCancel(context.Background())
	t.Cleanup(drain)
	f.drain = drain
	f.status = api.Status{Version: "v1", Healthy: true}
	log := slog.New(slog.DiscardHandler)
	f.gc = jobs.New(jobs.Kind[api.GCRequest, api.GCProgress, api.GCResult]{Name: "collection", Drain: draining, Log: log,
		Run: func(ctx context.Context, q api.GCRequest, progress func(api.GCProgress)) (api.GCResult, error) {
			return f.collect(ctx, q, progress)
		}})
	h := admin.NewHandler(admin.Options{
		Store: s, Auth: f.auth, Drain: draining, Log: log, Catalogs: noCatalogs{},
		Jobs: admin.Jobs{
			GC: f.gc,
			Scrub: jobs.New(jobs.Kind[api.ScrubRequest, api.ScrubState, findings.ScrubReport]{Name: "scrub", Drain: draining, Log: log,
				Run: func(ctx context.Context, q api.ScrubRequest, progress func(api.ScrubState)) (findings.ScrubReport, error) {
					return f.scrub(ctx, q, progress)
				}}),
		},
		Status: func(context.Context) (api.Status, error) { return f.status, nil },
	})
	l, err := admin.Listen(t.Context(), f.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.handling.RLock()
		defer f.handling.RUnlock()
		h.ServeHTTP(w, r)
	})}
	ended := make(chan error)
	go func() { ended <- server.Serve(l) }()
	f.client = client.NewUnix(f.socket)
	f.http = rawClient(f.socket)
	t.Cleanup(func() {
		f.client.Close()
		f.http.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// idle waits until no collection is under way.
func (f *fixture) idle(t *testing.T) {
	t.Helper()
	for f.gc.Stats().Running {
		time.Sleep(time.Millisecond)
	}
}

// send makes a request without the client, for what the client never sends.
func (f *fixture) send(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://local"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// refusal asserts that err is the daemon's, with this status and part of a message.
func refusal(t *testing.T, err error, status int, message string) *client.Refused {
	t.Helper()
	var refused *client.Refused
	if !errors.As(err, &refused) {
		t.Fatalf("error is %v, want a refusal with %d", err, status)
	}
	if refused.Status != status || !strings.Contains(refused.Error(), message) {
		t.Errorf("refused with %d, %s; want %d, …%s…", refused.Status, refused, status, message)
	}
	return refused
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHandler_errors(t *testing.T) {
	f := serve(t)
	any := digest.FromString("x").String()
	run, err := f.client.BeginSync(t.Context(), "test")
	must(t, err)
	at := "/api/v1/sync/" + run.ID()
	tests := map[string]struct {
		method, path, body string
		status             int
		message            string
	}{
		"unknown path":           {"GET", "/api/v1/nothing", "", 404, "has no /api/v1/nothing"},
		"wrong method":           {"PATCH", "/api/v1/users", "", 405, "only GET, POST"},
		"not JSON":               {"POST", "/api/v1/gc", "dryRun", 400, "not the JSON wanted"},
		"unknown field":          {"POST", "/api/v1/gc", `{"dry": true}`, 400, `unknown field`},
		"two values":             {"POST", "/api/v1/gc", `{}{}`, 400, "something follows"},
		"negative grace period":  {"POST", "/api/v1/gc", `{"gracePeriod": "-1h"}`, 400, "negative"},
		"bad duration":           {"POST", "/api/v1/gc", `{"gracePeriod": "1 day"}`, 400, "not the JSON wanted"},
		"body too large":         {"POST", "/api/v1/gc", strings.Repeat(" ", 65<<10), 413, "too large"},
		"nothing to change":      {"PUT", "/api/v1/users/x", `{}`, 400, "nothing to change"},
		"sync without a name":    {"POST", "/api/v1/sync", `{}`, 400, "no name"},
		"unknown sync":           {"POST", "/api/v1/sync/none/commit", "", 404, "not found"},
		"no repository":          {"PUT", at + "/blobs/" + any, "", 400, "parameter repository is missing"},
		"bad digest":             {"PUT", at + "/blobs/sha256:1?repository=a", "", 400, "is not a digest"},
		"bad digest in a list":   {"POST", at + "/held", `{"blobs":{"a":["x"]}}`, 400, "digest"},
		"bad digest of a tag":    {"POST", at + "/tags", `{"tags":[{"repository":"a","tag":"t","digest":"x"}]}`, 400, "digest"},
		"manifest without type":  {"PUT", at + "/manifests/" + any + "?repository=a", "x", 400, "no media type"},
		"bad repository of blob": {"PUT", at + "/blobs/" + any + "?repository=A", "x", 400, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, answer := f.send(t, test.method, test.path, test.body)
			if status != test.status || !strings.HasPrefix(answer, `{"error":`) || !strings.Contains(answer, test.message) {
				t.Errorf("answered %d %s, want %d …%s…", status, answer, test.status, test.message)
			}
		})
	}
}

func TestClient_Status(t *testing.T) {
	f := serve(t)
	s, err := f.client.Status(t.Context())
	if err != nil || s.Version != "v1" || !s.Healthy {
		t.Errorf("status is %+v, %v", s, err)
	}
}

func TestClient_GC(t *testing.T) {
	f := serve(t)
	// untilEnded is a collection that ends with its context.
	untilEnded := func(began, ended chan struct{}) {
		f.collect = func(ctx context.Context, _ api.GCRequest, progress func(api.GCProgress)) (api.GCResult, error) {
			defer close(ended)
			progress(api.GCProgress{})
			close(began)
			<-ctx.Done()
			return api.GCResult{}, ctx.Err()
		}
	}
	t.Run("passes request, progress and result", func(t *testing.T) {
		var got api.GCRequest
		f.collect = func(_ context.Context, q api.GCRequest, progress func(api.GCProgress)) (api.GCResult, error) {
			got = q
			progress(api.GCProgress{Of: gc.Result{Blobs: 7}})
			return api.GCResult{Result: gc.Result{Blobs: 3, Bytes: 99}}, nil
		}
		hour := api.Duration(time.Hour)
		var told api.GCProgress
		r, err := f.client.GC(t.Context(), api.GCRequest{DryRun: true, GracePeriod: &hour}, func(p api.GCProgress) { told = p })
		must(t, err)
		if r.Blobs != 3 || r.Bytes != 99 || !got.DryRun || *got.GracePeriod != hour || told.Of.Blobs != 7 {
			t.Errorf("asked %+v, was told %+v, got %+v", got, told, r)
		}
	})
	t.Run("what goes on is told again, though nothing new is to be told", func(t *testing.T) {
		release := make(chan struct{})
		f.collect = func(_ context.Context, _ api.GCRequest, progress func(api.GCProgress)) (api.GCResult, error) {
			progress(api.GCProgress{})
			progress(api.GCProgress{Planned: true})
			<-release
			return api.GCResult{}, nil
		}
		told, planned := 0, 0 // a slow daemon tells the first line again, too
		_, err := f.client.GC(t.Context(), api.GCRequest{}, func(p api.GCProgress) {
			if told++; p.Planned {
				if planned++; planned == 2 {
					close(release)
				}
			}
			if p.Planned != (planned > 0) || told == 1 && p.Planned {
				t.Errorf("line %d is %+v", told, p)
			}
		})
		must(t, err)
	})
	t.Run("one that is under way is a conflict", func(t *testing.T) {
		began, ended := make(chan struct{}), make(chan struct{})
		untilEnded(began, ended)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = f.client.GC(ctx, api.GCRequest{}, nil) }()
		<-began
		_, err := f.client.GC(t.Context(), api.GCRequest{}, nil)
		if refused := refusal(t, err, http.StatusConflict, "under way"); refused.Hint() == "" {
			t.Error("there is no hint")
		}
		if status, answer := f.send(t, "POST", "/api/v1/gc", "{}"); status != http.StatusConflict {
			t.Errorf("without the client it is answered %d %s", status, answer)
		}
		refusal(t, f.client.BeginGC(t.Context(), api.GCRequest{}), http.StatusConflict, "under way")
		cancel()
		f.idle(t)
	})
	t.Run("one that fails after it has begun says so, with the status", func(t *testing.T) {
		f.collect = func(_ context.Context, _ api.GCRequest, progress func(api.GCProgress)) (api.GCResult, error) {
			progress(api.GCProgress{})
			return api.GCResult{}, &store.FullError{Path: "/full", Err: errors.New("no space")}
		}
		_, err := f.client.GC(t.Context(), api.GCRequest{}, nil)
		if refused := refusal(t, err, http.StatusInsufficientStorage, "/full"); refused.Hint() == "" {
			t.Error("there is no hint")
		}
	})
	t.Run("a client that gives up ends it", func(t *testing.T) {
		began, ended := make(chan struct{}), make(chan struct{})
		untilEnded(began, ended)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-began
			cancel()
		}()
		if _, err := f.client.GC(ctx, api.GCRequest{}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		<-ended
	})
	t.Run("one that is detached goes on without its caller", func(t *testing.T) {
		var got api.GCRequest
		f.collect = func(_ context.Context, q api.GCRequest, _ func(api.GCProgress)) (api.GCResult, error) {
			got = q
			return api.GCResult{}, nil
		}
		must(t, f.client.BeginGC(t.Context(), api.GCRequest{}))
		f.gc.Wait()
		if !got.Detach {
			t.Errorf("asked %+v", got)
		}
	})
	t.Run("a daemon that ends ends it", func(t *testing.T) {
		began, ended := make(chan struct{}), make(chan struct{})
		untilEnded(began, ended)
		go func() {
			<-began
			f.drain()
		}()
		_, err := f.client.GC(t.Context(), api.GCRequest{}, nil)
		if refused := refusal(t, err, http.StatusConflict, "stopping"); !strings.Contains(refused.Hint(), "run it again") {
			t.Errorf("the hint is %q", refused.Hint())
		}
		<-ended
	})
	t.Run("a daemon that is about to end begins none", func(t *testing.T) {
		f.drain()
		f.collect = func(context.Context, api.GCRequest, func(api.GCProgress)) (api.GCResult, error) {
			t.Error("it was begun")
			return api.GCResult{}, nil
		}
		_, err := f.client.GC(t.Context(), api.GCRequest{}, nil)
		refusal(t, err, http.StatusConflict, "stopping")
		refusal(t, f.client.BeginGC(t.Context(), api.GCRequest{}), http.StatusConflict, "stopping")
	})
}

// TestClient_Scrub_largest has all that a report may list, with names as long as they may be.
func TestClient_Scrub_largest(t *testing.T) {
	f := serve(t)
	d := digest.SHA512.FromString("damaged")
	image := strings.Repeat("x", 255) + "@" + d.String()
	damage := findings.Damage{Digest: d, Images: slices.Repeat([]string{image}, 100), RepairError: strings.Repeat("no\n", 1000)}
	f.scrub = func(context.Context, api.ScrubRequest, func(api.ScrubState)) (findings.ScrubReport, error) {
		return findings.ScrubReport{Damaged: 1000, Damage: slices.Repeat([]findings.Damage{damage}, 1000)}, nil
	}
	report, err := f.client.Scrub(t.Context(), api.ScrubRequest{}, nil)
	must(t, err)
	if len(report.Damage) != 1000 || len(report.Damage[999].Images) != 100 || report.Damage[999].Images[99] != image {
		t.Errorf("%d of 1000 damaged blobs were told", len(report.Damage))
	}
}

// TestHandler_noDaemon asks what answers while no daemon runs, and a command has opened the store.
func TestHandler_noDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := admin.Listen(t.Context(), socket)
	must(t, err)
	server := &http.Server{Handler: admin.NewHandler(admin.Options{})}
	defer server.Close()
	go func() { _ = server.Serve(l) }() // until it is closed
	c := client.NewUnix(socket)
	defer c.Close()
	_, err = c.Status(t.Context())
	for _, err := range []error{err, c.Ping(t.Context(), ""), c.BeginGC(t.Context(), api.GCRequest{})} {
		refusal(t, err, http.StatusConflict, "another command is at work")
	}
}

func TestClient_notRunning(t *testing.T) {
	c := client.NewUnix(filepath.Join(t.TempDir(), "sock"))
	_, err := c.Status(t.Context())
	var hint interface{ Hint() string }
	if !errors.Is(err, client.ErrNotRunning) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "systemctl start") {
		t.Errorf("error is %v", err)
	}
}

func TestListen(t *testing.T) {
	t.Run("only the owner may connect", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "run", "sock")
		l, err := admin.Listen(t.Context(), path)
		must(t, err)
		defer l.Close()
		info, err := os.Lstat(path)
		must(t, err)
		if info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("mode is %s", info.Mode())
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("the directory has %v", entries)
		}
	})
	t.Run("one that answers is left alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sock")
		l, err := admin.Listen(t.Context(), path)
		must(t, err)
		defer l.Close()
		if _, err := admin.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("one left behind is replaced", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sock")
		leaveSocket(t, path)
		l, err := admin.Listen(t.Context(), path)
		must(t, err)
		must(t, l.Close())
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close: %v", err)
		}
	})
	t.Run("another file is left alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sock")
		must(t, os.WriteFile(path, []byte("precious"), 0o600))
		if _, err := admin.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "is not a socket") {
			t.Errorf("error is %v", err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
			t.Errorf("the file has %q, %v", data, err)
		}
	})
	t.Run("closing leaves a successor's socket", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sock")
		old, err := admin.Listen(t.Context(), path)
		must(t, err)
		must(t, os.Remove(path))
		successor, err := admin.Listen(t.Context(), path)
		must(t, err)
		defer successor.Close()
		must(t, old.Close())
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	})
}

// noCatalogs is a store without catalogs.
type noCatalogs struct{ admin.Catalogs }

func (noCatalogs) Needs(context.Context, api.NeedsRequest) ([]api.Need, error) {
	return []api.Need{}, nil
}

func (noCatalogs) Content(context.Context, api.Place) (api.CatalogContent, error) {
	return api.CatalogContent{}, nil
}

func (noCatalogs) CheckRollback(context.Context, []store.TagChange) error { return nil }
