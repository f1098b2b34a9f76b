package registry_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// tags returns the digest of each tag.
func (o *one) tags(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, o.admin.Inventory(t.Context(), func(part api.Inventory) {
		for _, tag := range part.Tags {
			all[tag.Repository+":"+tag.Tag] = string(tag.Digest)
		}
	}))
	return all
}

// gets waits until a push at another appliance shows here, and checks that it is whole.
func (o *one) gets(t *testing.T, from *one, at string) {
	t.Helper()
	img, err := random.Image(64<<10, 3)
	must(t, err)
	must(t, remote.Write(from.ref(t, at), img, from.remote(t, "push", password)...))
	o.await(t, func(api.Status) bool { return o.has(t, at) })
	back, err := remote.Image(o.ref(t, at), o.remote(t, "pull", password)...)
	must(t, err)
	must(t, validate.Image(back))
	sameDigest(t, back, img)
}

// A follower of a follower gets what comes to the first. It goes on as it is when the one that it follows takes the place
// of the first, and so when the first comes back and follows that.
func TestPair_chain(t *testing.T) {
	a, b, c := newOne(t), newOne(t), newOne(t)
	b.follows(t, a)
	c.follows(t, b)
	c.gets(t, a, "app:v1")
	b.end(t)
	must(t, a.push(t, "late:v1"))
	s := c.await(t, func(s api.Status) bool { return !s.Following.Connected })
	if all, want := doctor(s), "if it is gone, follow the primary: appliance follow https://"+a.address()+" --credentials FILE"; !strings.Contains(all, want) {
		t.Errorf("while the one between is gone, doctor lacks %q:\n%s", want, all)
	}
	a.end(t)
	b.again(t)
	_, err := b.admin.Promote(t.Context(), api.PromoteRequest{Force: true}, nil)
	must(t, err)
	c.gets(t, b, "app:v2")
	c.refuses(t, "this appliance follows https://"+b.address()+" and is read-only")
	s = c.await(t, func(s api.Status) bool { return s.Family.Primary == b.address() })
	if text, next := s.Family.Summary(); next != "" || s.Following.Error != "" {
		t.Errorf("the follower of the new primary tells %s, next %s, and %+v", text, next, s.Following)
	}
	a.again(t)
	a.refuses(t, "https://"+b.address()+" has taken its place")
	_, err = a.admin.Follow(t.Context(), b.asks(t))
	if err == nil || !strings.Contains(err.Error(), "late:v1") {
		t.Fatalf("without force it follows: %v", err)
	}
	q := b.asks(t)
	q.Force = true
	_, err = a.admin.Follow(t.Context(), q)
	must(t, err)
	a.gets(t, b, "app:v3")
	c.await(t, func(s api.Status) bool { return c.has(t, "app:v3") && s.Following.CaughtUp })
	for name, o := range map[string]*one{"first": a, "follower of the follower": c} {
		o.mustBe(t, "follower")
		if want, got := b.tags(t), o.tags(t); len(want) != 3 || !maps.Equal(want, got) {
			t.Errorf("the former %s has %v, want %v", name, got, want)
		}
	}
	if followers, err := b.admin.Followers(t.Context()); err != nil || len(followers) != 2 {
		t.Errorf("the new primary has the followers %+v, %v", followers, err)
	}
	if log := fmt.Sprint(c.log); strings.Count(log, "the first lists all that it has") != 1 || strings.Contains(log, "appliance follow") {
		t.Errorf("the follower of the follower has listed all again, or tells what to type:\n%s", log)
	}
}
