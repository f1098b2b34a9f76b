package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/audit"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/console"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/images"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/limits"
	"github.com/mirror-appliance/appliance/registry/misses"
	"github.com/mirror-appliance/appliance/registry/oci"
	"github.com/mirror-appliance/appliance/registry/retain"
	"github.com/mirror-appliance/appliance/registry/sealed"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/updates"
	"github.com/mirror-appliance/appliance/registry/views"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// maxUploads limits the blobs that one user sends at once. podman sends six, and pipelines share a
// user.
const maxUploads = 512

// daemon is an open registry.
type daemon struct {
	cfg     *config.Config
	version string
	started time.Time
	log     *slog.Logger
	access  *slog.Logger
	given   Options
	limits  limits.Limits
	offline bool // opened for a command

	patience patience // of answers

	key       *sealed.Key // nil: no other daemon has the store
	store     *store.Store
	link      *link
	family    *family
	misses    *misses.Log
	audit     *audit.Log
	pinning   *jobs.Note[pinning]
	upstreams *upstreams
	holding   sync.Mutex // held while it is decided whether they are asked
	tls       *tlsgen.Manager
	auth      *auth.Authenticator
	api       *oci.API
	collector *collector
	scrubber  *scrubber
	verified  *jobs.Note[api.VerifyResult]
	usage     *usage
	watch     *spaceWatch
	traffic   traffic
	evictor   *evictor
	mirrors   []*scheduled
	draft     *draftRunner
	drafts    *board[api.MirrorProgress, api.DraftPlanState]
	verifying *board[api.VerifyProgress, struct{}]
	reading   *board[api.CatalogReading, []api.ReachedCatalog]
	views     *views.Views
	updates   *updates.Service
	verdicts  *verdicts
	clusters  *retain.Clusters
	jobs      admin.Jobs
	metrics   *metrics
	health    *health
	admin     *admin.Handler
	console   *console.Console

	counts  counts
	closers []func() error // in the order of opening

	draining context.Context // ends when draining begins, and jobs with it
	quit     context.CancelFunc
}

// open opens a daemon. ctx must not end before close.
func open(ctx context.Context, cfg *config.Config, o Options) (*daemon, error) {
	d := &daemon{
		cfg: cfg, version: o.Version, started: time.Now(), log: o.Log, access: o.AccessLog, given: o,
		limits: limits.Default(), patience: defaultPatience, counts: counts{now: time.Now},
	}
	d.draining, d.quit = context.WithCancel(ctx)
	for _, step := range []func(context.Context) error{d.readKey, d.openStore, d.openTLS, d.openAPI, d.openControl} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

// close closes in the reverse order of opening.
func (d *daemon) close() error {
	d.quit()
	var errs []error
	for _, c := range slices.Backward(d.closers) {
		errs = append(errs, c())
	}
	d.closers = nil
	return errors.Join(errs...)
}

func (d *daemon) onClose(c func() error) { d.closers = append(d.closers, c) }

func (d *daemon) openStore(ctx context.Context) error {
	s, err := store.Open(ctx, store.Options{
		Database: cmp.Or(d.cfg.DatabaseServer(), d.cfg.Database), Storage: d.cfg.Storage, Credentials: d.cfg.StorageCredentials, MinFree: int64(d.cfg.MinFree), Log: d.log,
		Current: d.offline, Existing: d.given.Existing, Starting: d.given.starting, Waiting: d.given.waiting,
		Shared: d.cfg.Shared() && !d.offline, // a command has the store alone
	})
	if err != nil {
		return withRemedy(fmt.Errorf("open the store: %w", err))
	}
	d.store = s
	d.onClose(s.Close)
	if err := d.claimHostname(ctx); err != nil {
		return err
	}
	d.audit = audit.Open(context.WithoutCancel(ctx), s.Audit, d.log)
	d.onClose(d.audit.Close)
	d.log = slog.New(d.audit.Handler(d.log.Handler()))
	if d.link, err = openLink(ctx, s); err != nil {
		return fmt.Errorf("read whether the appliance is offline: %w", err)
	}
	if err := d.openFamily(ctx); err != nil {
		return err
	}
	d.misses = misses.Open(ctx, s, d.sharedMisses(), d.log, nil)
	d.upstreams = &upstreams{all: d.cfg.Routes()}
	d.auth = auth.New(users{s})
	d.auth.Log, d.auth.Shared = d.log, s.Several()
	if err := image.CheckPatterns(d.cfg.AnonymousPull); err != nil { // Parse checks those of a file
		return fmt.Errorf("anonymousPull: %w", err)
	}
	d.auth.Anonymous = d.cfg.AnonymousPull
	return d.calibrate(ctx)
}

// calibrate tells the authenticator how long a denial takes, so that its time does not reveal
// whether a user exists.
func (d *daemon) calibrate(ctx context.Context) error {
	all, err := d.store.Users.List(ctx)
	if err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	for _, u := range all {
		d.auth.Calibrate(u.PasswordHash)
	}
	return nil
}

// withRemedy adds a hint to an error that the host has caused.
func withRemedy(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return hint.New(err, "the user who runs the registry must own its directories and what is in them: give them back with chown -R, and mind their modes")
	case errors.Is(err, syscall.EROFS):
		return hint.New(err, "a file system that has had errors becomes read-only: see dmesg, then mount -o remount,rw; a failing disk calls for `appliance restore` elsewhere")
	}
	return err
}

