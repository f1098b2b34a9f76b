package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// credentials are skopeo's flags for the login of one side, which oc-mirror has too. Help does not
// list them: other users of the host see a password in a command line.
type credentials struct {
	side                                 string // "src" or "dest"
	creds, user, password, token, inFile string
	none                                 bool
}

func (c *credentials) addFlags(f *pflag.FlagSet, side, short string) {
	c.side = side
	add := func(to *string, name string) {
		f.StringVar(to, name, "", "")
		f.Lookup(name).Hidden = true
	}
	add(&c.creds, side+"-creds")
	add(&c.creds, short)
	add(&c.user, side+"-username")
	add(&c.password, side+"-password")
	add(&c.token, side+"-registry-token")
	pathVar(f, &c.inFile, side+"-authfile", "", "")
	f.BoolVar(&c.none, side+"-no-creds", false, "")
	f.Lookup(side + "-authfile").Hidden = true
	f.Lookup(side + "-no-creds").Hidden = true
}

// keychain returns the login that the flags name, or else that of authFile.
func (c *credentials) keychain(authFile string) (authn.Keychain, error) {
	user, password := c.user, c.password
	if c.creds != "" {
		var ok bool
		if user, password, ok = strings.Cut(c.creds, ":"); !ok || user == "" {
			return nil, hint.New(fmt.Errorf("--%s-creds is not of the form user:password", c.side),
				"podman login does without a password in the command line")
		}
	}
	given := 0
	login := c.creds != "" || c.user != "" || c.password != ""
	for _, one := range []bool{login, c.token != "", c.inFile != "", c.none} {
		if one {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, fmt.Errorf("--%s-creds, --%[1]s-username, --%[1]s-registry-token, --%[1]s-authfile and --%[1]s-no-creds cannot be used together", c.side)
	case c.none:
		return always{authn.Anonymous}, nil
	case c.token != "":
		return always{&authn.Bearer{Token: c.token}}, nil
	case user == "" && password != "":
		return nil, errors.New("--" + c.side + "-password needs --" + c.side + "-username")
	case user != "":
		return always{&authn.Basic{Username: user, Password: password}}, nil
	case c.inFile != "":
		return upstream.Keychain(c.inFile), nil
	}
	return upstream.Keychain(authFile), nil
}

// elsewhere returns the logins for a registry other than the one that is named, which does not get
// the login that the flags name.
func (c *credentials) elsewhere(authFile string) authn.Keychain {
	if c.none {
		return always{authn.Anonymous}
	}
	if c.inFile != "" {
		authFile = c.inFile
	}
	return upstream.Keychain(authFile)
}

// always is a keychain with one login.
type always struct{ authn.Authenticator }

// Resolve implements authn.Keychain.
func (a always) Resolve(authn.Resource) (authn.Authenticator, error) { return a.Authenticator, nil }
