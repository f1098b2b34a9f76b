package auth

import "time"

// A slowWay admits credentials that were refused when they return between patience and impatience
// later, at a slow rate: a client with a right password repeats it, and repeating a guess gains
// nothing.
type slowWay struct {
	refused map[credentialKey]refusals
	next    map[any]time.Time // the next turn of a name at an address, and of an address
}

// refusals are those of credentials that were not checked.
type refusals struct{ first, last time.Time }

const (
	patience      = 5 * time.Second
	impatience    = 5 * time.Minute
	slowPerName   = 10 * time.Second
	slowPerSource = time.Second
)

func newSlowWay() slowWay {
	return slowWay{refused: make(map[credentialKey]refusals), next: make(map[any]time.Time)}
}

// wait returns how long refused credentials must wait, and uses up their turn if the wait is over.
func (s *slowWay) wait(a attempt, now time.Time) time.Duration {
	p, ok := s.refused[a.own]
	if !ok || now.Sub(p.last) >= impatience {
		makeRoom(s.refused, func(p refusals) bool { return p.last == p.first && now.Sub(p.first) >= 2*patience })
		p.first = now
	}
	p.last = now
	s.refused[a.own] = p
	source := sourceKey{a.named.source}
	wait := max(p.first.Add(patience).Sub(now), s.next[a.named].Sub(now), s.next[source].Sub(now))
	if wait <= 0 {
		makeRoom(s.next, func(t time.Time) bool { return !t.After(now) })
		s.next[a.named], s.next[source] = now.Add(slowPerName), now.Add(slowPerSource)
	}
	return wait
}
