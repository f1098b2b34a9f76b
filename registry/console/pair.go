package console

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

const pairPath = "/pair"

// pairPage is what the appliance is among those with the same content, and how far its followers are.
type pairPage struct {
	Family    api.Family
	Following *api.Following // nil unless it is a follower
	Followers []api.Follower
	Follow    string // the command that makes another appliance a copy of this one
}

// Role describes the role of the appliance.
func (p pairPage) Role() string {
	text, _ := p.Family.Summary()
	return text
}

// Next is what to type where something is to be done.
func (p pairPage) Next() string {
	_, next := p.Family.Summary()
	return next
}

// AtRest lists what rests.
func (pairPage) AtRest() string { return api.AtRest }

func (v *visit) pair() error {
	p, err := v.family()
	if err != nil {
		return err
	}
	return v.show("pair", "pair", "pair.title", p)
}

func (v *visit) pairLive() error {
	return v.live("pair", "pair-now", func() (any, error) { return v.family() })
}

func (v *visit) family() (p pairPage, err error) {
	status, err := v.c.api.Status(v.r.Context())
	if err != nil {
		return p, err
	}
	p.Family, p.Following = *status.Family, status.Following
	p.Followers, err = v.c.api.Followers(v.r.Context())
	p.Follow = "appliance follow https://" + status.Address + " --credentials FILE --ca FILE"
	return p, err
}

// promotePage asks whether the appliance is to take changes, and has what that means.
type promotePage struct {
	pairPage
	CSRF    string
	Refused *problem // of the attempt before
}

func (v *visit) askPromote() error {
	return v.showPromote(http.StatusOK, nil)
}

func (v *visit) showPromote(status int, refused *problem) error {
	p, err := v.family()
	if err != nil {
		return err
	}
	return v.write(status, "pair-promote", "pair", "pair.promote.title", promotePage{p, v.session.CSRF, refused})
}

// promoteTakes bounds a promotion, in which the primary waits for changes under way.
const promoteTakes = 10 * time.Minute

// promote goes on when the browser is closed: a primary that has given way without another would leave none.
func (v *visit) promote() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.r.Context()), promoteTakes)
	defer cancel()
	done, err := v.c.api.Promote(ctx, api.PromoteRequest{Force: v.field("force") != ""}, func(api.PromoteProgress) {})
	switch {
	case err != nil:
		refused := problemOf(err)
		return v.showPromote(statusOf(err), &refused)
	case done.Already:
		return v.done(pairPath, v.c.views.text("pair.promote.already"))
	case done.Forced != "":
		return v.done(pairPath, v.c.views.text("pair.promote.forced", done.Forced))
	}
	return v.done(pairPath, v.c.views.text("pair.promote.done"))
}

// forgetPage asks whether a follower is to be forgotten.
type forgetPage struct {
	CSRF     string
	Follower api.Follower
}

// follower returns the follower that the path names by its id.
func (v *visit) follower() (api.Follower, error) {
	id := v.r.PathValue("id")
	all, err := v.c.api.Followers(v.r.Context())
	if err != nil {
		return api.Follower{}, err
	}
	i := slices.IndexFunc(all, func(f api.Follower) bool { return f.ID == id })
	if i < 0 {
		return api.Follower{}, &client.Refused{Status: http.StatusNotFound, Refusal: api.Refusal{
			Problem: v.c.views.text("pair.unknown", id), Hint: v.c.views.text("pair.unknown.hint")}}
	}
	return all[i], nil
}

func (v *visit) askForget() error {
	f, err := v.follower()
	if err != nil {
		return err
	}
	return v.show("pair-forget", "pair", v.c.views.text("pair.forget.title", f.Address), forgetPage{v.session.CSRF, f})
}

func (v *visit) forget() error {
	f, err := v.follower()
	if err == nil {
		err = v.c.api.RemoveFollower(v.r.Context(), f.ID)
	}
	if err != nil {
		return err
	}
	return v.done(pairPath, v.c.views.text("pair.forgotten", f.Address))
}
