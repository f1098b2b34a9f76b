package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// doctor returns what a status tells.
func doctor(s api.Status) string {
	var told []string
	s.Examine(time.Now(), func(f finding.Finding) { told = append(told, fmt.Sprint(f)) })
	return strings.Join(told, "\n")
}

// A follower that was removed at the first, with its login.
func TestPair_removed(t *testing.T) {
	first, second := newOne(t), newOne(t)
	must(t, first.push(t, "app:v1"))
	_, err := first.admin.CreateUser(t.Context(), api.NewUser{Name: "copier", Role: "admin", Password: password})
	must(t, err)
	q := first.asks(t)
	q.User = "copier"
	_, err = second.admin.Follow(t.Context(), q)
	must(t, err)
	id := second.await(t, func(s api.Status) bool { return s.Following != nil && s.Following.CaughtUp }).Family.ID
	must(t, first.admin.DeleteUser(t.Context(), "copier"))
	must(t, first.admin.RemoveFollower(t.Context(), id))
	commands := []string{"appliance follow https://" + first.address() + " --credentials FILE --ca FILE", "appliance follow --stop"}
	t.Run("it is not promoted", func(t *testing.T) {
		for _, force := range []bool{false, true} {
			_, err := second.admin.Promote(t.Context(), api.PromoteRequest{Force: force}, nil)
			var answer *client.Refused
			if !errors.As(err, &answer) || !strings.Contains(err.Error(), "does not know this appliance as its follower") || !strings.Contains(answer.Hint(), commands[0]) || !strings.Contains(answer.Hint(), commands[1]) {
				t.Errorf("with force %t: %v", force, err)
			}
		}
		second.mustBe(t, "follower")
	})
	t.Run("it says so", func(t *testing.T) {
		must(t, first.push(t, "app:v2")) // which ends the wait for a change
		s := second.await(t, func(s api.Status) bool {
			return s.Following != nil && strings.Contains(s.Following.Error, "does not accept the login of user copier any more")
		})
		if next := s.Following.Hint; !strings.Contains(next, commands[0]) || !strings.Contains(next, commands[1]) {
			t.Errorf("what to do about the login is %q", next)
		}
		all := doctor(s)
		for _, want := range append(commands, "removed at https://"+first.address()) {
			if !s.Family.Removed || !strings.Contains(all, want) {
				t.Errorf("doctor lacks %q:\n%s", want, all)
			}
		}
		second.logIn(t, "admin").shows(t, "/pair", http.StatusOK, "removed at https://"+first.address(), commands[0], commands[1])
	})
	first.end(t)
	_, err = second.admin.Promote(t.Context(), api.PromoteRequest{Force: true}, nil)
	must(t, err)
	first.again(t)
	must(t, first.push(t, "late:v1"))
	before := second.log // where it may have asked already
	second.end(t)
	second.again(t) // which asks the first at once
	again := "appliance follow https://" + second.address() + " --credentials FILE --ca FILE"
	t.Run("what was not told since it could not be reached", func(t *testing.T) {
		s := second.await(t, func(s api.Status) bool { return slices.Equal(s.Family.Strangers, []string{first.address()}) })
		for _, want := range []string{again, "may take changes"} {
			if all := doctor(s); !strings.Contains(all, want) {
				t.Errorf("doctor lacks %q:\n%s", want, all)
			}
		}
		second.logIn(t, "admin").shows(t, "/pair", http.StatusOK, "may take changes", again)
		if log := before.String() + second.log.String(); !strings.Contains(log, "may take changes") || !strings.Contains(log, again) {
			t.Errorf("the log has\n%s", log)
		}
	})
	t.Run("the first follows, and both are promoted", func(t *testing.T) {
		q := second.asks(t)
		q.Force = true
		_, err := first.admin.Follow(t.Context(), q)
		must(t, err)
		second.await(t, func(s api.Status) bool { return len(s.Family.Untold) == 0 })
		first.await(t, func(s api.Status) bool { return s.Following != nil && s.Following.CaughtUp })
		for _, o := range []*one{first, second} {
			other := map[*one]*one{first: second, second: first}[o]
			done, err := o.admin.Promote(t.Context(), api.PromoteRequest{}, nil)
			must(t, err)
			if done.Forced != "" || len(done.Family.Untold) > 0 {
				t.Errorf("promoted: %+v", done)
			}
			other.mustBe(t, "superseded")
			other.follows(t, o)
		}
	})
	t.Run("a repeated promotion changes nothing", func(t *testing.T) {
		promotions := func() (n int) {
			for _, line := range second.audited(t, api.AuditRequest{}) {
				if strings.Contains(line, "promot") {
					n++
				}
			}
			return n
		}
		before := promotions()
		done, err := second.admin.Promote(t.Context(), api.PromoteRequest{Force: true}, nil)
		must(t, err)
		if after := promotions(); !done.Already || before == 0 || after != before {
			t.Errorf("the audit has %d lines of promotions, and %d before: %+v", after, before, done)
		}
	})
}
