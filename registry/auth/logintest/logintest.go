// Package logintest has the tests that each implementation of auth.Logins passes.
package logintest

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// Run runs the tests. open returns the same logins twice, as two daemons have them: changes by one are
// looked at by the other.
func Run(t *testing.T, open func(t *testing.T) (one, other auth.Logins)) {
	for name, test := range map[string]func(*check){
		"a login":              (*check).login,
		"uses and notices":     (*check).changes,
		"an end":               (*check).end,
		"the limit of a user":  (*check).limitUser,
		"the limit of all":     (*check).limitAll,
		"a login used is kept": (*check).used,
	} {
		t.Run(name, func(t *testing.T) {
			one, other := open(t)
			test(&check{T: t, one: one, other: other})
		})
	}
}

type check struct {
	*testing.T
	one, other auth.Logins
}

var began = time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)

// record returns the login number n of a user, which began n minutes after the first.
func record(user string, n int) auth.LoginRecord {
	at := began.Add(time.Duration(n) * time.Minute)
	return auth.LoginRecord{Token: sha256.Sum256([]byte(fmt.Sprint(user, n))), User: user, Password: sha256.Sum256([]byte(user)), Notice: "n", Began: at, Used: at}
}

func (c *check) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *check) add(l auth.LoginRecord) {
	c.Helper()
	c.must(c.one.Add(c.Context(), l, auth.LoginLimits{User: 3, All: 5}))
}

// is asserts what the other daemon has.
func (c *check) is(want auth.LoginRecord) {
	c.Helper()
	got, ok, err := c.other.Get(c.Context(), want.Token)
	if err != nil || !ok || got.Token != want.Token || got.User != want.User || got.Password != want.Password || got.Notice != want.Notice || !got.Began.Equal(want.Began) || !got.Used.Equal(want.Used) {
		c.Errorf("the login is %+v (%v, %v), want %+v", got, ok, err, want)
	}
}

func (c *check) gone(l auth.LoginRecord) {
	c.Helper()
	if got, ok, err := c.other.Get(c.Context(), l.Token); ok || err != nil {
		c.Errorf("there is the login %+v (%v)", got, err)
	}
}

func (c *check) login() {
	l := record("init", 0)
	c.gone(l)
	c.add(l)
	c.is(l)
	c.gone(record("init", 1))
}

func (c *check) changes() {
	l, another := record("init", 0), record("init", 1)
	c.add(l)
	c.add(another)
	at := l.Used.Add(time.Hour)
	c.must(c.one.Use(c.Context(), l, at))
	c.must(c.one.SetNotice(c.Context(), l.Token, "'done'"))
	l.Used, l.Notice = at, "'done'"
	c.is(l)
	c.is(another)
	c.must(c.one.SetNotice(c.Context(), l.Token, ""))
	l.Notice = ""
	c.is(l)
}

// end also has what comes late for a login not bring it back.
func (c *check) end() {
	l, another := record("init", 0), record("init", 1)
	c.add(l)
	c.add(another)
	c.must(c.one.End(c.Context(), l.Token))
	c.must(c.one.End(c.Context(), l.Token))
	c.must(c.one.Use(c.Context(), l, l.Used.Add(time.Hour)))
	c.must(c.one.SetNotice(c.Context(), l.Token, "late"))
	c.gone(l)
	c.is(another)
}

func (c *check) limitUser() {
	other := record("other", 0)
	c.add(other)
	for n := range 4 {
		c.add(record("init", n))
	}
	c.gone(record("init", 0))
	for n := 1; n < 4; n++ {
		c.is(record("init", n))
	}
	c.is(other)
}

func (c *check) limitAll() {
	for n := range 7 {
		c.add(record(fmt.Sprint("u", n), n))
	}
	for n := range 7 {
		if l := record(fmt.Sprint("u", n), n); n < 2 {
			c.gone(l)
		} else {
			c.is(l)
		}
	}
}

func (c *check) used() {
	for n := range 3 {
		c.add(record("init", n))
	}
	first := record("init", 0)
	c.must(c.other.Use(c.Context(), first, first.Used.Add(time.Hour)))
	c.add(record("init", 3))
	first.Used = first.Used.Add(time.Hour)
	c.is(first)
	c.gone(record("init", 1))
}
