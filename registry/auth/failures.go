package auth

import "time"

// failures counts failed logins under three keys. One count by address would punish others: a node
// with an old pull secret fails all day, and other nodes and the administrator may share its
// address.
//
//   - the credentials, from one address: sent again they fail again, so they are refused without
//     another bcrypt. This stops the node with the old secret and no other.
//   - a user name, from one address: counts only credentials not seen before. This stops guessing.
//   - the address: likewise, stops guessing over many names.
//
// Failures are not counted by user name over all addresses: any client could lock an administrator
// out.
type failures map[any]*failure

// A failure is the count of a key.
type failure struct {
	name  string // of the user, if the key has one
	count int
	until time.Time // no login is admitted before this
	last  time.Time
}

const (
	freePerCredentials = 5  // a client that retries
	freePerName        = 5  // typing errors
	freePerSource      = 20 // typing errors of all users at an address

	firstDelay  = time.Second
	maxDelay    = time.Minute      // short: it is also what an honest user waits
	forgetAfter = 15 * time.Minute // the last failure
)

// of returns the count of a key, nil if there is none or it is forgotten.
func (fs failures) of(key any, now time.Time) *failure {
	f, ok := fs[key]
	if ok && now.Sub(f.last) >= forgetAfter {
		delete(fs, key)
		return nil
	}
	return f
}

// charge counts one more failure. With free 0 it only records that the key has been seen.
func (fs failures) charge(key any, name string, now time.Time, free int) {
	f := fs.of(key, now)
	if f == nil {
		makeRoom(fs, func(f *failure) bool { return now.Sub(f.last) >= forgetAfter })
		f = &failure{name: name}
		fs[key] = f
	}
	f.last = now
	if free == 0 {
		return
	}
	f.count++
	if beyond := f.count - free; beyond >= 0 { // the delay doubles with each
		f.until = now.Add(min(firstDelay<<min(beyond, 6), maxDelay))
	}
}

// refund takes the charges of an attempt back from its name and its address.
func (fs failures) refund(a attempt) {
	if !a.charged {
		return
	}
	for _, key := range []any{a.named, sourceKey{a.named.source}} {
		if f, ok := fs[key]; ok {
			if f.count--; f.count <= 0 {
				delete(fs, key)
			}
			f.until = time.Time{}
		}
	}
}
