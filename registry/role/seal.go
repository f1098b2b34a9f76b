package role

import (
	"encoding/json"
	"fmt"
)

// Seal encrypts the password of the first in the note, so that a dump of the database does not have it.
type Seal struct {
	Close func(text string) (sealed string)
	Open  func(sealed string) (text string, err error)
}

// sealed returns a state as the note has it.
func (f *Family) sealed(s State) State {
	if f.Seal == nil || s.First == nil || s.First.Password == "" {
		return s
	}
	first := *s.First
	first.Sealed, first.Password = f.Seal.Close(first.Password), ""
	s.First = &first
	return s
}

// parse reads a note. One of before has the password in clear. One that was sealed with another key has none: the
// first then refuses the login, and what to type is told as for a password that was changed there.
func (f *Family) parse(text string) (s State, err error) {
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("read the role of this appliance: %w", err)
	}
	if s.First == nil || s.First.Sealed == "" || f.Seal == nil {
		return s, nil
	}
	if s.First.Password, err = f.Seal.Open(s.First.Sealed); err != nil {
		f.Log.Warn("the password of the appliance that is followed cannot be read: give it again by appliance follow", "error", err)
	}
	return s, nil
}
