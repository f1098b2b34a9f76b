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
	Address   string // of this appliance
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
	p.Address, p.Family, p.Following = status.Address, *status.Family, status.Following
	p.Followers, err = v.c.api.Followers(v.r.Context())
	p.Follow = api.FollowCommand(status.Address)
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

// Untold lists the appliances that were not told yet that this one is the primary.
func (p pairPage) Untold() []api.Other {
	return slices.DeleteFunc(p.Family.Others(p.Followers), func(o api.Other) bool { return !o.Untold })
}

// forgetPage asks whether a follower, or an appliance that was not told yet, is to be forgotten.
type forgetPage struct {
	CSRF  string
	Other api.Other
	Means string
}

// other returns the appliance that the path names by its id.
func (v *visit) other() (other api.Other, p pairPage, err error) {
	id := v.r.PathValue("id")
	if p, err = v.family(); err != nil {
		return other, p, err
	}
	all := p.Family.Others(p.Followers)
	i := slices.IndexFunc(all, func(o api.Other) bool { return o.ID == id })
	if i < 0 {
		return other, p, &client.Refused{Status: http.StatusNotFound, Refusal: api.Refusal{
			Problem: v.c.views.text("pair.unknown", id), Hint: v.c.views.text("pair.unknown.hint")}}
	}
	return all[i], p, nil
}

func (v *visit) askForget() error {
	o, p, err := v.other()
	if err != nil {
		return err
	}
	title := "pair.forget.title"
	if !o.Follower {
		title = "pair.forget.other"
	}
	return v.show("pair-forget", "pair", v.c.views.text(title, o.Address), forgetPage{v.session.CSRF, o, o.Forgotten(p.Address)})
}

func (v *visit) forget() error {
	o, _, err := v.other()
	if err == nil {
		err = v.c.api.RemoveFollower(v.r.Context(), o.ID)
	}
	if err != nil {
		return err
	}
	if !o.Follower {
		return v.done(pairPath, v.c.views.text("pair.forgotten.other", o.Address))
	}
	return v.done(pairPath, v.c.views.text("pair.forgotten", o.Address))
}