func (d *daemon) openTLS(ctx context.Context) error {
	t := d.cfg.TLS
	port, err := d.listenPort()
	if err != nil {
		return err
	}
	ca, shared, err := d.openCA(ctx)
	if err != nil {
		return err
	}
	m, err := tlsgen.NewManager(ctx, tlsgen.Options{
		Names: []string{d.cfg.Hostname, "localhost"}, CA: ca, CertFile: t.Certificate,
		KeyFile: t.Key, StateDir: t.State,
		CAFile: t.CA, CAKeyFile: t.CAKey, Shared: shared, Log: d.log,
		ACME: tlsgen.ACME{Directory: t.ACME.Directory, CAFile: t.ACME.CA, Email: t.ACME.Email,
			KeyID: t.ACME.KeyID, KeyFile: t.ACME.KeyFile, Port: port},
	})
	if err != nil {
		return fmt.Errorf("prepare the certificate: %w", err)
	}
	d.tls = m
	d.onClose(m.Close)
	return nil
}

// listenPort returns the port that the daemon listens on.
func (d *daemon) listenPort() (int, error) {
	if len(d.given.Listeners) > 0 {
		return d.cfg.Port, nil
	}
	_, port, err := net.SplitHostPort(d.cfg.Listen)
	if err != nil {
		return 0, fmt.Errorf("listen: %w", err)
	}
	return strconv.Atoi(port)
}

// openAPI opens /v2, with pull-through below it.
func (d *daemon) openAPI(ctx context.Context) error {
	if err := d.openUpstreams(); err != nil {
		return err
	}
	secret, err := d.store.Secret(ctx, "upload-state") // which it signed in earlier versions
	if err != nil {
		return fmt.Errorf("read the secret that signs tokens: %w", err)
	}
	if d.key != nil {
		secret = d.key.Mix(secret)
	}
	d.auth.SignWith(secret)
	redirect, err := d.cfg.Redirect()
	if err != nil {
		return err
	}
	d.api = oci.New(oci.Options{
		Store: d.store, Upstream: d.upstreams.puller, Changes: d.family, Log: d.log, Audit: d.log, MaxUploads: maxUploads,
		DeleteReferrers: d.cfg.DeleteReferrers, Missed: d.misses.Missed, AnyPath: d.cfg.ServeHeldDigests, Redirect: redirect,
	})
	return nil
}

func (d *daemon) openControl(ctx context.Context) error {
	d.openJobs(ctx)
	pinner{d}.start(ctx)
	d.health = newHealth(d)
	d.metrics = newMetrics(d)
	d.admin = d.newAdmin(d.status)
	calls := http.NewServeMux()
	calls.Handle(documents.ResourcesPath, d.resources())
	calls.Handle("/", auth.Permit(admin.Action, d.admin, admin.Denied))
	var err error
	d.console, err = console.New(console.Options{
		Sessions: d.auth.NewSessions(d.logins()), API: calls,
		Admit:   func(next http.Handler) http.Handler { return admitted(next, deniedPage) },
		Address: d.cfg.Address(), Drain: d.draining, Log: d.log,
	})
	return err
}

