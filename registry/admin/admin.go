// Package admin serves the control API, by which commands and administrators act on a running
// daemon.
//
// One [Handler] has two doors. On the unix socket ([Listen]) the file mode 0600 is the login; over
// HTTPS, under /api/v1, the caller must be a user of role admin, which package registry checks.
// Package api declares the calls, package client makes them. To add one, declare it there and give
// it a handler in NewHandler.
//
// gRPC and an upload session in the manner of /v2 were refused, since neither gives more than a
// PUT with a length and a digest does: each blob of a sync is one request, whose body goes
// straight into the store.
package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/openapi"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// Options are what the handler works on.
type Options struct {
	Store *store.Store
	Auth  *auth.Authenticator // told to forget users that change
	Jobs  Jobs
	// Catalogs knows what the catalogs of the store need.
	Catalogs Catalogs
	Reaching Reaching
	// Status returns the state of the daemon. It is nil when a command has opened the store
	// because no daemon runs.
	Status func(ctx context.Context) (api.Status, error)
	// Serves reports whether the daemon has the database of a name, or has it after a restart. nil: it
	// is not asked.
	Serves    func(database string) bool
	Link      Link
	Upstreams Upstreams // nil where Status is
	// Certificate is nil where Status is.
	Certificate Certificate
	Misses      Misses
	Mirrors     Mirrors
	Pins        Pins
	Updates     Updates
	Verdicts    Verdicts
	Clusters    Clusters
	Audit       Audit
	Images      Images
	Upkeep      Upkeep
	Family      Family          // nil: no role refuses anything
	Drain       context.Context // ends when the daemon drains
	Log         *slog.Logger    // nil: discard
}

// Jobs are the runners of what takes long.
type Jobs struct {
	GC     *jobs.Runner[api.GCRequest, api.GCProgress, api.GCResult]
	Verify *jobs.Runner[api.VerifyRequest, api.VerifyProgress, findings.Report]
	Scrub  *jobs.Runner[api.ScrubRequest, api.ScrubState, findings.ScrubReport]
	Pin    *jobs.Runner[api.PinRequest, api.PinProgress, api.PinResult]
	// Ready judges releases.
	Ready *jobs.Runner[api.ReadyRequest, api.ReadyProgress, api.Verdict]
	// Prune deletes what no attached cluster needs.
	Prune *jobs.Runner[api.PruneRequest, api.PruneProgress, api.PruneResult]
	// Reach reads catalogs at their registries.
	Reach *jobs.Runner[api.CatalogRead, api.CatalogReading, api.ReachedCatalog]
	// Catalogs makes the views of the configuration again.
	Catalogs *jobs.Runner[api.CatalogsRequest, api.CatalogsProgress, api.CatalogsResult]
}

// Handler answers the control API. It checks no login, see the package comment.
type Handler struct {
	store  *store.Store
	auth   *auth.Authenticator
	status func(context.Context) (api.Status, error)
	serves func(database string) bool
	drain  context.Context
	log    *slog.Logger
	mux    *http.ServeMux
	calls  []openapi.Call // that mux has
	// document describes them.
	document func() (json.RawMessage, error)

	catalogs  Catalogs
	reaching  Reaching
	link      Link
	upstreams Upstreams
	misses    Misses
	pins      Pins
	updates   Updates
	verdicts  Verdicts
	clusters  Clusters
	audited   Audit
	images    Images
	upkeep    Upkeep
	family    Family

	certificate Certificate

	mirrors Mirrors

	// users is held from a look at all users to the change that depends on it, so that two
	// requests cannot remove the last two administrators.
	users sync.Mutex

	waiting atomic.Int32 // requests of followers

	backups sync.Map // under way: the name of each snapshot, with its snapshotHeld
}

