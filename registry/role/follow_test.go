package role_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/role"
)

func TestFamily_Follow_refused(t *testing.T) {
	older, superseded, newer := newAppliance(t), newAppliance(t), newAppliance(t)
	older.version = "v0.9"
	newer.follows(superseded)
	_, err := newer.promote(false)
	must(t, err)
	for _, tc := range []struct {
		name          string
		ask           func(a *appliance) api.FollowRequest
		problem, hint string
	}{
		{"itself", func(a *appliance) api.FollowRequest { return request(a) }, "is this appliance itself", "the other appliance"},
		{"one that follows it", func(a *appliance) api.FollowRequest {
			b := newAppliance(t)
			b.follows(a)
			return request(b)
		}, "follows this appliance", "appliance promote"},
		{"one that follows a follower of it", func(a *appliance) api.FollowRequest {
			b, c := newAppliance(t), newAppliance(t)
			b.follows(a)
			c.follows(b)
			return request(c)
		}, "follows this appliance", "appliance promote"},
		{"with a wrong password", func(*appliance) api.FollowRequest {
			q := request(superseded)
			q.Password = "another-one"
			return q
		}, "does not accept the login of user admin", "--credentials"},
		{"as a user who is no administrator", func(*appliance) api.FollowRequest {
			q := request(superseded)
			q.User = "push"
			return q
		}, "user push of https://" + superseded.address() + " is no administrator", "appliance user role push admin"},
		{"with the CA of another", func(*appliance) api.FollowRequest {
			q := request(superseded)
			q.CA = otherCA
			return q
		}, "the certificate of https://" + superseded.address() + " cannot be verified", "--ca"},
		{"with a CA that is none", func(*appliance) api.FollowRequest {
			q := request(superseded)
			q.CA = "none"
			return q
		}, "no certificate in PEM", "/ca.crt"},
		{"an older one", func(*appliance) api.FollowRequest { return request(older) }, "of version v0, which cannot be followed", "appliance upgrade"},
		{"one that was superseded", func(*appliance) api.FollowRequest { return request(superseded) }, "is superseded by https://" + newer.address(), "appliance follow https://" + newer.address() + " --credentials FILE --ca FILE"},
		{"one that is not there", func(*appliance) api.FollowRequest {
			q := request(superseded)
			q.Address = "127.0.0.1:1"
			return q
		}, "127.0.0.1:1", "that it runs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAppliance(t)
			_, err := a.Follow(t.Context(), tc.ask(a))
			if err == nil || !strings.Contains(err.Error(), tc.problem) || !strings.Contains(hint.Of(err), tc.hint) {
				t.Errorf("error is %v, hint %s", err, hint.Of(err))
			}
			if err != nil && strings.Contains(err.Error()+hint.Of(err), password) {
				t.Errorf("the password is shown: %v", err)
			}
			a.mustBe(role.Primary)
		})
	}
}

func TestFamily_Follow_otherContent(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.going = []string{"app:v1", "app:v2"}
	q := request(first)
	q.DryRun = true
	plan, err := second.Follow(t.Context(), q)
	must(t, err)
	if plan.Compared.Going != 2 || plan.Compared.First[0] != "app:v1" {
		t.Errorf("the plan: %+v", plan)
	}
	second.mustBe(role.Primary)
	q.DryRun = false
	if _, err = second.Follow(t.Context(), q); err == nil || !strings.Contains(err.Error(), "2 tags and images") || !strings.Contains(err.Error(), "app:v1") {
		t.Errorf("without force: %v", err)
	}
	second.mustBe(role.Primary)
	q.Force = true
	_, err = second.Follow(t.Context(), q)
	must(t, err)
	second.mustBe(role.Follower)
	if s := second.State(); s.Lineage != first.State().Lineage || s.Known.Address != first.address() {
		t.Errorf("the state: %+v", s)
	}
	second.restart()
	second.mustBe(role.Follower)
	err = second.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "follows https://"+first.address()) || !strings.Contains(hint.Of(err), "appliance promote") {
		t.Errorf("a change is refused with %v, hint %s", err, hint.Of(err))
	}
	if log := second.log.String(); strings.Contains(log, password) || strings.Contains(log, second.State().First.Token) {
		t.Errorf("the log has a secret: %s", log)
	}
}

func TestFamily_Leave(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	if _, err := second.Leave(t.Context()); err == nil {
		t.Error("it follows none, and leaves one")
	}
	second.follows(first)
	_, err := second.Leave(t.Context())
	must(t, err)
	second.mustBe(role.Primary)
	first.talk()
	second.talk()
	must(t, first.Check(t.Context()))
	must(t, second.Check(t.Context()))
	first.mustBe(role.Primary)
	if first.State().Lineage == second.State().Lineage {
		t.Error("they are of one family still")
	}
}

// A follower of a follower hears of the family that its first has joined.
func TestFamily_Follow_chain(t *testing.T) {
	a, b, c := newAppliance(t), newAppliance(t), newAppliance(t)
	c.follows(b)
	b.follows(a)
	c.talk()
	_ = c.Check(t.Context())
	if s := c.State(); s.Lineage != a.State().Lineage || s.Known.ID != a.State().ID || len(s.First.Above) != 1 {
		t.Errorf("the follower of the follower: %+v, %+v", s, s.First)
	}
	_, err := b.promote(false)
	must(t, err)
	c.restart()
	c.talk()
	_ = c.Check(t.Context())
	if s := c.State(); s.Known.ID != b.State().ID || s.Role != role.Follower {
		t.Errorf("after the promotion: %+v", s)
	}
}

// An appliance that is killed before or after it has written whom it follows is one or the other after a restart,
// and repeating the command completes it.
func TestFamily_Follow_killed(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("after the write: ", after), func(t *testing.T) {
			first, second := newAppliance(t), newAppliance(t)
			second.notes.mu.Lock()
			second.notes.at, second.notes.after = second.notes.writes+1, after
			second.notes.mu.Unlock()
			if _, err := second.Follow(t.Context(), request(first)); err == nil || !second.notes.killed() {
				t.Fatalf("it writes nothing, and ends with %v", err)
			}
			second.restart()
			want := role.Primary
			if after {
				want = role.Follower
			}
			second.mustBe(want)
			first.mustBe(role.Primary)
			second.follows(first)
			second.mustBe(role.Follower)
			_, err := second.promote(false)
			must(t, err)
			first.mustBe(role.Superseded)
		})
	}
}
