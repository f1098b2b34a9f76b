package role

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// RefusedError refuses a command about the role.
type RefusedError struct{ problem, next string }

func (e *RefusedError) Error() string { return e.problem }

// Hint returns what to do.
func (e *RefusedError) Hint() string { return e.next }

func refused(next, format string, args ...any) error {
	return &RefusedError{fmt.Sprintf(format, args...), next}
}

var errBusy = &RefusedError{"another command that changes the role is under way", "wait until it has ended: appliance status"}

// Promote makes the appliance the primary. In order, the primary of before takes no changes any more, what
// it has acknowledged arrives here, and then this one takes changes: at no moment both do. Each step can be
// repeated, and a promotion that was interrupted goes on when it is asked for again.
//
// With force it goes on where the primary does not answer, or where it would be refused since this appliance
// lacks something; what could not be done is in the result. Where the primary answers that it does not know this
// appliance, force is refused as well: that one is there, and would go on taking changes.
func (f *Family) Promote(ctx context.Context, q api.PromoteRequest, progress func(api.PromoteProgress)) (api.Promoted, error) {
	if !f.acting.TryLock() {
		return api.Promoted{}, errBusy
	}
	defer f.acting.Unlock()
	if err := f.Refresh(ctx); err != nil {
		return api.Promoted{}, err
	}
	if f.Writable() {
		f.hasten()
		return api.Promoted{Family: f.Describe(), Already: true}, nil
	}
	was := f.State()
	before, known := f.before(ctx)
	result := api.Promoted{}
	var trouble error
	switch {
	case known:
		trouble = f.yield(ctx, before, q.Force, progress)
		if errors.As(trouble, new(*strangerError)) {
			trouble = removed(was.Role, before)
		}
		if errors.As(trouble, new(*RefusedError)) {
			return result, trouble
		}
	case was.Known.ID != was.ID: // else that one has given way already
		trouble = errors.New("this appliance does not know it any more")
	}
	next := f.next()
	if trouble == nil && was.Role == Follower && f.CatchUp != nil {
		progress(api.PromoteProgress{Step: "what it has arrives"})
		if err := f.CatchUp(ctx); err != nil {
			trouble = &lackingError{fmt.Errorf("not everything that https://%s has could be copied: %w", before.Address, err)}
		}
	}
	switch {
	case ctx.Err() != nil:
		return result, ctx.Err()
	case trouble != nil && !q.Force:
		return result, f.unanswered(before, trouble)
	case trouble != nil:
		result.Forced = f.lost(trouble)
	}
	told := Term{}
	if known && trouble == nil {
		told = next
	}
	if err := f.takeOver(ctx, next, told); err != nil {
		return result, err
	}
	f.hasten()
	result.Family = f.Describe()
	return result, nil
}

// removed refuses the promotion of an appliance that the primary does not know.
func removed(as Role, first Peer) error {
	if as == Superseded {
		return refused(api.WayBack(first.Address), "https://%[1]s has taken the place of this appliance and answers that it does not know it, such as after it was put up anew: it cannot be asked to give way, and would go on taking changes", first.Address)
	}
	return refused(api.WayBack(first.Address), "https://%[1]s answers that it does not know this appliance as its follower, such as after it was removed there: it cannot be asked to give way, and would go on taking changes", first.Address)
}

// lackingError is about content that did not arrive after the primary gave way.
type lackingError struct{ error }

func (e *lackingError) Unwrap() error { return e.error }

// before returns the appliance that was the primary until now, as far as this one can ask it.
func (f *Family) before(ctx context.Context) (Peer, bool) {
	s := f.State()
	if s.First != nil {
		return s.First.Peer, true
	}
	all := f.others(ctx)
	i := slices.IndexFunc(all, func(p Peer) bool { return p.ID == s.Known.ID })
	if i < 0 {
		return Peer{Address: s.Known.Address}, false
	}
	return all[i], true
}

// next returns the term that a promotion of this appliance begins, or has begun.
func (f *Family) next() Term {
	s := f.State()
	if s.Known.ID == s.ID {
		return Term{s.Known.Generation, s.ID, f.Address}
	}
	return Term{s.Known.Generation + 1, s.ID, f.Address}
}