// NewHandler returns the handler of all calls.
func NewHandler(o Options) *Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{store: o.Store, auth: o.Auth, status: o.Status, serves: o.Serves, drain: o.Drain, log: o.Log,
		mux: http.NewServeMux(), mirrors: o.Mirrors, catalogs: o.Catalogs, reaching: o.Reaching, link: o.Link, upstreams: o.Upstreams, misses: o.Misses, pins: o.Pins, updates: o.Updates, clusters: o.Clusters, audited: o.Audit, images: o.Images, certificate: o.Certificate}
	h.upkeep, h.verdicts, h.family = o.Upkeep, o.Verdicts, o.Family
	handle(h, api.Ping, h.ping)
	handle(h, api.GetStatus, h.getStatus)

	handle(h, api.SetOffline, h.setOffline)
	handle(h, api.GetOffline, h.getOffline)
	handle(h, api.GetCertificate, h.getCertificate)
	handle(h, api.RenewCertificate, h.renewCertificate)
	handle(h, api.UnshareCertificate, h.unshareCertificate)
	handle(h, api.ListMisses, h.listMisses)
	handle(h, api.ClearMisses, h.clearMisses)
	handle(h, api.ListPins, h.listPins)
	handle(h, api.Unpin, h.unpin)
	handle(h, api.ListUpstreams, h.listUpstreams)
	handle(h, api.TestUpstreams, h.testUpstreams)
	handle(h, api.Reload, h.reloadUpstreams)

	handle(h, api.GetUpdates, h.getUpdates)

	handle(h, api.AttachCluster, h.attachCluster)
	handle(h, api.PushCluster, h.pushCluster)
	handle(h, api.ListClusters, h.listClusters)
	handle(h, api.DetachCluster, h.detachCluster)

	handle(h, api.RegisterFollower, h.registerFollower)
	handle(h, api.ListFollowers, h.listFollowers)
	handle(h, api.RemoveFollower, h.removeFollower)
	handle(h, api.GetChanges, h.getChanges, api.ForFollower, api.SincePoint, api.ChangesLimit, api.ChangesWait)

	handle(h, api.ListAudit, h.listAudit)

	handle(h, api.ListUsers, h.listUsers)
	handle(h, api.CreateUser, h.createUser)
	handle(h, api.ChangeUser, h.changeUser)
	handle(h, api.DeleteUser, h.deleteUser)

	handleJob(h, api.GC, o.Jobs.GC)
	handleJob(h, api.Verify, o.Jobs.Verify)
	handleJob(h, api.Scrub, o.Jobs.Scrub)
	handleJob(h, api.Pin, o.Jobs.Pin)
	handleJob(h, api.Ready, o.Jobs.Ready)
	handle(h, api.GetReady, h.getReady)
	handle(h, api.StopReady, h.stopReady)
	handle(h, api.ReadyImageSet, h.readyImageSet)
	handleJob(h, api.Prune, o.Jobs.Prune)
	handleJob(h, api.Catalogs, o.Jobs.Catalogs)
	h.handleMirrors()
	routeJob(h, api.Backup, h.backup)
	handle(h, api.EndBackup, h.endBackup, api.CopyFailed)

	handle(h, api.ListRepositories, h.listRepositories)
	handle(h, api.ListTags, h.listTags)
	handle(h, api.GetImage, h.getImage)
	handle(h, api.GetSignatures, h.getSignatures)
	handle(h, api.PlanDelete, h.planDelete)
	handle(h, api.DeleteImage, h.deleteImage)

	handle(h, api.GetGCPlan, h.getGCPlan)
	handle(h, api.GetDamage, h.getDamage)
	handle(h, api.GetUsage, h.getUsage)

	handle(h, api.ListInventory, h.inventory)

	handle(h, api.BeginSync, h.beginSync)
	handleRun(h, api.CheckSync, h.checkSync)
	handleRun(h, api.ConfirmSync, confirm)
	handleRun(h, api.PutBlob, putBlob, api.ForRepository)
	handleRun(h, api.WriteBlob, writeBlob)
	handleRun(h, api.PutManifest, putManifest, api.ForRepository)
	handleRun(h, api.TagSync, tag)
	handleRun(h, api.SetSources, setSources)
	handleRun(h, api.SetOrigins, setOrigins)
	handle(h, api.ListOrigins, h.listOrigins)
	handle(h, api.SetWants, h.setWants)
	handle(h, api.ListWants, h.listWants)
	handle(h, api.ListNeeds, h.listNeeds)
	handle(h, api.GetCatalog, h.getCatalog)
	handle(h, api.ListCatalogs, h.listCatalogs)
	handle(h, api.ListPackages, h.listPackages)
	handle(h, api.GetPackage, h.getPackage)
	h.handleReached(o.Jobs.Reach)
	handleRun(h, api.CommitSync, h.commit)
	handleRun(h, api.AbortSync, h.abort)
	handle(h, api.ListSyncs, h.listSyncs)
	handle(h, api.ListChanges, h.listChanges)
	handle(h, api.RollbackSync, h.rollback)

	h.handleFamily()
	handle(h, api.GetOpenAPI, h.getOpenAPI)
	h.document = sync.OnceValues(h.describe)
	h.mux.HandleFunc("/", h.unknown)
	return h
}

