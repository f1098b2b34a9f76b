package auth

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// A LoginRecord is what is kept of a session.
type LoginRecord struct {
	Token       LoginToken
	User        string
	Password    [sha256.Size]byte // of the hash of the password
	Notice      string
	Began, Used time.Time
}

// A LoginToken is the hash of a cookie's value, which is kept nowhere.
type LoginToken [sha256.Size]byte

// LoginLimits are how many logins are kept, of each user and of all.
type LoginLimits struct{ User, All int }

// Logins keep the sessions of browsers: one daemon in memory, several in the rows that they share. A method
// ends with the error of what keeps them. logintest is what each implementation runs.
type Logins interface {
	// Add adds a login. For it, the least recently used ones beyond the limits are removed.
	Add(ctx context.Context, l LoginRecord, most LoginLimits) error
	// Get returns a login, and false if it was removed. It may be over.
	Get(ctx context.Context, token LoginToken) (LoginRecord, bool, error)
	// Use records that a login is used, if it is kept. An implementation may leave out uses within a
	// minute of the recorded one.
	Use(ctx context.Context, l LoginRecord, at time.Time) error
	// SetNotice replaces the notice of a login, if it is kept.
	SetNotice(ctx context.Context, token LoginToken, notice string) error
	// End removes a login.
	End(ctx context.Context, token LoginToken) error
}

const (
	sessionIdle = 2 * time.Hour
	sessionMost = 12 * time.Hour
)

// LoginsOver returns the times of the last use and of the beginning before which a login is over.
func LoginsOver(now time.Time) (used, began time.Time) {
	return now.Add(-sessionIdle), now.Add(-sessionMost)
}

func (l LoginRecord) over(now time.Time) bool {
	used, began := LoginsOver(now)
	return l.Used.Before(used) || l.Began.Before(began)
}

// memory keeps logins in this process: after a restart users log in again.
type memory struct {
	mu      sync.Mutex
	byToken map[LoginToken]*LoginRecord
}

// NewMemory returns Logins that are kept in memory.
func NewMemory() Logins { return &memory{byToken: map[LoginToken]*LoginRecord{}} }

func (m *memory) Add(_ context.Context, l LoginRecord, most LoginLimits) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all, own []LoginToken
	for token, other := range m.byToken {
		if other.over(l.Began) {
			delete(m.byToken, token)
			continue
		}
		all = append(all, token)
		if other.User == l.User {
			own = append(own, token)
		}
	}
	m.endOldest(own, most.User-1)
	m.endOldest(all, most.All-1)
	m.byToken[l.Token] = &l
	return nil
}

// endOldest ends all of the logins but the most that were used last.
func (m *memory) endOldest(tokens []LoginToken, most int) {
	tokens = slices.DeleteFunc(tokens, func(k LoginToken) bool { return m.byToken[k] == nil })
	if len(tokens) <= most {
		return
	}
	slices.SortFunc(tokens, func(a, b LoginToken) int { return m.byToken[a].Used.Compare(m.byToken[b].Used) })
	for _, token := range tokens[:len(tokens)-most] {
		delete(m.byToken, token)
	}
}

func (m *memory) Get(_ context.Context, token LoginToken) (LoginRecord, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.byToken[token]; l != nil {
		return *l, true, nil
	}
	return LoginRecord{}, false, nil
}

func (m *memory) Use(_ context.Context, l LoginRecord, at time.Time) error {
	m.change(l.Token, func(l *LoginRecord) { l.Used = at })
	return nil
}

func (m *memory) SetNotice(_ context.Context, token LoginToken, notice string) error {
	m.change(token, func(l *LoginRecord) { l.Notice = notice })
	return nil
}

func (m *memory) change(token LoginToken, change func(*LoginRecord)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.byToken[token]; l != nil {
		change(l)
	}
}

func (m *memory) End(_ context.Context, token LoginToken) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byToken, token)
	return nil
}