// openJobs makes the jobs, which commands use without a daemon as well.
func (d *daemon) openJobs(ctx context.Context) {
	d.evictor = &evictor{store: d.store, quota: int64(d.cfg.PullQuota), log: d.log}
	d.collector = &collector{store: d.store.Garbage, changes: d.family.Do, grace: d.cfg.GC.GracePeriod, log: d.log,
		last:    jobs.OpenNote[api.GCResult](ctx, d.store, "gc.last", d.log),
		planned: newBoard[api.GCProgress, api.GCResult](d, "collection", func(p *api.GCProgress, host string) { p.Host = host })}
	d.scrubber = &scrubber{
		store: d.store, refetch: d.refetch, log: d.log,
		latest:   jobs.OpenNote[api.ScrubState](ctx, d.store, "scrub.latest", d.log),
		complete: jobs.OpenNote[api.ScrubState](ctx, d.store, "scrub.complete", d.log),
		board:    newBoard[api.ScrubState, struct{}](d, "scrub", func(p *api.ScrubState, host string) { p.Host = host }),
	}
	d.verified = jobs.OpenNote[api.VerifyResult](ctx, d.store, "verify.last", d.log)
	d.usage, d.watch = newUsage(d), openSpaceWatch(ctx, d.store, d.log)
	d.onClose(d.usage.wait)
	d.updates = updates.New(updates.Options{Store: d.store, Registry: d.cfg.Address(),
		MirrorNames: d.cfg.Updates.Payloads == config.PayloadsMirror, Log: d.log})
	collecting, scrubbing := d.collector.kind(d.draining), d.scrubber.kind(d.draining)
	collecting.Run = shown(d.collector.planned, func() bool { return d.jobs.GC.Stop() }, collecting.Run)
	scrubbing.Run = shown(d.scrubber.board, func() bool { return d.jobs.Scrub.Stop() }, scrubbing.Run)
	collecting.Interval, collecting.Next = d.cfg.GC.Interval, d.next(ctx, "gc.next")
	scrubbing.Interval, scrubbing.Next = d.cfg.Scrub.Interval, d.next(ctx, "scrub.next")
	collecting.Alone, scrubbing.Alone = d.alone(collecting.Name), d.alone(scrubbing.Name)
	collecting.Latest = latest(d.store, d.collector.last, func(r *api.GCResult) (at time.Time) {
		if r.Error == "" {
			at = r.Ended
		}
		return at
	})
	d.jobs = admin.Jobs{GC: jobs.New(collecting), Scrub: jobs.New(scrubbing), Verify: jobs.New(d.verifyKind())}
	d.verdicts = newVerdicts(d)
	d.jobs.Ready = d.verdicts.runner
	d.pinning = jobs.OpenNote[pinning](ctx, d.store, "pinning", d.log)
	d.jobs.Pin = jobs.New(jobs.Kind[api.PinRequest, api.PinProgress, api.PinResult]{Name: pinName, Alone: d.alone(pinName), Run: changing(d.family, nil, pinner{d}.run), Drain: d.draining, Log: d.log})
	d.openMirrors(ctx)
	d.views = views.New(ctx, views.Options{Catalogs: d.cfg.Catalogs, Store: d.store, Registry: d.cfg.Address(),
		Dir: d.cfg.Database + ".catalogs", Changes: d.family, Recalled: reaching{d}.has, Drain: d.draining, Log: d.log})
	d.jobs.Catalogs = d.views.Runner()
	d.clusters = retain.New(retain.Options{Store: d.store, Registry: d.cfg.Address(), Updates: d.updates, Catalogs: d.views, Log: d.log})
	d.jobs.Prune = jobs.New(jobs.Kind[api.PruneRequest, api.PruneProgress, api.PruneResult]{Name: "prune", Alone: d.alone("prune"), Run: changing(d.family, api.PruneRequest.Plans, d.clusters.Prune),
		DryRun: api.PruneRequest.Plans, Drain: d.draining, Log: d.log})
	d.onClose(func() error {
		d.jobs.GC.Wait()
		d.jobs.Scrub.Wait()
		d.jobs.Verify.Wait()
		d.jobs.Ready.Wait()
		return nil
	})
}

