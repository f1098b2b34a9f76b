package admin

import (
	"cmp"
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/openapi"
	"github.com/mirror-appliance/appliance/registry/role"
)

// Family is this appliance among those with the same content. *role.Family is it, with what it
// needs to compare content.
type Family interface {
	// Check returns an error while changes of content are refused, and Enter begins one.
	Check(ctx context.Context) error
	Enter(ctx context.Context) (within context.Context, leave func(), err error)
	Describe() api.Family
	Follow(ctx context.Context, q api.FollowRequest) (api.Followed, error)
	Leave(ctx context.Context) (api.Family, error)
	Promote(ctx context.Context, q api.PromoteRequest, progress func(api.PromoteProgress)) (api.Promoted, error)
	// Registered takes what a follower tells of itself, Removed forgets one, and Forget an appliance that was not told
	// of this primary.
	Registered(ctx context.Context, p role.Peer) error
	Removed(ctx context.Context, id string) error
	Forget(ctx context.Context, id string) (address string, ok bool, err error)
}

// An effect is what a call changes.
type effect int

const (
	// content is changed when the call is answered. What is not in the table below counts as that.
	content effect = iota
	// staged is for content that shows by another call: such a request is refused where content is, but may
	// go on when the role changes.
	staged
	// accounts are changed, which a follower may have of another.
	accounts
	// local is upkeep of this host, and what it knows of itself: no role refuses it.
	local
	// nothing is changed.
	nothing
	// own is for a call that decides itself: it changes content, or only plans to.
	own
)

// effects are those of all calls but those that get something.
func effects() map[string]effect {
	return map[string]effect{
		key(api.SetOffline): local, key(api.RenewCertificate): local, key(api.UnshareCertificate): local, key(api.ClearMisses): local, key(api.Reload): local,
		key(api.TestUpstreams): nothing,
		key(api.Unpin):         content, key(api.AttachCluster): content, key(api.PushCluster): content, key(api.DetachCluster): content,
		key(api.GetUpdates): nothing, key(api.ListAudit): nothing,
		key(api.CreateUser): accounts, key(api.ChangeUser): accounts, key(api.DeleteUser): accounts,

		jobKey(api.GC): local, jobKey(api.Verify): local, jobKey(api.Scrub): local, jobKey(api.Backup): local, key(api.EndBackup): local,
		jobKey(api.Pin): own, jobKey(api.Prune): own, jobKey(api.Catalogs): own, jobKey(api.Mirror): own,
		jobKey(api.Ready): local, key(api.StopReady): local,
		jobKey(api.PlanMirror): nothing, jobKey(api.PlanDraft): nothing, key(api.StopDraft): nothing, key(api.StopMirror): local,
		key(api.GetMirrorPlan): nothing, key(api.GetImageSet): nothing, key(api.GetMirrorReport): nothing, key(api.EditImageSet): nothing,
		jobKey(api.ReadCatalog): local, key(api.StopReading): local, key(api.ListReachedPackages): nothing,

		key(api.ListRepositories): nothing, key(api.ListTags): nothing, key(api.GetImage): nothing, key(api.GetSignatures): nothing,
		key(api.PlanDelete): nothing, key(api.DeleteImage): content, key(api.GetUsage): nothing, key(api.ListInventory): nothing,

		key(api.BeginSync): content, key(api.CheckSync): nothing, key(api.ConfirmSync): staged, key(api.PutBlob): staged, key(api.WriteBlob): staged,
		key(api.PutManifest): staged, key(api.TagSync): staged, key(api.SetSources): staged, key(api.SetOrigins): staged,
		key(api.CommitSync): content, key(api.AbortSync): local, key(api.RollbackSync): own, key(api.SetWants): content,
		key(api.ListOrigins): nothing, key(api.ListNeeds): nothing, key(api.GetCatalog): nothing, key(api.ListPackages): nothing, key(api.GetPackage): nothing,
		key(api.ListSyncs): nothing, key(api.ListChanges): nothing,

		key(api.RegisterFollower): local, key(api.RemoveFollower): local,
		key(api.Follow): local, key(api.StopFollowing): local, jobKey(api.Promote): local,
	}
}

func key[Q, A any](c api.Call[Q, A]) string         { return c.Method + " " + c.Path }
func jobKey[Q, P, R any](j api.Job[Q, P, R]) string { return http.MethodPost + " " + j.Path }

// effectOf returns what a call changes.
func effectOf(c openapi.Call) effect {
	if c.Method == http.MethodGet {
		return nothing
	}
	return effects()[c.Method+" "+c.Path]
}

// permit refuses a call while the role of the appliance does, and otherwise has it end before the role changes.
func (h *Handler) permit(c openapi.Call, serve http.HandlerFunc) http.HandlerFunc {
	if h.family == nil {
		return serve
	}
	kind := effectOf(c)
	return func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch {
		case kind == content:
			within, leave, entered := h.family.Enter(r.Context())
			defer leave()
			r, err = r.WithContext(within), entered
		case kind == staged:
			err = h.family.Check(r.Context())
		case kind == accounts && h.family.Describe().Users:
			err = h.followedUsers()
		}
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		serve(w, r)
	}
}

func (h *Handler) followedUsers() error {
	f := h.family.Describe()
	return conflict("the users of this appliance are those of https://"+f.Follows+", which it follows",
		"change them there; if that is gone: appliance promote")
}

func (h *Handler) handleFamily() {
	handle(h, api.Follow, h.follow)
	handle(h, api.StopFollowing, h.stopFollowing)
	routeJob(h, api.Promote, func(w http.ResponseWriter, r *http.Request) {
		var q api.PromoteRequest
		err := h.hasFamily()
		if err == nil {
			err = decode(r, api.MaxJSON, &q)
		}
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		if h.family.Describe().Role != string(role.Primary) {
			h.audit(r, "promotion began", "force", q.Force)
		}
		h.serveJob(w, r, func(progress func(any)) (any, error) {
			result, err := h.family.Promote(r.Context(), q, func(p api.PromoteProgress) { progress(p) })
			if err == nil && !result.Already {
				h.audit(r, "promoted", "generation", result.Family.Generation, "forced", result.Forced)
			}
			return result, err
		})
	})
}

func (h *Handler) follow(r *http.Request, q api.FollowRequest) (api.Followed, error) {
	if err := h.hasFamily(); err != nil {
		return api.Followed{}, err
	}
	result, err := h.family.Follow(r.Context(), q)
	if err == nil && !q.DryRun {
		h.audit(r, "follows", "address", q.Address, "removes", result.Compared.Going, "first", result.Compared.First)
	}
	return result, err
}

func (h *Handler) stopFollowing(r *http.Request, _ api.None) (api.Family, error) {
	if err := h.hasFamily(); err != nil {
		return api.Family{}, err
	}
	was := h.family.Describe()
	now, err := h.family.Leave(r.Context())
	if err == nil {
		h.audit(r, "follows no more", "address", cmp.Or(was.Follows, was.Primary))
	}
	return now, err
}

// hasFamily returns an error if no daemon runs, whose work following is.
func (h *Handler) hasFamily() error {
	if h.family == nil || h.status == nil {
		return conflict("the registry is not running", "systemctl start appliance")
	}
	return nil
}

// refusedByRole reports whether an error is the role's.
func refusedByRole(err error) bool {
	return is[*role.ReadOnlyError](err) || is[*role.RefusedError](err)
}
