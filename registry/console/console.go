// Package console serves the web console: pages for people who would rather look than type.
//
// Each page is a line of the table in pages.go: a pattern, what its user must be allowed, and a method
// of [visit], which has the session, the control API as that user, and what writes a page or a part
// of one. Pages do nothing by themselves: each action is a call of package api, which package admin
// answers in this process by the same rules as for any other client. Templates are in templates/, one
// file a page, their texts in text/en, and what is PatternFly's and htmx's in static/, which
// `make console` builds of web/.
//
// A framework in the browser was refused: what moves are parts of pages that the server renders,
// which htmx fetches and server-sent events bring. Forms and links work without any script.
package console

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// Options are what a console shows and acts on.
type Options struct {
	Sessions *auth.Sessions
	// API answers the control API for the user in the context of a request, and refuses what that
	// user may not do.
	API http.Handler
	// Admit counts a request as one of its user, and answers those beyond the limit.
	Admit   func(next http.Handler) http.Handler
	Address string          // host:port as clients reach the registry
	Drain   context.Context // ends when what moves in open pages has to end
	Log     *slog.Logger
}

// Console answers the paths of the console.
type Console struct {
	Options
	api    *client.Client
	views  *views
	files  *files
	routes *http.ServeMux

	down atomic.Pointer[time.Time] // since when logins cannot be checked; nil: the last one could be
}

// New returns a Console. It fails if a text of the program is wrong, or a template that all pages have.
func New(o Options) (*Console, error) {
	files, err := openStatic()
	if err != nil {
		return nil, err
	}
	views, err := parseViews(files)
	if err != nil {
		return nil, err
	}
	c := &Console{Options: o, api: client.NewInside(o.API), views: views, files: files, routes: http.NewServeMux()}
	c.routes.Handle("GET "+staticPath, files)
	c.routes.HandleFunc("GET /login", c.showLogin)
	c.routes.HandleFunc("POST /login", c.login)
	for _, p := range pages() {
		c.routes.Handle(p.pattern, c.page(p))
	}
	c.routes.Handle("/", c.other(c.page(page{action: auth.Login, serve: (*visit).notFound})))
	return c, nil
}

// other answers paths that there are not: to users as a page, and to others, which may be no browsers,
// not by leading them to a login.
func (c *Console) other(page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok, err := c.Sessions.Peek(r); err != nil || !ok {
			http.Error(w, c.views.text("error.nothing", c.Address), http.StatusNotFound)
			return
		}
		page.ServeHTTP(w, r)
	})
}

// ServeHTTP answers one request.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	c.routes.ServeHTTP(w, r)
}

// protect sets what keeps a page from being framed, from running what is not ours, and from being kept.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "+
		"img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}
