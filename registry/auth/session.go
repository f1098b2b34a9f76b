package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"sync"
	"time"
)

// sessionName is the name of the cookie of a session. A browser takes it with this prefix only if it
// is Secure, for this host alone, and for all paths (RFC 6265bis, 4.1.3.2).
const sessionName = "__Host-appliance"

const (
	sessionIdle = 2 * time.Hour
	sessionMost = 12 * time.Hour
	// sessionsMost bounds the memory: the one that was not used for longest ends for a new one, of the
	// same user first.
	sessionsMost     = 1024
	sessionsMostUser = 32
)

// A Session is a login of a browser.
type Session struct {
	Identity Identity
	CSRF     string // what a form of the session sends back, see Session.Sent
	Notice   string // what the last request left to tell, see Sessions.SetNotice

	key [sha256.Size]byte
}

// Sent reports whether a value that a request carries is the session's own: another site can have a
// browser send the cookie, and cannot read this.
func (s Session) Sent(csrf string) bool {
	return subtle.ConstantTimeCompare([]byte(s.CSRF), []byte(csrf)) == 1
}

// Sessions are the logins of browsers, in memory: after a restart users log in again. One ends when it
// is not used for 2 hours, 12 hours after its login, and when its user's password is changed or the
// user is removed. Role and grants are those that the user has at each request.
//
// Signed cookies without a memory were refused: a logout would not end them.
type Sessions struct {
	auth *Authenticator
	now  func() time.Time

	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*login
}

// login is what is remembered of a session. Of its cookie's value there is the hash alone.
type login struct {
	user         string
	password     [sha256.Size]byte // of the hash of the password
	csrf, notice string
	began, used  time.Time
}

// NewSessions returns Sessions of the users of a.
func (a *Authenticator) NewSessions() *Sessions {
	return &Sessions{auth: a, now: time.Now, byKey: map[[sha256.Size]byte]*login{}}
}

// Begin checks name and password as a login over the API is, and returns the cookie of a new session.
// Otherwise status is 401 (no such login), 429 (too many failed; wait) or 503 (could not be checked).
func (s *Sessions) Begin(r *http.Request, name, password string) (cookie *http.Cookie, status int, wait time.Duration) {
	id, refused := s.auth.login(r, name, password)
	if refused.status != 0 {
		return nil, refused.status, refused.wait
	}
	record, ok, err := s.auth.record(r.Context(), id.Name)
	if err != nil || !ok {
		return nil, http.StatusServiceUnavailable, 0
	}
	token, now := random(), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeRoom(id.Name, now)
	s.byKey[sha256.Sum256([]byte(token))] = &login{user: id.Name, password: passwordOf(record),
		csrf: random(), began: now, used: now}
	return sessionCookie(token, int(sessionMost/time.Second)), 0, 0
}

func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // which never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func sessionCookie(token string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: sessionName, Value: token, Path: "/", MaxAge: maxAge,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// makeRoom ends what is over, and the sessions beyond the limits. The caller holds mu.
func (s *Sessions) makeRoom(user string, now time.Time) {
	var all, own [][sha256.Size]byte
	for key, l := range s.byKey {
		if l.over(now) {
			delete(s.byKey, key)
			continue
		}
		all = append(all, key)
		if l.user == user {
			own = append(own, key)
		}
	}
	s.endOldest(own, sessionsMostUser-1)
	s.endOldest(all, sessionsMost-1)
}

// endOldest ends all of the sessions but the most that were used last.
func (s *Sessions) endOldest(keys [][sha256.Size]byte, most int) {
	keys = slices.DeleteFunc(keys, func(k [sha256.Size]byte) bool { return s.byKey[k] == nil })
	if len(keys) <= most {
		return
	}
	slices.SortFunc(keys, func(a, b [sha256.Size]byte) int { return s.byKey[a].used.Compare(s.byKey[b].used) })
	for _, key := range keys[:len(keys)-most] {
		delete(s.byKey, key)
	}
}

func (l *login) over(now time.Time) bool {
	return now.Sub(l.used) > sessionIdle || now.Sub(l.began) > sessionMost
}

// Of returns the session of a request, which is used by that. ok is false if it has none that lasts; err
// is for users that could not be looked up.
func (s *Sessions) Of(r *http.Request) (found Session, ok bool, err error) { return s.of(r, s.now()) }

// Peek is Of for what a browser does by itself: the session is not used by it.
func (s *Sessions) Peek(r *http.Request) (found Session, ok bool, err error) {
	return s.of(r, time.Time{})
}

// Lasts reports whether the session of a request, as it was found, lasts with the same role and grants. What answers
// for longer with the rights of its beginning has to end otherwise.
func (s *Sessions) Lasts(r *http.Request, found Session) bool {
	now, ok, err := s.Peek(r)
	return err == nil && ok && now.Identity.Role == found.Identity.Role && slices.Equal(now.Identity.Repositories, found.Identity.Repositories)
}

func (s *Sessions) of(r *http.Request, used time.Time) (found Session, ok bool, err error) {
	cookie, err := r.Cookie(sessionName)
	if err != nil {
		return Session{}, false, nil
	}
	key := sha256.Sum256([]byte(cookie.Value))
	l, ok := s.use(key, used)
	if !ok {
		return Session{}, false, nil
	}
	record, ok, err := s.auth.record(r.Context(), l.user)
	if err != nil {
		return Session{}, false, err
	}
	if !ok || passwordOf(record) != l.password {
		s.end(key)
		return Session{}, false, nil
	}
	id, err := s.auth.identity(l.user, record)
	return Session{Identity: id, CSRF: l.csrf, Notice: l.notice, key: key}, err == nil, err
}

// use returns a copy of a session that lasts, and notes when it was used unless that is zero.
func (s *Sessions) use(key [sha256.Size]byte, used time.Time) (login, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, now := s.byKey[key], s.now()
	if l == nil || l.over(now) {
		delete(s.byKey, key)
		return login{}, false
	}
	if !used.IsZero() {
		l.used = used
	}
	return *l, true
}

// SetNotice keeps a text for the next page of a session, or with "" removes it.
func (s *Sessions) SetNotice(of Session, notice string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.byKey[of.key]; l != nil {
		l.notice = notice
	}
}

// End ends a session, and returns the cookie that removes its own.
func (s *Sessions) End(of Session) *http.Cookie {
	s.end(of.key)
	return sessionCookie("", -1)
}

func (s *Sessions) end(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, key)
}

// Permit passes a request on if the user of its context, whom a session has named, may do the
// action. Otherwise denied answers it with 403, or 401 if there is no user.
func Permit(action func(*http.Request) Action, next http.Handler,
	denied func(w http.ResponseWriter, r *http.Request, status int)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch id, ok := IdentityFrom(r.Context()); {
		case !ok || id.Anonymous():
			denied(w, r, http.StatusUnauthorized)
		case !id.Role.May(action(r)):
			denied(w, r, http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// With returns a context whose user is that of the session.
func (s Session) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, identityKey{}, s.Identity)
}

// May reports whether the user of the session may do the action.
func (s Session) May(action Action) bool { return s.Identity.Role.May(action) }
