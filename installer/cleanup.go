package installer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
)

// PlanCleanup plans to remove what is left of a mirror-registry whose place the appliance has taken:
// its units, what podman has of it and, with RemoveContent, its directories and volumes. Nothing that
// the appliance uses is removed. A plan without steps says that nothing is left.
func PlanCleanup(ctx context.Context, r Request, d Deps, quay adopt.QuayInstall) (*Plan, error) {
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.unit, err = find(s.Deps, s.User); err != nil {
		return nil, err
	}
	if !s.look() || len(s.problems) > 0 {
		return nil, &PreflightError{Problems: s.problems}
	}
	if err := s.installedConfig(); err != nil {
		return nil, err
	}
	s.lookAtPrograms()
	if s.quayUnit != "" {
		s.problem("a mirror-registry is installed on this host ("+s.quayUnit+"), and nothing was taken over",
			"take its place first: appliance install --adopt --cleanup, with another --quayRoot")
	}
	if s.journal != nil && len(s.journal.Entries) > 0 {
		s.problem("an install was interrupted", "complete it first: the same command again")
	}
	plan, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	plan.journal = new(host.Journal)
	c := &cleaner{site: s, Plan: plan, quay: quay}
	return plan, c.all(ctx)
}

// cleaner collects the steps of a cleanup.
type cleaner struct {
	*site
	*Plan
	quay  adopt.QuayInstall
	files []string // of retired units
	bytes int64
}

func (c *cleaner) all(ctx context.Context) error {
	parts, err := c.units()
	if err != nil || len(c.files) == 0 {
		return err
	}
	if err := c.podman(ctx, parts); err != nil {
		return err
	}
	if c.RemoveContent {
		if err := c.content(ctx); err != nil {
			return err
		}
		if c.bytes > 0 {
			c.Loses = fmt.Sprintf("%s of images, databases and certificates", humanize.IBytes(uint64(c.bytes)))
		}
	}
	if !c.RemoveContent { // the retired units lead to it, the next time
		return nil
	}
	for _, file := range c.files {
		c.add(&inverse{host.Entry{Step: &host.File{Host: c.Host, Path: file}, Before: &host.Before{}}})
	}
	c.bus.needed = true
	c.add(&reload{bus: c.bus})
	return nil
}

// units reads the retired units.
func (c *cleaner) units() (parts adopt.Parts, err error) {
	files := []string{adopt.QuadletFile(c.unitDir()) + RetiredSuffix}
	for _, unit := range retired() {
		files = append(files, c.unitFile(unit)+RetiredSuffix)
	}
	for _, file := range files {
		text, err := c.Host.ReadFile(file)
		if notThere(err) {
			continue
		}
		if err != nil {
			return parts, err
		}
		c.files = append(c.files, file)
		p := adopt.PartsOf(string(text))
		parts.Pods, parts.Containers = append(parts.Pods, p.Pods...), append(parts.Containers, p.Containers...)
		parts.Secrets, parts.Images = append(parts.Secrets, p.Secrets...), append(parts.Images, p.Images...)
		parts.Volumes = append(parts.Volumes, p.Volumes...)
	}
	return parts, nil
}

// podman adds what podman has, if there is one. Nothing that runs is removed, and no image that
// another container needs.
func (c *cleaner) podman(ctx context.Context, parts adopt.Parts) error {
	kinds := []struct {
		names  []string
		what   string
		exists []string
		remove []string
	}{
		{parts.Pods, "pod", []string{"pod", "exists"}, []string{"pod", "rm", "--ignore"}},
		{parts.Containers, "container", []string{"container", "exists"}, []string{"rm", "--ignore"}},
		{parts.Secrets, "secret", []string{"secret", "inspect"}, []string{"secret", "rm"}},
		{parts.Volumes, "volume", []string{"volume", "exists"}, []string{"volume", "rm"}},
		{parts.Images, "image", []string{"image", "exists"}, []string{"rmi"}},
	}
	for _, kind := range kinds {
		for _, name := range kind.names {
			if _, err := c.Host.Run(ctx, "podman", append(slices.Clone(kind.exists), "--", name)...); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				continue // no such thing, or no podman
			}
			step := &podman{host: c.Host, what: kind.what, name: name, args: append(slices.Clone(kind.remove), "--", name)}
			if kind.what == "volume" {
				if !c.RemoveContent || !c.volume(ctx, step) {
					continue
				}
			}
			c.add(step)
		}
	}
	return nil
}

// volume looks into a volume, and reports whether it may go.
func (c *cleaner) volume(ctx context.Context, step *podman) bool {
	out, err := c.Host.Run(ctx, "podman", "volume", "inspect", "--format", "{{.Mountpoint}}", "--", step.name)
	dir := strings.TrimSpace(string(out))
	if err != nil || !filepath.IsAbs(dir) || !c.free(dir) {
		return false
	}
	step.size, err = c.measure(ctx, dir)
	c.bytes += step.size.bytes
	return err == nil
}

// content adds the directories. Of a directory that the user has named, what a mirror-registry makes
// in it is removed, and the directory if that was all.
func (c *cleaner) content(ctx context.Context) error {
	for _, path := range c.places() {
		if ok, err := c.Host.Exists(path); err != nil || !ok || !c.free(path) {
			if err != nil {
				return err
			}
			continue
		}
		size, err := c.measure(ctx, path)
		if err != nil {
			return err
		}
		c.bytes += size.bytes
		c.add(&sweep{dir: host.Dir{Host: c.Host, Path: path, Whole: true}, size: size})
	}
	for _, dir := range c.tops() {
		if ok, err := c.Host.Exists(dir); err == nil && ok && c.Host.Removable(dir) == nil {
			c.add(&sweep{dir: host.Dir{Host: c.Host, Path: dir}})
		}
	}
	return nil
}

