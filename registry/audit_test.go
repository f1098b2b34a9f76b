package registry_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// audited returns a part of the audit as text, the newest first.
func (r *running) audited(t *testing.T, q api.AuditRequest) (all []string) {
	t.Helper()
	page, err := r.admin.Audit(t.Context(), q)
	must(t, err)
	for _, a := range page.Records {
		line := a.Kind + ": " + a.User + " " + a.Event + " " + a.Outcome
		for _, key := range []string{"repository", "tags", "name", "offline", "path"} {
			if text, ok := a.Details[key]; ok {
				line += " " + key + "=" + text
			}
		}
		all = append(all, line)
	}
	return all
}

func TestRun_audit(t *testing.T) {
	r := start(t)
	img, err := random.Image(64, 1)
	must(t, err)
	must(t, remote.Write(tag(t, "a/b:v1"), img, r.remote(t, "push", password)...))
	r.as(t, "stranger", http.MethodGet, "/v2/")
	r.as(t, "pull", http.MethodGet, "/api/v1/status")
	must(t, remote.Delete(tag(t, "a/b:v1"), r.remote(t, "push", password)...))
	_, err = r.admin.SetOffline(t.Context(), true)
	must(t, err)
	want := strings.Join([]string{
		"administration: local link set done offline=true", "content: push delete tag done repository=a/b tags=v1",
		"access: pull refused refused path=/api/v1/status", "access: stranger login failed refused path=/v2/",
		"content: push push done repository=a/b tags=v1", "administration: local user created done name=pull",
		"administration: local user created done name=push", "administration: local user created done name=admin",
	}, "\n")
	if got := strings.Join(r.audited(t, api.AuditRequest{}), "\n"); got != want {
		t.Errorf("the audit is\n%s\nwant\n%s", got, want)
	}
	page, err := r.admin.Audit(t.Context(), api.AuditRequest{Kind: api.AuditContent, Limit: 1})
	must(t, err)
	if len(page.Records) != 1 || page.Next == 0 || !strings.HasPrefix(page.Records[0].Remote, "127.0.0.1:") {
		t.Errorf("%+v", page)
	}
	for _, user := range []string{"pull", "push"} {
		if code, body := r.as(t, user, http.MethodPost, "/api/v1/audit"); code != http.StatusForbidden {
			t.Errorf("%s: %d %s", user, code, body)
		}
	}
	if _, err := r.admin.Audit(t.Context(), api.AuditRequest{Limit: 1001}); err == nil {
		t.Error("an answer without a bound")
	}
	if code, body := r.as(t, "admin", http.MethodGet, "/metrics"); code != http.StatusOK || !strings.Contains(body, "appliance_audit_lost_total 0\n") {
		t.Errorf("metrics: %d", code)
	}

	// What waits for its transaction is written when the daemon ends.
	r.as(t, "stranger", http.MethodGet, "/v2/")
	r = r.restart(t)
	if got := r.audited(t, api.AuditRequest{Limit: 1}); len(got) != 1 || got[0] != "access: stranger login failed refused path=/v2/" {
		t.Errorf("after a restart the newest is %q", got)
	}
}
