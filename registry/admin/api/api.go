// Package api is the control API: each call with its path, its request and its answer.
//
// A call is declared here once, as a [Call] or, if it takes long, as a [Job]. Package client has a
// method for it, package admin a handler, and neither repeats the path. A request that breaks a
// rule of its own says so in Check, which the server calls.
//
// Requests and answers are JSON; an error is a [Refusal]. Protocol buffers were refused: curl is
// the second client, and the large bodies, blobs and manifests, are sent as they are.
package api

import (
	"encoding/json"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// Product is the Server header of every answer, which tells an appliance from another registry.
const Product = "appliance"

// Bounds of JSON bodies in bytes.
const (
	MaxJSON = 64 << 10
	MaxList = 4 << 20
	// MaxWants bounds what an image set wants: a vendor's whole catalog has ten thousand images.
	MaxWants = 32 << 20
	// MaxLine bounds a line of a job: the report of a scrub lists a thousand damaged blobs with a
	// hundred images each, which is 40 MB where the names are as long as they may be.
	MaxLine = 64 << 20
)

// AtOnce is how many digests, blobs, tags or sources one request lists. With the longest names of
// repositories and the longest digests it stays below MaxList.
const AtOnce = 5000

// UploadOffset is the header of a PutBlob whose body is the rest of a blob: how many bytes of it the
// registry has, see Existing. The name is that of the IETF's draft of resumable uploads.
const UploadOffset = "Upload-Offset"

// ForDatabase is the header of a Ping that names the database which the caller means: configurations of
// two stores may name one socket. It is escaped as in a query. The daemon of another database refuses; an
// older daemon does not look at it.
const ForDatabase = "Appliance-Database"

// None stands for no JSON: no request body that is decoded, no answer body.
type None struct{}

// Call is a request that is answered at once. Q is what it sends, A what it gets.
type Call[Q, A any] struct {
	Method string
	Path   string // {name} stands for an argument
	Status int    // of success
	Max    int64  // bytes of the request's JSON
}

// Parameter is a parameter in the query of a call. A handler gets those that it is registered with, and a
// request with another is refused.
type Parameter struct {
	Name, Text string
	Type       string // of JSON: string, integer or boolean
	Required   bool
}

// ForRepository is a parameter of PutBlob and PutManifest.
var ForRepository = Parameter{Name: "repository", Text: "the repository that gets the blob or manifest", Type: "string", Required: true}

// CopyFailed is a parameter of EndBackup.
var CopyFailed = Parameter{Name: "failed", Text: "true if the copy has failed: the backup is not kept as the last one", Type: "boolean"}

// Job is a request that lasts. Its answer is a [Line] whenever there is progress, and a last one
// with the result or the error: at the first line it is not known whether the job succeeds. A job
// that fails before is answered as a Call is.
type Job[Q, P, R any] struct{ Path string }

// Refusal is the answer to a request that failed.
type Refusal struct {
	Problem string `json:"error"`
	Hint    string `json:"hint,omitempty"`
}

// The calls.
var (
	Ping      = Call[None, None]{http.MethodGet, "/api/v1/ping", http.StatusNoContent, 0}
	GetStatus = Call[None, Status]{http.MethodGet, "/api/v1/status", http.StatusOK, 0}

	// SetOffline cuts the registry's way to other hosts or restores it, and GetOffline returns which.
	SetOffline = Call[Offline, Offline]{http.MethodPut, "/api/v1/offline", http.StatusOK, MaxJSON}
	GetOffline = Call[None, Offline]{http.MethodGet, "/api/v1/offline", http.StatusOK, 0}
	// GetCertificate describes the certificate that is served, and RenewCertificate replaces it by a new
	// one of the appliance's CA.
	GetCertificate   = Call[None, Certificate]{http.MethodGet, "/api/v1/certificate", http.StatusOK, 0}
	RenewCertificate = Call[None, Certificate]{http.MethodPost, "/api/v1/certificate/renew", http.StatusOK, 0}
	// UnshareCertificate deletes the CA and the certificate that several daemons share from their database:
	// the next daemon that starts shares those of its files.
	UnshareCertificate = Call[None, None]{http.MethodDelete, "/api/v1/certificate/shared", http.StatusNoContent, 0}
	// ListMisses lists what clients asked for, did not get, and is still not held, MissedImageSet is it as an
	// image set that mirrors it, and ClearMisses forgets it.
	ListMisses     = Call[None, []Miss]{http.MethodGet, "/api/v1/misses", http.StatusOK, 0}
	MissedImageSet = Call[None, ImageSetFile]{http.MethodGet, "/api/v1/misses/image-set", http.StatusOK, 0}
	ClearMisses    = Call[None, None]{http.MethodDelete, "/api/v1/misses", http.StatusNoContent, 0}
	// ListUpstreams lists the upstreams in force, TestUpstreams asks each, and Reload reads them again
	// from the configuration.
	ListUpstreams = Call[None, []Upstream]{http.MethodGet, "/api/v1/upstreams", http.StatusOK, 0}
	TestUpstreams = Call[UpstreamTest, []UpstreamTested]{http.MethodPost, "/api/v1/upstreams/test", http.StatusOK, MaxJSON}
	Reload        = Call[None, None]{http.MethodPost, "/api/v1/reload", http.StatusNoContent, 0}

	// Pin fetches what is lacking of images and protects them from eviction, Unpin ends that, and
	// ListPins lists them.
	Pin      = Job[PinRequest, PinProgress, PinResult]{"/api/v1/pin"}
	Unpin    = Call[PinRequest, PinResult]{http.MethodPost, "/api/v1/unpin", http.StatusOK, MaxList}
	ListPins = Call[None, []PinnedImage]{http.MethodGet, "/api/v1/pins", http.StatusOK, 0}

	// AttachCluster protects what a cluster runs and may roll back to, and DetachCluster ends that, by its
	// id or its name. PushCluster is AttachCluster with an export of oc get, and also for the user of
	// role pull that an administrator has named for the cluster.
	AttachCluster = Call[AttachRequest, AttachedCluster]{http.MethodPut, "/api/v1/clusters", http.StatusOK, MaxList}
	PushCluster   = Call[None, AttachedCluster]{http.MethodPut, "/api/v1/clusters/{id}", http.StatusOK, 0}
	ListClusters  = Call[None, []AttachedCluster]{http.MethodGet, "/api/v1/clusters", http.StatusOK, 0}
	DetachCluster = Call[None, None]{http.MethodDelete, "/api/v1/clusters/{id}", http.StatusNoContent, 0}

	// RegisterFollower registers an appliance that follows this one, ListFollowers lists these, and RemoveFollower forgets
	// one, or another appliance of untoldIDs in the status: that is not told any more that this one is the primary, except
	// when it asks, and nothing warns of it. GetChanges returns what has changed here since a position, or all that there is after a registration. It is
	// refused with status 410 where the changes since then are not known any more: the follower registers again.
	RegisterFollower = Call[NewFollower, RegisteredFollower]{http.MethodPost, "/api/v1/followers", http.StatusOK, MaxJSON}
	ListFollowers    = Call[None, []Follower]{http.MethodGet, "/api/v1/followers", http.StatusOK, 0}
	RemoveFollower   = Call[None, None]{http.MethodDelete, "/api/v1/followers/{id}", http.StatusNoContent, 0}
	GetChanges       = Call[None, Changes]{http.MethodGet, "/api/v1/changes", http.StatusOK, 0}

	// GetUpdates returns what the update service offers, and the graph of a channel if one is named.
	GetUpdates = Call[UpdatesRequest, Updates]{http.MethodPost, "/api/v1/updates", http.StatusOK, MaxJSON}

	// ListAudit lists what users did and were refused, in parts.
	ListAudit = Call[AuditRequest, AuditPage]{http.MethodPost, "/api/v1/audit", http.StatusOK, MaxJSON}

	ListUsers  = Call[None, []User]{http.MethodGet, "/api/v1/users", http.StatusOK, 0}
	CreateUser = Call[NewUser, User]{http.MethodPost, "/api/v1/users", http.StatusCreated, MaxJSON}
	ChangeUser = Call[UserChange, User]{http.MethodPut, "/api/v1/users/{name}", http.StatusOK, MaxJSON}
	DeleteUser = Call[None, None]{http.MethodDelete, "/api/v1/users/{name}", http.StatusNoContent, 0}

	GC     = Job[GCRequest, GCProgress, GCResult]{"/api/v1/gc"}
	Verify = Job[VerifyRequest, VerifyProgress, findings.Report]{"/api/v1/verify"}
	Scrub  = Job[ScrubRequest, ScrubState, findings.ScrubReport]{"/api/v1/scrub"}
	Mirror = Job[MirrorRequest, MirrorProgress, MirrorResult]{"/api/v1/mirror"}
	// PlanMirror plans a run of an image set, and GetMirrorPlan returns the last plan. StopMirror ends a run,
	// or the making of a plan. ListMirrors lists the image sets of the configuration, GetImageSet returns the
	// file of one, and GetMirrorReport the report of its last run.
	PlanMirror      = Job[MirrorRequest, MirrorProgress, MirrorPlan]{"/api/v1/mirror/plan"}
	GetMirrorPlan   = Call[ImageSetName, MirrorPlanState]{http.MethodPost, "/api/v1/mirror/last-plan", http.StatusOK, MaxJSON}
	StopMirror      = Call[MirrorStop, None]{http.MethodPost, "/api/v1/mirror/stop", http.StatusNoContent, MaxJSON}
	ListMirrors     = Call[None, []MirrorState]{http.MethodGet, "/api/v1/mirror", http.StatusOK, 0}
	GetImageSet     = Call[ImageSetName, ImageSetFile]{http.MethodPost, "/api/v1/mirror/image-set", http.StatusOK, MaxJSON}
	GetMirrorReport = Call[MirrorReportRequest, MirrorReport]{http.MethodPost, "/api/v1/mirror/report", http.StatusOK, MaxJSON}
	// PlanDraft plans a text of an image set, GetDraftPlan returns the last such plan, and StopDraft ends the
	// making of one.
	PlanDraft    = Job[DraftRequest, MirrorProgress, MirrorPlan]{"/api/v1/mirror/draft"}
	GetDraftPlan = Call[None, DraftPlanState]{http.MethodGet, "/api/v1/mirror/draft", http.StatusOK, 0}
	StopDraft    = Call[None, None]{http.MethodDelete, "/api/v1/mirror/draft", http.StatusNoContent, 0}
	// EditImageSet changes the text of an image set that it is given, and checks it as a run does.
	EditImageSet = Call[ImageSetEdits, EditedImageSet]{http.MethodPost, "/api/v1/mirror/edit", http.StatusOK, MaxList}

	// GetGCPlan returns what the last detached dry run of a collection would have removed, and GetDamage lists the
	// blobs that are out of service and what the last verification has found. GetUsage returns what uses the space.
	GetGCPlan = Call[None, GCPlan]{http.MethodGet, "/api/v1/gc/plan", http.StatusOK, 0}
	GetDamage = Call[None, Damage]{http.MethodGet, "/api/v1/damage", http.StatusOK, 0}
	GetUsage  = Call[UsageRequest, Usage]{http.MethodPost, "/api/v1/usage", http.StatusOK, MaxJSON}

	// Prune lists or deletes what no attached cluster runs, can reach or may roll back to.
	Prune = Job[PruneRequest, PruneProgress, PruneResult]{"/api/v1/prune"}
	// Ready judges whether a cluster can be installed or upgraded. GetReady returns the last verdict of those that were
	// detached, StopReady ends the one that is being made, and ReadyImageSet is an image set that brings what the last lacks.
	Ready         = Job[ReadyRequest, ReadyProgress, Verdict]{"/api/v1/ready"}
	GetReady      = Call[None, ReadyState]{http.MethodGet, "/api/v1/ready", http.StatusOK, 0}
	StopReady     = Call[None, None]{http.MethodPost, "/api/v1/ready/stop", http.StatusNoContent, 0}
	ReadyImageSet = Call[None, ImageSetFile]{http.MethodGet, "/api/v1/ready/image-set", http.StatusOK, 0}

	// Follow makes an appliance a follower of another: it becomes equal to that, and takes no changes itself.
	// StopFollowing makes it one of its own, with what it has. Promote makes it the primary, in the place of the one
	// that it follows.
	Follow        = Call[FollowRequest, Followed]{http.MethodPost, "/api/v1/follow", http.StatusOK, MaxList}
	StopFollowing = Call[None, Family]{http.MethodDelete, "/api/v1/follow", http.StatusOK, 0}
	Promote       = Job[PromoteRequest, PromoteProgress, Promoted]{"/api/v1/promote"}
	// ExchangeRoles is what appliances of a family ask each other, with the token of the two for a login; package role
	// answers it.
	ExchangeRoles = Call[Exchange, Exchange]{http.MethodPost, "/api/v1/family", http.StatusOK, MaxJSON}

	Catalogs = Job[CatalogsRequest, CatalogsProgress, CatalogsResult]{"/api/v1/catalogs"}

	// Backup lasts until EndBackup, and is answered on the socket only.
	Backup    = Job[None, Snapshot, None]{"/api/v1/backup"}
	EndBackup = Call[None, None]{http.MethodDelete, "/api/v1/backup/{snapshot}", http.StatusNoContent, 0}

	// ListRepositories, ListTags, GetImage and GetSignatures, which verifies the signatures of an image, are for
	// users of every role, of what they may see. PlanDelete
	// tells what DeleteImage does, which users of roles push and admin may do, as DELETE of /v2 does.
	ListRepositories = Call[Page, Repositories]{http.MethodPost, "/api/v1/repositories", http.StatusOK, MaxJSON}
	ListTags         = Call[TagsRequest, TagPage]{http.MethodPost, "/api/v1/tags", http.StatusOK, MaxJSON}
	GetImage         = Call[Place, Image]{http.MethodPost, "/api/v1/image", http.StatusOK, MaxJSON}
	GetSignatures    = Call[Place, ImageSignatures]{http.MethodPost, "/api/v1/image/signatures", http.StatusOK, MaxJSON}
	PlanDelete       = Call[ImageDelete, Deletion]{http.MethodPost, "/api/v1/image/plan-delete", http.StatusOK, MaxJSON}
	DeleteImage      = Call[ImageDelete, None]{http.MethodPost, "/api/v1/image/delete", http.StatusNoContent, MaxJSON}

	// ListInventory lists what the registry has, in parts, for a mirror that leaves it out.
	ListInventory = Call[InventoryRequest, Inventory]{http.MethodPost, "/api/v1/inventory", http.StatusOK, MaxJSON}

	// BeginSync begins a run. What is put into it exists for its run only, and safe from
	// collection, until CommitSync makes all of it visible at once. A repository gets by a run what
	// was put for it, what it shows already, and what the caller says that the source of that
	// repository has confirmed; to name another repository's blob is not enough.
	BeginSync   = Call[NewSync, Sync]{http.MethodPost, "/api/v1/sync", http.StatusCreated, MaxJSON}
	CheckSync   = Call[Existing, Existing]{http.MethodPost, "/api/v1/sync/{id}/held", http.StatusOK, MaxList}
	ConfirmSync = Call[Confirm, Confirmed]{http.MethodPost, "/api/v1/sync/{id}/confirm", http.StatusOK, MaxList}
	PutBlob     = Call[None, None]{http.MethodPut, "/api/v1/sync/{id}/blobs/{digest}", http.StatusCreated, 0} // the bytes, with Content-Length, and UploadOffset
	// WriteBlob is answered on the socket only. It names the file into which a process of the
	// daemon's host writes a blob of a megabyte or more, and makes what is there safe. PutBlob, with
	// the size as UploadOffset and no body, ends it.
	WriteBlob   = Call[Written, BlobFile]{http.MethodPost, "/api/v1/sync/{id}/blobs/{digest}/file", http.StatusOK, MaxJSON}
	PutManifest = Call[None, None]{http.MethodPut, "/api/v1/sync/{id}/manifests/{digest}", http.StatusCreated, 0} // the bytes, with Content-Type
	TagSync     = Call[Tags, None]{http.MethodPost, "/api/v1/sync/{id}/tags", http.StatusNoContent, MaxList}
	SetSources  = Call[Sources, None]{http.MethodPost, "/api/v1/sync/{id}/sources", http.StatusNoContent, MaxList}
	// SetOrigins records what the tags of a run are mirrors of, and ListOrigins lists, in parts, what
	// the tags of the registry are mirrors of.
	SetOrigins  = Call[Origins, None]{http.MethodPost, "/api/v1/sync/{id}/origins", http.StatusNoContent, MaxList}
	ListOrigins = Call[OriginsRequest, Origins]{http.MethodPost, "/api/v1/origins", http.StatusOK, MaxJSON}
	// SetWants keeps what an image set wants of the registry, ListWants lists it, and ListNeeds lists what of some images
	// something else at the registry needs: other image sets, catalogs, and views of catalogs.
	SetWants  = Call[Wants, None]{http.MethodPut, "/api/v1/wants", http.StatusNoContent, MaxWants}
	ListWants = Call[None, []Wants]{http.MethodGet, "/api/v1/wants", http.StatusOK, 0}
	ListNeeds = Call[NeedsRequest, []Need]{http.MethodPost, "/api/v1/needs", http.StatusOK, MaxList}
	// GetCatalog gets what an operator catalog of the registry has.
	GetCatalog = Call[Place, CatalogContent]{http.MethodPost, "/api/v1/catalog-content", http.StatusOK, MaxJSON}
	// ListCatalogs lists the operator catalogs of the registry and the views of them, ListPackages in parts the
	// packages of one, and GetPackage a package with its bundles in a channel, and what they lack here.
	ListCatalogs = Call[None, []HeldCatalog]{http.MethodGet, "/api/v1/held-catalogs", http.StatusOK, 0}
	ListPackages = Call[PackagesRequest, CatalogPackages]{http.MethodPost, "/api/v1/held-catalogs/packages", http.StatusOK, MaxJSON}
	GetPackage   = Call[PackageRequest, CatalogBundles]{http.MethodPost, "/api/v1/held-catalogs/package", http.StatusOK, MaxJSON}
	// ReadCatalog reads what an operator catalog offers at its registry, and mirrors nothing. ListReached lists the
	// catalogs that were read so, ListReachedPackages in parts the packages of one, and StopReading ends a reading.
	ReadCatalog         = Job[CatalogRead, CatalogReading, ReachedCatalog]{"/api/v1/reached-catalogs"}
	ListReached         = Call[None, ReachedCatalogs]{http.MethodGet, "/api/v1/reached-catalogs", http.StatusOK, 0}
	StopReading         = Call[None, None]{http.MethodDelete, "/api/v1/reached-catalogs", http.StatusNoContent, 0}
	ListReachedPackages = Call[ReachedPackagesRequest, CatalogPackages]{http.MethodPost, "/api/v1/reached-catalogs/packages", http.StatusOK, MaxJSON}

	CommitSync = Call[None, None]{http.MethodPost, "/api/v1/sync/{id}/commit", http.StatusNoContent, 0}
	// ListSyncs lists the last runs that were committed, ListChanges the tags that one moved, in parts, and
	// RollbackSync gives those tags their manifests of before.
	ListSyncs    = Call[PastRequest, []PastSync]{http.MethodPost, "/api/v1/history", http.StatusOK, MaxJSON}
	ListChanges  = Call[ChangesRequest, []RunChange]{http.MethodPost, "/api/v1/sync/{id}/changes", http.StatusOK, MaxJSON}
	RollbackSync = Call[RollbackRequest, Rollback]{http.MethodPost, "/api/v1/sync/{id}/rollback",
		http.StatusOK, MaxJSON}
	// GetResources gets the cluster resources. Users of every role may, over HTTPS; package documents
	// answers it.
	GetResources = Call[None, []Resource]{http.MethodGet, "/mirror/cluster-resources/", http.StatusOK, 0}

	// GetOpenAPI gets the description of these calls, an OpenAPI 3.1 document. Users of every role may.
	GetOpenAPI = Call[None, json.RawMessage]{http.MethodGet, "/api/v1/openapi.json", http.StatusOK, 0}

	AbortSync = Call[None, None]{http.MethodDelete, "/api/v1/sync/{id}", http.StatusNoContent, 0}
)