// yield has the primary cease to take changes, if it may be replaced by this appliance.
func (f *Family) yield(ctx context.Context, before Peer, force bool, progress func(api.PromoteProgress)) error {
	answer, err := f.tell(limited(ctx, talkLimit), before, f.message())
	if err != nil {
		return err
	}
	if err := f.hear(ctx, answer); err != nil {
		return err
	}
	s := f.State()
	next := f.next()
	switch there := Role(answer.Role); {
	case force:
	case s.Role == Follower && there == Follower:
		return refused(fmt.Sprintf("promote https://%[1]s, or follow the primary from here and promote then; without either: appliance promote --force", before.Address),
			"https://%s, which this appliance follows, is a follower itself", before.Address)
	case s.Role == Follower && there == Superseded && s.Known.ID != s.ID:
		return refused("to have this appliance be a copy of that: "+api.FollowCommand(s.Known.Address)+"; to have it take that one's place without its content: appliance promote --force",
			"https://%s has taken the place of https://%s meanwhile", s.Known.Address, before.Address)
	case s.Role == Superseded && there == Primary:
		return refused("first have this appliance be a copy: "+api.FollowCommand(before.Address)+"; or give up what that one has had since: appliance promote --force",
			"https://%s has taken changes since it took the place of this appliance, which lacks them", before.Address)
	}
	if s.Role == Follower && Role(answer.Role) == Primary && !force {
		if err := f.catchUpBefore(ctx, before, progress); err != nil {
			return err
		}
	}
	progress(api.PromoteProgress{Step: "the primary ceases to take changes"})
	m := f.message()
	m.Known = api.Term(next)
	if answer, err = f.tell(limited(ctx, yieldLimit), before, m); err != nil {
		return err
	}
	if err := f.hear(ctx, answer); err != nil {
		return err
	}
	if Role(answer.Role) == Primary || Term(answer.Known).After(next) {
		return refused("see which one is to be the primary: appliance status", "https://%s does not give way", before.Address)
	}
	return nil
}

// catchUpBefore copies what there is while the primary still takes changes. One that gave way to an appliance
// which cannot copy the rest, since its disk is full, would leave none that takes changes.
func (f *Family) catchUpBefore(ctx context.Context, before Peer, progress func(api.PromoteProgress)) error {
	if f.CatchUp == nil {
		return nil
	}
	progress(api.PromoteProgress{Step: "what the primary has arrives"})
	err := f.CatchUp(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	next := "see what hinders it: appliance doctor; then repeat this"
	if own := hint.Of(err); own != "" {
		next = own + "; then repeat this"
	}
	return refused(next+"; to go on without what is lacking: appliance promote --force", "not everything that https://%s has could be copied, and it was not asked to give way: %s", before.Address, err)
}

// takeOver makes this appliance the primary of a term, unless it has heard of a newer one meanwhile. told is
// what the one that it has followed has confirmed.
func (f *Family) takeOver(ctx context.Context, next, told Term) error {
	f.turning.Lock()
	defer f.turning.Unlock()
	if err := f.reload(ctx); err != nil {
		return err
	}
	if s := f.State(); s.Known.After(next) {
		return refused("appliance status has what this one knows", "https://%s was promoted meanwhile", s.Known.Address)
	}
	return f.turn(context.WithoutCancel(ctx), func(n *State) {
		if n.First != nil {
			p := n.First.Peer
			p.Told, p.Unknown = told, false
			n.setPeer(p)
		}
		n.Role, n.Known, n.First = Primary, next, nil
	})
}

// unanswered is the refusal of a promotion without force.
func (f *Family) unanswered(before Peer, err error) error {
	problem := fmt.Sprintf("the primary https://%s cannot be asked to give way: %s", before.Address, err)
	next := fmt.Sprintf("repeat this when https://%s answers; if it is gone, or is switched off, go on without it: appliance promote --force", before.Address)
	switch s := f.State(); {
	case errors.As(err, new(*lackingError)):
		problem = fmt.Sprintf("https://%s takes no changes any more, and %s", before.Address, err)
		next = "repeat this; or have that one take changes again: appliance promote, on its host; or go on without what is lacking: appliance promote --force"
	case s.First != nil && s.Known.ID != s.First.ID && s.Known.ID != s.ID:
		problem = fmt.Sprintf("https://%s, which this appliance follows, cannot be asked: %s; the primary is https://%s, and may take changes", before.Address, err, s.Known.Address)
		next = fmt.Sprintf("repeat this when https://%s answers; or have this appliance be a copy of the primary: %s; if that is gone, or is switched off, go on without both: appliance promote --force", before.Address, api.FollowCommand(s.Known.Address))
	case client.Untrusted(err):
		next = "if it has another CA now, name that, and repeat this: " + api.FollowCommand(before.Address) + "; if it is gone, go on without it: appliance promote --force"
	}
	if f.Behind != nil {
		problem += "; " + f.Behind()
	}
	return refused(next, "%s", problem)
}

// lost describes what a forced promotion may lose.
func (f *Family) lost(err error) string {
	text := err.Error()
	if f.Behind != nil {
		text += "; " + f.Behind()
	}
	return text
}
