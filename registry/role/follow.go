package role

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

const (
	// maxSkew is by how much two clocks may differ without a warning.
	maxSkew = time.Minute
	// checkLimit bounds the questions to the appliance that is to be followed.
	checkLimit = 30 * time.Second
)

// Follow makes the appliance a follower. It refuses, before anything changes, an appliance that cannot be
// followed, and without force one that lacks what this one has.
func (f *Family) Follow(ctx context.Context, q api.FollowRequest) (api.Followed, error) {
	result := api.Followed{}
	if !f.acting.TryLock() {
		return result, errBusy
	}
	defer f.acting.Unlock()
	if err := f.Refresh(ctx); err != nil {
		return result, err
	}
	trust, err := Trust(q.CA)
	if err != nil {
		return result, err
	}
	c, err := client.Dial(limited(ctx, checkLimit), q.Address, q.User, q.Password, trust)
	if err != nil {
		return result, cannotFollow(q, err)
	}
	defer c.Close()
	status, err := c.Status(limited(ctx, checkLimit))
	if err != nil {
		return result, cannotFollow(q, err)
	}
	there := status.Family
	if err := f.mayFollow(q, status); err != nil {
		return result, err
	}
	if skew := f.Now().Sub(there.Now).Abs(); skew > maxSkew {
		result.Warnings = append(result.Warnings, fmt.Sprintf("the clocks of the two appliances differ by %s: have both follow a time server", skew.Round(time.Second)))
	}
	if result.Compared, err = f.Compare(ctx, q); err != nil {
		return result, fmt.Errorf("compare with https://%s: %w", q.Address, err)
	}
	if q.DryRun {
		result.Family = f.Describe()
		return result, nil
	}
	if n := result.Compared.Going; n > 0 && !q.Force && !f.copies(there.ID) {
		return result, refused("see all of it with --dry-run; push what is to stay to https://"+q.Address+", or have it removed here with --force",
			"this appliance has %d tags and images that https://%s does not have, or has otherwise, such as %s", n, q.Address, result.Compared.First[0])
	}
	first := First{Peer: Peer{ID: there.ID, Address: q.Address, CA: q.CA, Token: f.tokenFor(ctx, there.ID)}, User: q.User, Password: q.Password, Users: q.Users, Above: there.Above}
	if f.Register != nil {
		if err := f.Register(limited(ctx, checkLimit), c, first); err != nil {
			return result, cannotFollow(q, err)
		}
	}
	before := f.State().First
	if err := f.follow(ctx, first, *there); err != nil {
		return result, err
	}
	if before != nil && before.ID != first.ID {
		if err := f.unregister(limited(ctx, talkLimit), *before); err != nil {
			result.Warnings = append(result.Warnings, fmt.Sprintf("https://%s, which this appliance followed before, could not be told that it lost a follower: %s; once it runs, type on its host: appliance forget https://%s",
				before.Address, err, f.Address))
		}
	}
	f.hasten()
	result.Family = f.Describe()
	return result, nil
}

// copies reports whether this is a copy of an appliance already: then it has nothing of its own, and what the other
// lacks was removed there.
func (f *Family) copies(id string) bool {
	s := f.State()
	return s.First != nil && s.First.ID == id
}

// tokenFor returns the token that another appliance and this one know each other by.
func (f *Family) tokenFor(ctx context.Context, id string) string {
	for _, p := range f.others(ctx) {
		if p.ID == id && p.Token != "" {
			return p.Token
		}
	}
	return rand.Text()
}

// mayFollow returns an error for an appliance that cannot be followed.
func (f *Family) mayFollow(q api.FollowRequest, status api.Status) error {
	s, there := f.State(), status.Family
	switch {
	case there == nil:
		return refused("upgrade it first: appliance upgrade on its host", "https://%s is an appliance of version %s, which cannot be followed", q.Address, status.Version)
	case there.ID == s.ID:
		return refused("name the other appliance; one that was restored from a backup of this one is the same to all others", "https://%s is this appliance itself", q.Address)
	case slices.Contains(there.Above, s.ID):
		return refused("promote one of the two first: appliance promote", "https://%s follows this appliance", q.Address)
	case Role(there.Role) == Superseded:
		return refused("follow that: "+api.FollowCommand(there.Primary), "https://%s is superseded by https://%s", q.Address, there.Primary)
	case there.Lineage == s.Lineage && there.Generation < s.Known.Generation:
		return refused("have it follow the newer one; or, to go back to its content, promote it first: appliance promote --force on its host",
			"https://%s does not know yet that https://%s has taken its place", q.Address, s.Known.Address)
	}
	return nil
}

