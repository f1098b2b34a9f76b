package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/openapi"
	"github.com/mirror-appliance/appliance/registry/role"
)

// Each call that is not a GET has its place in the table.
func TestEffects_haveEachCall(t *testing.T) {
	h := NewHandler(Options{})
	known, declared := effects(), map[string]bool{}
	for _, c := range h.calls {
		if c.Method == http.MethodGet {
			continue
		}
		name := c.Method + " " + c.Path
		declared[name] = true
		if _, ok := known[name]; !ok {
			t.Errorf("%s changes what? Say it in effects", name)
		}
	}
	for name := range known {
		if !declared[name] {
			t.Errorf("effects has %s, and there is no such call", name)
		}
	}
}

// given is a family with a refusal, or without one.
type given struct {
	Family
	refusal       error
	users         bool
	entered, left int
}

func (r *given) Check(context.Context) error { return r.refusal }

func (r *given) Enter(ctx context.Context) (context.Context, func(), error) {
	if r.refusal != nil {
		return ctx, func() {}, r.refusal
	}
	r.entered++
	return ctx, func() { r.left++ }, nil
}

func (r *given) Describe() api.Family { return api.Family{Users: r.users, Follows: "first:8443"} }

func TestHandler_permit(t *testing.T) {
	follower := &role.ReadOnlyError{Role: role.Follower, First: "first:8443"}
	for _, tc := range []struct {
		name             string
		kind             effect
		primary, follows bool // whether it is answered
		enters           int
	}{
		{"content", content, true, false, 1},
		{"staged", staged, true, false, 0},
		{"accounts", accounts, true, true, 0},
		{"local", local, true, true, 0},
		{"nothing", nothing, true, true, 0},
		{"own", own, true, true, 0},
	} {
		call := openapi.Call{Method: http.MethodPost, Path: callOf(t, tc.kind)}
		for _, now := range []struct {
			name   string
			family *given
			want   bool
		}{{"primary", &given{}, tc.primary}, {"follower", &given{refusal: follower}, tc.follows}} {
			t.Run(tc.name+" at a "+now.name, func(t *testing.T) {
				h := &Handler{family: now.family}
				answered := false
				serve := h.permit(call, func(w http.ResponseWriter, _ *http.Request) { answered = true })
				w := httptest.NewRecorder()
				serve(w, httptest.NewRequest(call.Method, call.Path, http.NoBody))
				if answered != now.want {
					t.Errorf("answered: %t", answered)
				}
				if body := w.Body.String(); !now.want && (w.Code != http.StatusConflict || !strings.Contains(body, "follows https://first:8443") || !strings.Contains(body, "appliance promote")) {
					t.Errorf("refused with %d %s", w.Code, body)
				}
				if e := now.family; now.want && e.entered != tc.enters || e.left != e.entered {
					t.Errorf("entered %d times, left %d", e.entered, e.left)
				}
			})
		}
	}
	t.Run("accounts of a follower that has those of the first", func(t *testing.T) {
		h := &Handler{family: &given{refusal: follower, users: true}}
		w := httptest.NewRecorder()
		h.permit(openapi.CallOf(api.CreateUser), nil)(w, httptest.NewRequest(http.MethodPost, api.CreateUser.Path, http.NoBody))
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "first:8443") {
			t.Errorf("answered %d %s", w.Code, w.Body)
		}
	})
	t.Run("a call without a place in the table", func(t *testing.T) {
		if effectOf(openapi.Call{Method: http.MethodPost, Path: "/api/v1/new"}) != content {
			t.Error("it is not refused")
		}
	})
}

// callOf returns the path of a POST of a kind.
func callOf(t *testing.T, kind effect) string {
	for name, of := range effects() {
		if path, ok := strings.CutPrefix(name, "POST "); ok && of == kind {
			return path
		}
	}
	t.Fatalf("no call is %d", kind)
	return ""
}
