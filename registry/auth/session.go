package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"time"
)

// sessionName is the name of the cookie of a session. A browser takes it with this prefix only if it
// is Secure, for this host alone, and for all paths (RFC 6265bis, 4.1.3.2).
const sessionName = "__Host-appliance"

// The least recently used session ends for a new one, of the same user first.
const (
	sessionsMost     = 1024
	sessionsMostUser = 32
)

// A Session is a login of a browser.
type Session struct {
	Identity Identity
	CSRF     string // what a form of the session sends back, see Session.Sent
	Notice   string // what the last request left to tell, see Sessions.SetNotice

	token LoginToken
}

// Sent reports whether a value that a request carries is the session's own: another site can have a
// browser send the cookie, and cannot read this.
func (s Session) Sent(csrf string) bool {
	return subtle.ConstantTimeCompare([]byte(s.CSRF), []byte(csrf)) == 1
}

// Sessions are the logins of browsers. One ends when it is not used for 2 hours, 12 hours after its
// login, and when its user's password is changed or the user is removed. Role and grants are those that
// the user has at each request.
//
// Signed cookies without a memory were refused: a logout would not end them.
type Sessions struct {
	auth *Authenticator
	now  func() time.Time
	kept Logins
}

// NewSessions returns Sessions of the users of a.
func (a *Authenticator) NewSessions(kept Logins) *Sessions {
	return &Sessions{auth: a, now: time.Now, kept: kept}
}

// Begin checks name and password as a login over the API is, and returns the cookie of a new session.
// Otherwise status is 401 (no such login), 429 (too many failed; wait) or 503 (could not be checked or
// kept).
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
	err = s.kept.Add(r.Context(), LoginRecord{Token: sha256.Sum256([]byte(token)), User: id.Name, Password: passwordOf(record), Began: now, Used: now},
		LoginLimits{User: sessionsMostUser, All: sessionsMost})
	if err != nil {
		s.auth.Log.ErrorContext(r.Context(), "a login of the console could not be kept", "user", id.Name, "error", err)
		return nil, http.StatusServiceUnavailable, 0
	}
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

// csrfOf derives what forms send from a cookie's value, which other sites do not know: each daemon gets
// the same, and it is kept nowhere.
func csrfOf(token string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("csrf"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
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
	ctx, token := r.Context(), LoginToken(sha256.Sum256([]byte(cookie.Value)))
	l, ok, err := s.kept.Get(ctx, token)
	if err != nil || !ok || l.over(s.now()) {
		return Session{}, false, err
	}
	record, ok, err := s.auth.record(ctx, l.User)
	if err != nil {
		return Session{}, false, err
	}
	if !ok || passwordOf(record) != l.Password {
		return Session{}, false, s.kept.End(ctx, token)
	}
	if !used.IsZero() {
		if err := s.kept.Use(ctx, l, used); err != nil { // it ends earlier by that, at worst
			s.auth.Log.WarnContext(ctx, "the use of a login of the console could not be recorded", "user", l.User, "error", err)
		}
	}
	id, err := s.auth.identity(l.User, record)
	return Session{Identity: id, CSRF: csrfOf(cookie.Value), Notice: l.Notice, token: token}, err == nil, err
}

// SetNotice keeps a text for the next page of a session, or with "" removes it.
func (s *Sessions) SetNotice(ctx context.Context, of Session, notice string) {
	if err := s.kept.SetNotice(ctx, of.token, notice); err != nil { // what it tells was done
		s.auth.Log.WarnContext(ctx, "the notice for the next page of the console could not be kept", "user", of.Identity.Name, "error", err)
	}
}

// End ends a session, and returns the cookie that removes its own. With an error the session lasts.
func (s *Sessions) End(ctx context.Context, of Session) (*http.Cookie, error) {
	if err := s.kept.End(ctx, of.token); err != nil {
		return nil, err
	}
	return sessionCookie("", -1), nil
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
