package installer

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
)

// check is one precondition. It gives the problems with it, mostly none or one, and writes nothing.
type check interface {
	Check(ctx context.Context) []Problem
}

// Preflight checks every precondition of an install and returns all problems, warnings among them.
// The error is about the caller or the environment (no home directory), not about the host.
func Preflight(ctx context.Context, r Request, d Deps) ([]Problem, error) {
	t, err := resolve(ctx, r, d)
	if err != nil {
		return nil, err
	}
	return t.preflight(ctx)
}

func (t *target) preflight(ctx context.Context) ([]Problem, error) {
	problems := t.problems
	for _, c := range t.checks() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		problems = append(problems, c.Check(ctx)...)
	}
	if len(problems) == 0 && !t.kept {
		// What the checks overlooked, the daemon must not be the first to find.
		if _, err := t.cfg.Marshal(); err != nil {
			problems = append(problems, Problem{What: err.Error(), Remedy: hintOf(err, "change the flag that this value came from")})
		}
	}
	return problems, nil
}

// checks lists the preconditions, in the order in which their problems are shown.
func (t *target) checks() []check {
	checks := []check{
		rights{t.User, t.Geteuid(), t.Home},
		executable{t.Binary},
		userName{t.InitUser, t.CheckName},
		mirrorRegistry{t.Host, t.unitDir(t.User), t.QuayRoot},
	}
	if !t.generated {
		checks = append(checks, password{t.InitPassword, t.CheckPassword})
	}
	if t.cfg == nil {
		return append(checks, hostnameSyntax{normalizeHostname(t.Hostname)})
	}
	checks = append(checks,
		hostnameSyntax{t.cfg.Hostname},
		hostnameResolves{t.Resolver, t.cfg.Hostname},
		privilegedPort{t.Host, t.cfg.Port, t.User},
		apart{t.Host, t.cfg.Storage, t.databaseDir()},
		storageContent{t.Host, t.cfg.Storage, t.cfg.Database},
		databaseContent{t.Host, t.cfg.Database},
	)
	if !t.running {
		checks = append(checks, freePort{t.Host, t.cfg.Port})
	}
	return append(checks, t.placeChecks()...)
}

// Space that a directory needs on an empty host. The images come on top; how much, the user knows.
const (
	storageSpace  = 1 << 30
	databaseSpace = 256 << 20
	binarySpace   = 128 << 20
)

// placeChecks are about the directories that are going to be written to.
func (t *target) placeChecks() []check {
	root := place{t.Host, "--quayRoot", t.QuayRoot}
	storage := place{t.Host, "--quayStorage", t.cfg.Storage}
	database := place{t.Host, "--sqliteStorage", t.databaseDir()}
	binary := place{t.Host, "the executable's directory", filepath.Dir(t.binary)}
	units := place{t.Host, "the unit directory", t.unitDir(t.User)}

	checks := []check{root, owners{root}, changedBy{root, t.User}}
	// What lies in quayRoot, since that has to be passed through as well.
	reached := []place{{t.Host, root.name, filepath.Join(root.path, "quay-config")}}
	for _, p := range []place{storage, database} {
		if !within(p.path, t.QuayRoot) {
			checks = append(checks, p, owners{p})
			reached = append(reached, p)
		}
	}
	for _, d := range t.ownDirs() {
		outside := !within(d.path, t.QuayRoot)
		if outside {
			checks = append(checks, d.place)
		}
		// One of the system or a home needs no list of what it holds.
		if outside || t.found == nil && t.record == nil {
			if err := t.Host.Removable(d.path); err == nil {
				checks = append(checks, d)
			}
		}
	}
	checks = append(checks, writable{binary}, executes{binary}, writable{units}, localDisk{database})
	if t.found == nil {
		// Pushes leave minFree free, so that it has to be there besides.
		free := uint64(max(t.cfg.MinFree, 0))
		checks = append(checks, space{storage, storageSpace + free}, space{database, databaseSpace + free}, space{binary, binarySpace})
	}
	if !t.User {
		for _, p := range reached {
			checks = append(checks, passable{p, t.QuayRoot})
		}
	}
	return checks
}

// ownDirs are those for which an edited configuration may name any directory.
func (t *target) ownDirs() []alone {
	dirs := []alone{{place{t.Host, "the control socket's directory", filepath.Dir(t.cfg.ControlSocket)}, []string{filepath.Base(t.cfg.ControlSocket)}}}
	if t.cfg.TLS.State != "" {
		dirs = append(dirs, alone{place{t.Host, "the directory of tls.state", t.cfg.TLS.State}, []string{"certificates"}})
	}
	return dirs
}

// within says whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func isNotDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

func found(what, remedy string) []Problem { return []Problem{{What: what, Remedy: remedy}} }