// Action returns what the user of a request must be allowed.
func Action(r *http.Request) auth.Action {
	if _, pushed := strings.CutPrefix(r.URL.Path, "/api/v1/clusters/"); pushed && r.Method == api.PushCluster.Method {
		return auth.Login // and the user that an administrator has named for the cluster, which the handler checks
	}
	switch r.URL.Path {
	case api.GetOpenAPI.Path:
		return auth.Login
	case api.ListRepositories.Path, api.ListTags.Path, api.GetImage.Path, api.GetSignatures.Path:
		return auth.Login // within the grants of the user, which package images checks
	case api.PlanDelete.Path, api.DeleteImage.Path, api.ListNeeds.Path:
		return auth.Write // likewise; who may not see all repositories is not told what needs an image
	}
	return auth.Administer
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mux.ServeHTTP(w, r.WithContext(store.WithUser(r.Context(), caller(r.Context()))))
}

// handle makes serve answer a call, which has some parameters in its query.
func handle[Q, A any](h *Handler, call api.Call[Q, A], serve func(r *http.Request, q Q) (A, error), query ...api.Parameter) {
	h.route(openapi.CallOf(call, query...), func(w http.ResponseWriter, r *http.Request) {
		var q Q
		var a A
		var err error
		if call.Max > 0 {
			err = decode(r, call.Max, &q)
		}
		if err == nil {
			a, err = serve(r, q)
		}
		switch {
		case err != nil:
			h.refuse(w, r, err)
		case any(a) == any(api.None{}):
			write(w, call.Status, nil)
		default:
			write(w, call.Status, a)
		}
	})
}

// ping costs nothing, whatever the size and the state of the store.
func (h *Handler) ping(r *http.Request, _ api.None) (api.None, error) {
	if err := h.isDaemon(); err != nil {
		return api.None{}, err
	}
	name, err := url.QueryUnescape(r.Header.Get(api.ForDatabase))
	if err == nil && name != "" && h.serves != nil && !h.serves(name) {
		err = conflict("the daemon that answers at the control socket does not have the database "+plain.Field(name)+": it was started with another configuration",
			"stop it first (systemctl stop appliance.socket appliance), or name the configuration that it was started with")
	}
	return api.None{}, err
}

func (h *Handler) getStatus(r *http.Request, _ api.None) (api.Status, error) {
	if err := h.isDaemon(); err != nil {
		return api.Status{}, err
	}
	return h.status(r.Context())
}

// isDaemon returns an error for a second command while a first has opened the store since no daemon
// runs.
func (h *Handler) isDaemon() error {
	if h.status == nil {
		return conflict("the registry is not running, and another command is at work on its store",
			"wait until that has ended")
	}
	return nil
}

// caller names the user for the log.
func caller(ctx context.Context) string {
	if id, ok := auth.IdentityFrom(ctx); ok {
		return id.Name
	}
	return "local"
}
