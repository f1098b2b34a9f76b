//go:build e2e

package main_test

import "testing"

// lookAtPair looks at an appliance alone, at one with a follower, and at the follower.
func lookAtPair(t *testing.T) {
	t.Parallel()
	first, second := newSite(t), newSite(t)
	must(t, first.push(t.Context(), newTestImage("team/app", "v1", randomBytes(1<<10))))
	first.look(t, "pair", []looked{
		{Name: "pair-alone", Path: "/pair", Do: [][]string{words("No appliance copies this one"), words("appliance follow https://")}},
		{Name: "pair-forget-unknown", Path: "/pair/followers/none/remove", Do: [][]string{words("There is no follower none")}},
	})
	second.works(t, second.follow(t, first, "--force")...)
	second.awaits(t, caughtUp)
	first.look(t, "pair", []looked{
		{Name: "pair-first", Path: "/pair", Do: [][]string{words(second.address)}},
		{Name: "pair-first-overview", Path: "/", Do: [][]string{words(second.address)}},
		{Name: "pair-first-promote", Path: "/pair/promote", Do: [][]string{words("This appliance takes changes.")}},
		{Name: "pair-forget", Path: "/pair", Do: [][]string{{"click", "main td a.pf-m-danger"}, {"wait", "main button.pf-m-danger"}, words("Remove the follower")}},
	})
	second.look(t, "pair", []looked{
		{Name: "pair-follower", Path: "/pair", Do: [][]string{words(first.address), words("equal to it")}},
		{Name: "pair-follower-overview", Path: "/", Do: [][]string{words(first.address)}},
		{Name: "pair-promote", Path: "/pair", Do: [][]string{{"click", "main a.pf-m-danger"}, {"path", "/pair/promote"}, words("equal to it")}},
	})
}
