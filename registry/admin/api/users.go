package api

import (
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// User is an account, without its password.
type User struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// Repositories are patterns of what the user may see, see image.CheckPattern; none: everything.
	Repositories []string `json:"repositories,omitempty"`
}

// NewUser is an account to create.
type NewUser struct {
	Name         string   `json:"name"`
	Role         string   `json:"role"`
	Password     string   `json:"password"`
	PasswordHash string   `json:"passwordHash,omitempty"` // bcrypt, in place of the password, as another registry has it
	Repositories []string `json:"repositories,omitempty"` // patterns; none: everything
}

// UserChange changes what is not empty.
type UserChange struct {
	Role         string    `json:"role,omitempty"`
	Password     string    `json:"password,omitempty"`
	Repositories *[]string `json:"repositories,omitempty"` // replaces the patterns
}

// Check returns an error if nothing is to change.
func (c UserChange) Check() error {
	if c == (UserChange{}) {
		return hint.New(errors.New("nothing to change"), "give a role, a password or repositories")
	}
	return nil
}