// cannotFollow explains why an appliance could not be asked.
func cannotFollow(q api.FollowRequest, err error) error {
	var answer *client.Refused
	switch {
	case errors.As(err, &answer) && answer.Status == http.StatusUnauthorized:
		return refused("write user:password of an administrator of that appliance into the file of --credentials", "https://%s does not accept the login of user %s", q.Address, q.User)
	case errors.As(err, &answer) && answer.Status == http.StatusForbidden:
		return refused("name a user of role admin: appliance user role "+q.User+" admin, on its host", "user %s of https://%s is no administrator", q.User, q.Address)
	case errors.As(err, new(*client.NotApplianceError)):
		return refused("check the address and the port", "https://%s is no appliance: %s", q.Address, err)
	}
	if client.Untrusted(err) {
		return refused("name its CA with --ca: it is at https://"+q.Address+"/ca.crt, and on its host in quay-rootCA/rootCA.pem", "the certificate of https://%s cannot be verified: %s", q.Address, err)
	}
	return hint.New(fmt.Errorf("reach https://%s: %w", q.Address, err), "check the name, the port, and that it runs")
}

// follow makes the appliance a follower, after the changes under way have ended.
func (f *Family) follow(ctx context.Context, first First, there api.Family) error {
	f.turning.Lock()
	defer f.turning.Unlock()
	return f.turn(context.WithoutCancel(ctx), func(n *State) {
		if n.Lineage != there.Lineage {
			n.Lineage, n.Peers, n.Known = there.Lineage, nil, Term{}
		}
		n.Peers = slices.DeleteFunc(n.Peers, func(p Peer) bool { return p.ID == first.ID })
		if known := (Term{Generation: there.Generation, ID: there.PrimaryID, Address: there.Primary}); known.After(n.Known) {
			n.Known = known
		}
		n.Role, n.First = Follower, &first
	})
}

// Leave makes a follower an appliance of its own: with what it has, and of another family, so that the
// one that it has followed stays the primary of its own. A superseded appliance leaves only if the one that has
// taken its place does not know it any more, which it can neither follow nor replace then without a login.
func (f *Family) Leave(ctx context.Context) (api.Family, error) {
	if !f.acting.TryLock() {
		return api.Family{}, errBusy
	}
	defer f.acting.Unlock()
	if err := f.Refresh(ctx); err != nil {
		return api.Family{}, err
	}
	s := f.State()
	if s.Role != Follower && !s.stranger() {
		return api.Family{}, refused("appliance status shows the role", "this appliance follows no other")
	}
	if s.First != nil {
		if err := f.unregister(ctx, *s.First); err != nil { // it forgets a follower that does not come any more
			f.Log.WarnContext(ctx, "the appliance that was followed could not be told", "address", s.First.Address, "error", err)
		}
	}
	f.turning.Lock()
	defer f.turning.Unlock()
	err := f.turn(context.WithoutCancel(ctx), func(n *State) {
		n.Lineage, n.Role, n.First, n.Peers = rand.Text(), Primary, nil, nil
		n.Known = Term{1, n.ID, f.Address}
	})
	return f.Describe(), err
}

// unregister has an appliance forget this one as its follower, if it knows it as that.
func (f *Family) unregister(ctx context.Context, first First) error {
	if f.Unregister == nil {
		return nil
	}
	err := f.Unregister(ctx, first)
	var answer *client.Refused
	if errors.As(err, &answer) && answer.Status == http.StatusNotFound {
		return nil
	}
	return err
}

func limited(ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
