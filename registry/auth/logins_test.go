package auth_test

import (
	"testing"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/auth/logintest"
)

func TestLogins_inMemory(t *testing.T) {
	logintest.Run(t, func(*testing.T) (one, other auth.Logins) {
		m := auth.NewMemory()
		return m, m
	})
}