// tops are the directories of the mirror-registry, the inner ones first.
func (c *cleaner) tops() (dirs []string) {
	for _, dir := range []string{c.quay.Storage, filepath.Dir(c.quay.Database), c.quay.Root} {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return len(b) - len(a) })
	return dirs
}

// places are what a mirror-registry makes.
func (c *cleaner) places() (paths []string) {
	if !filepath.IsAbs(c.quay.Root) {
		return nil
	}
	in := func(dir string, names ...string) {
		for _, name := range names {
			if filepath.IsAbs(dir) {
				paths = append(paths, filepath.Join(dir, name))
			}
		}
	}
	database := []string{filepath.Base(c.quay.Database)}
	names, _ := c.Host.Names(filepath.Dir(c.quay.Database)) // what cannot be listed stays
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, database[0]); ok && (rest == "-wal" || rest == "-shm" || strings.HasPrefix(rest, ".backup-")) {
			database = append(database, name)
		}
	}
	if c.quay.Version3 {
		in(c.quay.Root, "auth", "ssl.cert", "ssl.key", "rootCA.pem", "registry-jwt.pem", "config.yaml", ".migration-in-progress")
	} else {
		in(c.quay.Root, "quay-config", "quay-rootCA")
	}
	in(filepath.Dir(c.quay.Database), database...)
	in(c.quay.Storage, "sha256", "uploads")
	return paths
}

// free reports whether the appliance has no use for a path, and warns if it has.
func (c *cleaner) free(path string) bool {
	if err := c.Host.Removable(path); err != nil {
		c.Warnings = append(c.Warnings, Problem{Warning: true, What: path + " stays: " + err.Error(), Remedy: "remove it yourself if you want to"})
		return false
	}
	for _, used := range c.uses() {
		if c.leadsTo(path, used) || c.leadsTo(used, path) {
			c.Warnings = append(c.Warnings, Problem{Warning: true, What: path + " stays: the appliance uses " + used, Remedy: "nothing has to be done"})
			return false
		}
	}
	return true
}

// uses are the paths of the appliance: its own, and all that config.yaml names.
func (s *site) uses() []string {
	paths := []string{s.confDir(), s.caDir(), s.cfg.Storage, s.cfg.Database, s.cfg.ControlSocket, s.binary, s.unitDir()}
	var all any
	if yaml.Unmarshal(s.content, &all) != nil {
		return paths
	}
	var collect func(value any)
	collect = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			for _, inner := range v {
				collect(inner)
			}
		case []any:
			for _, inner := range v {
				collect(inner)
			}
		case string:
			if len(v) > 1 && filepath.IsAbs(v) {
				paths = append(paths, filepath.Clean(v))
			}
		}
	}
	collect(all)
	return paths
}

// leadsTo reports whether a path is dir or below it, also by a link or another mount.
func (s *site) leadsTo(dir, path string) bool {
	real := s.Host.Real(dir)
	at, err := os.Stat(s.Host.Path(real))
	for p := s.Host.Real(path); ; p = filepath.Dir(p) {
		if p == real {
			return true
		}
		if info, err2 := os.Stat(s.Host.Path(p)); err == nil && err2 == nil && os.SameFile(at, info) {
			return true
		}
		if p == filepath.Dir(p) {
			return false
		}
	}
}

// size is how much there is.
type size struct {
	bytes  int64
	shared int64 // in files that have other names too, such as those of the appliance
}

func (z size) String() string {
	text := humanize.IBytes(uint64(z.bytes))
	if z.shared > 0 {
		text += fmt.Sprintf(", of which %s are the appliance's as well and stay", humanize.IBytes(uint64(z.shared)))
	}
	return text
}

func (s *site) measure(ctx context.Context, path string) (z size, err error) {
	err = filepath.WalkDir(s.Host.Path(path), func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		z.bytes += info.Size()
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
			z.shared += info.Size()
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("look at what is left of the mirror-registry: %w", err)
	}
	return z, err
}

// sweep removes a directory or a file of a mirror-registry.
type sweep struct {
	action
	dir  host.Dir
	size size
}

func (s *sweep) String() string {
	if !s.dir.Whole {
		return "remove " + s.dir.Path + " if it is empty"
	}
	return fmt.Sprintf("remove %s with all that lies in it (%s)", s.dir.Path, s.size)
}

func (s *sweep) Apply(ctx context.Context) (bool, error) {
	return s.dir.Undo(ctx, &host.Before{})
}

// podman removes something of podman's.
type podman struct {
	action
	host *host.Host
	what string
	name string
	args []string
	size size
}

func (s *podman) String() string {
	text := "remove podman's " + s.what + " " + s.name
	if s.size.bytes > 0 {
		text += " (" + s.size.String() + ")"
	}
	return text
}

func (s *podman) Apply(ctx context.Context) (bool, error) {
	if s.what == "image" {
		users, err := s.host.Run(ctx, "podman", "ps", "--all", "--quiet", "--filter", "ancestor="+s.name)
		if err != nil || len(strings.TrimSpace(string(users))) > 0 {
			return false, err
		}
	}
	_, err := s.host.Run(ctx, "podman", s.args...)
	return err == nil, err
}
