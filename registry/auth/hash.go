package auth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

const (
	// decoy is the bcrypt hash, without its cost, for the passwords of unknown
	// users: that of random text.
	decoy = "$2a$%02d$FEKwG0Il7PCGlPmfPfvwIuQ9rcotYPGOyDR9q892wFW7/ofCDNGSC"
	// maxCost bounds how long one stored hash can make every denial: about a second.
	maxCost = 14
)

// A hasher compares passwords with hashes. A denial takes as long as a comparison at the highest
// cost in use, so that its time does not tell which users exist.
type hasher struct {
	places   chan struct{} // one a processor, so that guesses cannot starve pulls
	doubtful chan struct{} // fewer: for logins from addresses where others have failed

	mu   sync.Mutex // guards cost
	cost int        // the highest in use
}

func newHasher() *hasher {
	processors := runtime.GOMAXPROCS(0)
	return &hasher{
		places:   make(chan struct{}, processors),
		doubtful: make(chan struct{}, max(1, processors/2)),
		cost:     bcrypt.DefaultCost,
	}
}

// raise returns the highest cost in use, this one included.
func (h *hasher) raise(cost int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cost = max(h.cost, min(cost, maxCost))
	return h.cost
}

// check returns errDenied if the user does not exist or the hash is not that of the password.
func (h *hasher) check(ctx context.Context, exists bool, hash []byte, password string) error {
	places := []chan struct{}{h.places}
	if suspect(ctx) {
		places = []chan struct{}{h.doubtful, h.places}
	}
	for _, p := range places {
		select {
		case p <- struct{}{}:
			defer func() { <-p }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !exists || len(password) > maxPasswordBytes {
		h.spend(0, password)
		return errDenied
	}
	err := bcrypt.CompareHashAndPassword(hash, []byte(password))
	switch {
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		h.spend(costOf(hash), password)
		return errDenied
	case err == nil:
		h.raise(costOf(hash))
	}
	return err
}

// spend takes the rest of the time of a comparison at the highest cost in use, after one at cost
// spent. 0 is not a comparison.
func (h *hasher) spend(spent int, password string) {
	for _, cost := range remaining(spent, h.raise(spent)) {
		// The result means nothing, a match included.
		_ = bcrypt.CompareHashAndPassword(fmt.Appendf(nil, decoy, cost),
			[]byte(password[:min(len(password), maxPasswordBytes)]))
	}
}

// remaining returns the costs at which to compare. Each doubles the time of the one before, so
// after a comparison at cost c those at c, c+1 … top-1 add up to one at top.
func remaining(spent, top int) []int {
	if spent == 0 {
		return []int{top}
	}
	var costs []int
	for c := spent; c < top; c++ {
		costs = append(costs, c)
	}
	return costs
}

func costOf(hash []byte) int {
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return 0
	}
	return cost
}

type suspectKey struct{}

// suspect reports whether a login comes from an address where others have failed lately.
func suspect(ctx context.Context) bool { return ctx.Value(suspectKey{}) != nil }
