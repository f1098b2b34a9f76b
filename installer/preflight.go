package installer

import (
	"cmp"
	"context"
	"path/filepath"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// check is one precondition. Check returns the problems with it, mostly none or one, and writes nothing.
type check interface {
	Check(ctx context.Context) []Problem
}

func found(what, remedy string) []Problem { return []Problem{{What: what, Remedy: remedy}} }

func warning(what, remedy string) []Problem {
	return []Problem{{What: what, Remedy: remedy, Warning: true}}
}

// hintOf returns the hint of an error, and remedy if it has none.
func hintOf(err error, remedy string) string { return cmp.Or(hint.Of(err), remedy) }

func (s *site) check(ctx context.Context, checks ...check) {
	for _, c := range checks {
		s.problems = append(s.problems, c.Check(ctx)...)
	}
}

// preflight checks all preconditions of an install, in the order in which their problems are shown.
func (s *site) preflight(ctx context.Context) error {
	s.check(ctx, rights{s.User, s.Geteuid(), s.Home}, executable{s.Binary}, userName{s.InitUser},
		mirrorRegistry{s.Host, s.unitDir(), s.QuayRoot})
	if !s.generated {
		s.check(ctx, password{s.InitPassword})
	}
	if s.cfg == nil {
		s.check(ctx, hostnameSyntax{normalizeHostname(s.Hostname)})
		return ctx.Err()
	}
	s.check(ctx, hostnameSyntax{s.cfg.Hostname}, hostnameResolves{s.Resolver, s.cfg.Hostname}, privilegedPort{s.Host, s.cfg.Port, s.User},
		apart{s.Host, s.cfg.Storage, s.databaseDir()}, storageContent{s.Host, s.cfg.Storage, s.cfg.Database}, databaseContent{s.Host, s.cfg.Database})
	if !s.listening {
		s.check(ctx, freePort{s.Host, s.cfg.Port})
	}
	s.checkPlaces(ctx)
	if len(s.problems) == 0 && !s.kept {
		// A fault that the checks do not find must not reach the daemon.
		if _, err := s.cfg.Marshal(); err != nil {
			s.fault(err, "change the flag that this value came from")
		}
	}
	return ctx.Err()
}

// Space that a directory needs without images.
const (
	storageSpace  = 1 << 30
	databaseSpace = 256 << 20
	binarySpace   = 128 << 20
)

// checkPlaces checks the directories that are written to.
func (s *site) checkPlaces(ctx context.Context) {
	root := place{s.Host, "--quayRoot", s.QuayRoot}
	storage := place{s.Host, "--quayStorage", s.cfg.Storage}
	database := place{s.Host, "--sqliteStorage", s.databaseDir()}
	binary := place{s.Host, "the executable's directory", filepath.Dir(s.binary)}
	units := place{s.Host, "the unit directory", s.unitDir()}

	s.check(ctx, root, owners{root}, changedBy{root, s.User})
	// In the place of quayRoot a directory in it, since quayRoot has to be passed through as well.
	reached := []place{{s.Host, root.name, filepath.Join(root.path, "quay-config")}}
	for _, p := range []place{storage, database} {
		if !within(p.path, s.QuayRoot) {
			s.check(ctx, p, owners{p})
			reached = append(reached, p)
		}
	}
	for _, d := range s.ownDirs() {
		outside := !within(d.path, s.QuayRoot)
		if outside {
			s.check(ctx, d.place)
		}
		// A directory of the system or a home needs no list of what it has.
		if (outside || s.unit == nil && s.record == nil) && s.Host.Removable(d.path) == nil {
			s.check(ctx, d)
		}
	}
	s.check(ctx, writable{binary}, executes{binary}, writable{units}, localDisk{database})
	if s.unit == nil {
		free := uint64(max(s.cfg.MinFree, 0)) // pushes leave that free
		s.check(ctx, space{storage, storageSpace + free}, space{database, databaseSpace + free}, space{binary, binarySpace})
	}
	if !s.User {
		for _, p := range reached {
			s.check(ctx, passable{p, s.QuayRoot})
		}
	}
}

// ownDirs are those for which an edited configuration may name any directory.
func (s *site) ownDirs() []alone {
	socket := s.cfg.ControlSocket
	dirs := []alone{{place{s.Host, "the control socket's directory", filepath.Dir(socket)}, []string{filepath.Base(socket)}}}
	if s.cfg.TLS.State != "" {
		dirs = append(dirs, alone{place{s.Host, "the directory of tls.state", s.cfg.TLS.State}, []string{"certificates"}})
	}
	return dirs
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
