package registry_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// newCA gives an appliance, which does not run, another CA and a certificate of that.
func (o *one) newCA(t *testing.T) {
	t.Helper()
	ca, err := tlsgen.CreateCA("another", time.Now())
	must(t, err)
	must(t, os.WriteFile(o.cfg.TLS.CA, ca.CertPEM(), 0o644))
	must(t, os.WriteFile(o.cfg.TLS.CAKey, ca.KeyPEM(), 0o600))
	must(t, os.RemoveAll(o.cfg.TLS.Certificate)) // which the start issues
	must(t, os.RemoveAll(o.cfg.TLS.Key))
	o.roots = ca.Pool()
}

// A follower that the first has shut out, by another CA or another password, tells what to type. Then it goes on from
// where it was: without a list of everything, and without --force for what the first has removed meanwhile.
func TestPair_followsAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		change                  func(t *testing.T, first *one)
		password, problem, flag string
	}{
		"another CA": {func(t *testing.T, first *one) {
			first.end(t)
			first.newCA(t)
			first.again(t)
		}, password, "cannot be verified", " --ca FILE"},
		"another password": {func(t *testing.T, first *one) {
			_, err := first.admin.ChangeUser(t.Context(), "admin", api.UserChange{Password: "changed-since"})
			must(t, err)
		}, "changed-since", "does not accept the login of user admin any more", ""},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := newOne(t), newOne(t)
			must(t, first.push(t, "app:v1"))
			must(t, first.push(t, "stays:v1"))
			second.follows(t, first)
			tc.change(t, first)
			must(t, remote.Delete(first.ref(t, "app:v1"), first.remote(t, "push", password)...))
			must(t, first.push(t, "app:v2"))
			s := second.await(t, func(s api.Status) bool { return s.Following != nil && strings.Contains(s.Following.Error, tc.problem) })
			command := "appliance follow https://" + first.address() + " --credentials FILE" + tc.flag
			if !strings.Contains(s.Following.Hint, command) {
				t.Errorf("the hint is %s", s.Following.Hint)
			}
			if !second.has(t, "stays:v1") {
				t.Error("it serves no pulls")
			}
			if _, err := second.admin.Promote(t.Context(), api.PromoteRequest{}, nil); err == nil || !strings.Contains(hint.Of(err), command) {
				t.Errorf("its promotion ends with %v, hint %s", err, hint.Of(err))
			}
			q := first.asks(t)
			q.Password = tc.password
			_, err := second.admin.Follow(t.Context(), q)
			must(t, err)
			second.await(t, func(s api.Status) bool { return s.Following != nil && s.Following.CaughtUp && second.has(t, "app:v2") })
			if second.has(t, "app:v1") {
				t.Error("it has what the first has removed")
			}
			if n := strings.Count(second.log.String(), "the first lists all that it has"); n != 1 {
				t.Errorf("everything was listed %d times", n)
			}
		})
	}
}
