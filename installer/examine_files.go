package installer

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/registry/config"
)

// namedFile is a file or a directory that config.yaml names, besides those of the registry itself.
type namedFile struct {
	key, path string
	dir       bool
	secret    bool // other users must not read it
	own       bool // only the service's user may read it, not even a group
	logins    bool // it is a file of logins
	write     bool // the service writes to the directory
	made      bool // the daemon makes it where it is absent
}

// named lists what config.yaml names.
func (x *examiner) named() []namedFile { return namedBy(x.cfg) }

// namedBy lists what a configuration names.
func namedBy(cfg *config.Config) (all []namedFile) {
	add := func(f namedFile) {
		if f.path != "" {
			all = append(all, f)
		}
	}
	c := cfg.TLS
	add(namedFile{key: "tls.certificate", path: c.Certificate, made: true})
	add(namedFile{key: "tls.key", path: c.Key, made: true})
	add(namedFile{key: "tls.ca", path: c.CA, made: cfg.Shared()})
	add(namedFile{key: "tls.caKey", path: c.CAKey, made: cfg.Shared()})
	add(namedFile{key: "tls.acme.ca", path: c.ACME.CA})
	add(namedFile{key: "tls.acme.keyFile", path: c.ACME.KeyFile, secret: true})
	if a, err := pgurl.Parse(cfg.DatabaseServer()); err == nil {
		add(namedFile{key: "passfile= in database", path: a.Passfile, own: true})
		add(namedFile{key: "sslkey= in database", path: a.Key, own: true})
		for _, path := range a.Certificates {
			add(namedFile{key: "the certificate in database", path: path})
		}
	}
	add(namedFile{key: "sharedKey", path: cfg.SharedKey, own: true})
	add(namedFile{key: "storageCredentials", path: cfg.StorageCredentials, secret: true})
	for i, u := range cfg.Upstreams {
		key := func(name string) string { return fmt.Sprintf("upstreams[%d].%s", i, name) }
		add(namedFile{key: key("ca"), path: u.CA})
		add(namedFile{key: key("certDir"), path: u.CertDir, dir: true})
		add(namedFile{key: key("authFile"), path: u.AuthFile, secret: true, logins: true})
	}
	for i, s := range cfg.Sync {
		key := func(name string) string { return fmt.Sprintf("sync[%d].%s", i, name) }
		add(namedFile{key: key("imageSet"), path: s.ImageSet})
		add(namedFile{key: key("authFile"), path: s.AuthFile, secret: true, logins: true})
		add(namedFile{key: key("workspace"), path: s.Workspace, dir: true, write: true})
	}
	return all
}

// checkNamed checks that what config.yaml names exists, is what it should be, and is open to the
// service.
func (x *examiner) checkNamed() {
	user := x.registryUser()
	for _, f := range x.named() {
		what := fmt.Sprintf("%s of config.yaml is %s, ", f.key, f.path)
		info, err := x.Host.StatTarget(f.path)
		switch {
		case notThere(err) && f.made:
			continue
		case notThere(err):
			x.problem(what+"which does not exist", "put it there, or correct config.yaml")
			continue
		case err != nil:
			x.problem(fmt.Sprintf("%swhich cannot be looked at: %v", what, err), "correct its owner and mode: ls -ld "+f.path)
			continue
		case f.dir && !info.Mode.IsDir():
			x.problem(what+"which is not a directory", "correct config.yaml")
			continue
		case !f.dir && !info.Mode.IsRegular():
			x.problem(what+"which is not a file", "correct config.yaml")
			continue
		}
		need := fs.FileMode(0o4)
		if f.write {
			need = 0o6
		}
		if !allowed(info, user, need) {
			x.problem(fmt.Sprintf("%swhich the registry's user %s may not use (mode %04o)", what,
				x.Host.UserName(user.UID), info.Mode.Perm()), x.openTo(f, user))
		}
		if f.own && info.Mode.Perm()&0o077 != 0 {
			x.problem(fmt.Sprintf("%swhich other users may read or write (mode %04o)", what, info.Mode.Perm()), x.openTo(f, user))
		}
		if f.logins {
			x.checkLogins(what, f.path)
		}
	}
}

// openTo returns how to open a file to the service's user.
func (x *examiner) openTo(f namedFile, user host.Owner) string {
	name := x.Host.UserName(user.UID)
	if f.write {
		return "chown " + name + " " + f.path
	}
	if f.own {
		return fmt.Sprintf("chown %s %s && chmod 600 %[2]s", name, f.path)
	}
	return fmt.Sprintf("chown root:%s %s && chmod 640 %[2]s", name, f.path)
}

// checkLogins checks that a file is one of logins. Its content is not shown.
func (x *examiner) checkLogins(what, path string) {
	text, err := x.Host.ReadFile(path)
	if err != nil {
		return // this user may not read it, and need not
	}
	var have struct{ Auths map[string]json.RawMessage }
	if json.Unmarshal(text, &have) != nil {
		x.problem(what+"which is not a file of logins (JSON with auths)", "make it anew: podman login --authfile "+path+" REGISTRY")
	}
}

// allowed reports whether a user may do something with a file, by its owner, group and mode.
func allowed(info host.Info, user host.Owner, need fs.FileMode) bool {
	mode := info.Mode.Perm()
	switch {
	case user.UID == 0:
		return true
	case info.Owner.UID == user.UID:
		return mode>>6&need == need
	case info.Owner.GID == user.GID:
		return mode>>3&need == need
	}
	return mode&need == need
}

// checkSeen checks that the unit shows the service the directories that config.yaml names by now.
func (x *examiner) checkSeen() {
	if x.unit == nil || x.User {
		return
	}
	x.checkShown()
	if hidden := x.unnamed(x.cfg); len(hidden) > 0 {
		x.problem("the service does not see "+strings.Join(hidden, ", ")+", which config.yaml names since the install",
			"have the unit written anew: appliance install")
	}
}
