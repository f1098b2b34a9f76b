package console

import (
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// page is a path of the console.
type page struct {
	pattern string // of http.ServeMux
	action  auth.Action
	serve   func(v *visit) error
}

// pages lists the paths that need a login.
func pages() []page {
	return []page{
		{"GET /{$}", auth.Login, (*visit).home},
		{"GET /overview/live", auth.Administer, (*visit).overviewLive},
		{"POST " + logoutPath, auth.Login, (*visit).logout},

		{"GET " + pairPath, auth.Administer, (*visit).pair},
		{"GET " + pairPath + "/live", auth.Administer, (*visit).pairLive},
		{"GET " + pairPath + "/promote", auth.Administer, (*visit).askPromote},
		{"POST " + pairPath + "/promote", auth.Administer, (*visit).promote},
		{"GET " + pairPath + "/followers/{id}/remove", auth.Administer, (*visit).askForget},
		{"POST " + pairPath + "/followers/{id}/remove", auth.Administer, (*visit).forget},

		{"GET " + repositoriesPath, auth.Login, (*visit).repositories},
		{"GET " + repositoriesPath + "/{name...}", auth.Login, (*visit).repository},
		{"GET /images/delete", auth.Write, (*visit).askDeleteImage},
		{"POST /images/delete", auth.Write, (*visit).deleteImage},
		{"GET /images/signatures", auth.Login, (*visit).imageSignatures},
		{"GET /images/needs", auth.Write, (*visit).imageNeeds},

		{"GET /upstreams", auth.Administer, (*visit).upstreams},
		{"GET /upstreams/live", auth.Administer, (*visit).upstreamsLive},
		{"POST /upstreams/test", auth.Administer, (*visit).testUpstreams},
		{"POST /upstreams/link", auth.Administer, (*visit).setLink},

		{"GET /sync", auth.Administer, (*visit).sync},
		{"GET /sync/live", auth.Administer, (*visit).syncLive},
		{"POST /sync/run", auth.Administer, (*visit).runSync},
		{"POST /sync/stop", auth.Administer, (*visit).stopSync},
		{"GET /sync/set", auth.Administer, (*visit).syncSet},
		{"GET /sync/set/live", auth.Administer, (*visit).syncSetLive},
		{"GET /sync/report", auth.Administer, (*visit).syncReport},
		{"GET /sync/plan", auth.Administer, (*visit).syncPlan},
		{"GET /sync/plan/live", auth.Administer, (*visit).syncPlanLive},
		{"POST /sync/plan", auth.Administer, (*visit).makeSyncPlan},
		{"GET " + editPath, auth.Administer, (*visit).editSet},
		{"POST " + editPath, auth.Administer, (*visit).changeSet},
		{"GET " + editPath + "/live", auth.Administer, (*visit).draftLive},
		{"GET " + editPath + "/read/live", auth.Administer, (*visit).readLive},
		{"GET /sync/history", auth.Administer, (*visit).syncHistory},
		{"GET /sync/history/{id}", auth.Administer, (*visit).syncChanges},
		{"GET /sync/history/{id}/rollback", auth.Administer, (*visit).askRollback},
		{"POST /sync/history/{id}/rollback", auth.Administer, (*visit).rollback},
		{"GET /sync/misses", auth.Administer, (*visit).syncMisses},
		{"GET /sync/misses/image-set", auth.Administer, (*visit).missedImageSet},
		{"GET /sync/misses/clear", auth.Administer, (*visit).askClearMisses},
		{"POST /sync/misses/clear", auth.Administer, (*visit).clearMisses},

		{"GET " + updatesPath, auth.Administer, (*visit).updates},
		{"GET " + channelPath, auth.Administer, (*visit).channel},
		{"GET " + readyPath, auth.Administer, (*visit).ready},
		{"GET " + readyPath + "/live", auth.Administer, (*visit).readyLive},
		{"GET " + readyPath + "/image-set", auth.Administer, (*visit).readyImageSet},
		{"POST " + readyPath, auth.Administer, (*visit).beginReady},
		{"POST " + readyPath + "/stop", auth.Administer, (*visit).stopReady},
		{"GET " + clustersPath, auth.Administer, (*visit).clusters},
		{"GET " + clustersPath + "/{id}/detach", auth.Administer, (*visit).askDetach},
		{"POST " + clustersPath + "/{id}/detach", auth.Administer, (*visit).detach},

		{"GET " + catalogsPath, auth.Administer, (*visit).catalogs},
		{"GET " + catalogsPath + "/{name...}", auth.Administer, (*visit).catalog},

		{"GET " + storagePath, auth.Administer, (*visit).storage},
		{"GET /storage/live", auth.Administer, (*visit).storageLive},
		{"GET /storage/gc", auth.Administer, (*visit).askCollect},
		{"GET /storage/gc/live", auth.Administer, (*visit).collectLive},
		{"POST /storage/gc", auth.Administer, (*visit).collect},
		{"POST /storage/gc/plan", auth.Administer, (*visit).planCollection},
		{"POST /storage/scrub", auth.Administer, (*visit).scrub},
		{"POST /storage/verify", auth.Administer, (*visit).verify},
		{"GET /storage/damage", auth.Administer, (*visit).damage},

		{"GET /users", auth.Administer, (*visit).users},
		{"POST /users", auth.Administer, (*visit).createUser},
		{"GET /users/{name}", auth.Administer, (*visit).user},
		{"POST /users/{name}", auth.Administer, (*visit).changeUser},
		{"GET /users/{name}/delete", auth.Administer, (*visit).askDeleteUser},
		{"POST /users/{name}/delete", auth.Administer, (*visit).deleteUser},

		{"GET /certificates", auth.Administer, (*visit).certificates},
		{"POST /certificates/renew", auth.Administer, (*visit).renewCertificate},

		{"GET /cluster", auth.Login, (*visit).cluster},
		{"GET /cluster/files/{name...}", auth.Login, (*visit).clusterFile},

		{"GET /audit", auth.Administer, (*visit).audit},
		{"GET /audit/live", auth.Administer, (*visit).auditLive},
		{"GET /audit/download", auth.Administer, (*visit).auditDownload},

		{"GET /documentation", auth.Login, (*visit).documentation},
		{"GET /documentation/{file}", auth.Login, (*visit).document},
	}
}

// Patterns lists the paths that need a login, for what looks at each of them.
func Patterns() []string {
	var all []string
	for _, p := range pages() {
		all = append(all, p.pattern)
	}
	return all
}

// place is an entry of the navigation. Its text is nav.NAME.
type place struct {
	Name, Path, Icon string
	action           auth.Action
}

// places lists the navigation from top to bottom.
func places() []place {
	return []place{
		{"overview", "/", "fas fa-tachometer-alt", auth.Administer},
		{"repositories", repositoriesPath, "fas fa-layer-group", auth.Login},
		{"sync", "/sync", "fas fa-sync-alt", auth.Administer},
		{"updates", updatesPath, "fas fa-project-diagram", auth.Administer},
		{"catalogs", catalogsPath, "fas fa-book-open", auth.Administer},
		{"storage", storagePath, "fas fa-hdd", auth.Administer},
		{"pair", pairPath, "fas fa-clone", auth.Administer},
		{"upstreams", "/upstreams", "fas fa-cloud-download-alt", auth.Administer},
		{"users", "/users", "fas fa-users", auth.Administer},
		{"certificates", "/certificates", "fas fa-certificate", auth.Administer},
		{"cluster", "/cluster", "fas fa-server", auth.Login},
		{"audit", "/audit", "fas fa-history", auth.Administer},
		{"documentation", "/documentation", "fas fa-book", auth.Login},
	}
}

// page answers a path for users that are logged in and may do its action.
func (c *Console) page(p page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, ok, err := c.Sessions.Of(r)
		switch {
		case err != nil:
			c.Log.ErrorContext(r.Context(), "session could not be checked", "err", err)
			c.unchecked(w, r)
			return
		case !ok:
			c.down.Store(nil)
			c.toLogin(w, r)
			return
		}
		c.down.Store(nil)
		v := &visit{c: c, session: session}
		r = r.WithContext(client.WithRemote(session.With(r.Context()), r.RemoteAddr))
		c.Admit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v.w, v.r = w, r
			v.serve(p)
		})).ServeHTTP(w, r)
	})
}