// newAdmin returns the control API; status is nil if no daemon runs.
func (d *daemon) newAdmin(status func(context.Context) (api.Status, error)) *admin.Handler {
	o := admin.Options{Store: d.store, Auth: d.auth, Jobs: d.jobs, Catalogs: d.views, Reaching: reaching{d}, Link: d.link, Misses: d.misses, Mirrors: mirrors{d}, Pins: pinner{d}, Updates: d.updates, Verdicts: d.verdicts, Clusters: d.clusters, Audit: d.audit, Upkeep: upkeep{d}, Family: d.family,
		Status: status, Serves: d.serves, Drain: d.draining, Log: d.log}
	described := &images.Images{Store: d.store, Alone: !d.cfg.DeleteReferrers, Verify: d.verdicts.judge.Verify}
	o.Images = described
	if status != nil {
		described.Remove = d.api.Delete
		o.Upstreams, o.Certificate = upstreamAdmin{d}, certificateAdmin{d}
	}
	return admin.NewHandler(o)
}

// public returns the handler of the TLS listeners.
func (d *daemon) public() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/v1/", d.auth.Require(admin.Action, admitted(d.admin, admin.Denied), admin.Denied))
	mux.Handle(api.ExchangeRoles.Method+" "+api.ExchangeRoles.Path, d.family) // whose login is a token
	login := func(*http.Request) auth.Action { return auth.Login }
	mux.Handle(updates.Path, d.updates)
	mux.Handle(updates.SignaturesPath, d.updates)
	mux.Handle(documents.ResourcesPath, d.auth.Require(login, admitted(d.resources(), documents.Denied), documents.Denied))
	read := func(*http.Request) auth.Action { return auth.Read }
	files := &documents.Files{Store: d.store, Blobs: d.api, Log: d.log}
	mux.Handle(documents.FilesPath, d.auth.Require(read, admitted(files, documents.Denied), documents.Denied))
	mux.Handle("GET /health/instance", d.health)
	mux.Handle("GET /metrics", d.metricsFor(d.metrics.handler(d.log)))
	mux.Handle("GET /ca.crt", caFile(d.cfg.TLS.CA))
	mux.Handle("/", d.console)
	v2 := d.auth.RequireToken(oci.Action, d.api.Scope, admitted(d.api, oci.Denied), oci.Denied)

	// A page of another site must not act with the login that a browser remembers for us.
	return d.observe("", http.NewCrossOriginProtection().Handler(route(v2,
		d.auth.Tokens(func(h http.Handler) http.Handler { return admitted(h, oci.Denied) }), mux)))
}

// resources returns the handler of the cluster resources.
func (d *daemon) resources() *documents.Resources {
	return &documents.Resources{Tags: d.store.Tags, Registry: d.cfg.Address(), Version: d.version, Log: d.log}
}

// local returns the handler of the control socket, whose file mode is the login.
func (d *daemon) local(control http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(documents.ResourcesPath, d.resources())
	mux.Handle("/", control)
	return mux
}

// route keeps /v2 away from ServeMux, which redirects a doubled slash: the distribution
// specification requires an error.
func route(v2, tokens, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := others
		switch {
		case r.URL.Path == auth.TokenPath:
			h = tokens
		case isV2(r.URL.Path):
			h = v2
		}
		h.ServeHTTP(w, r)
	})
}

// users lets the authenticator, which knows no store, look users up in ours.
type users struct{ store *store.Store }

func (u users) Lookup(ctx context.Context, name string) (auth.Record, bool, error) {
	found, err := u.store.Users.Get(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return auth.Record{}, false, nil
	case err != nil:
		return auth.Record{}, false, err
	}
	return auth.Record{Role: found.Role, PasswordHash: found.PasswordHash, Repositories: found.Repositories}, true, nil
}
