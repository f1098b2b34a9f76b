package database

import (
	"slices"
	"testing"
	"time"
)

// A user who was away has the next turn, and not all the turns that were missed.
func TestQueue_comesBack(t *testing.T) {
	var q queue
	for range 4 {
		q.add(&shared{user: "a"})
	}
	any := func(*shared) bool { return true }
	for range 2 {
		q.charge(q.take(any).user, time.Second)
	}
	for range 3 {
		q.add(&shared{user: "b"})
	}
	var got []string
	for w := q.take(any); w != nil; w = q.take(any) {
		got = append(got, w.user)
		q.charge(w.user, time.Second)
	}
	if want := []string{"b", "a", "b", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
}
