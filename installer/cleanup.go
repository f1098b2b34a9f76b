package installer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	parts adopt.Parts
	files []string // of retired units
	trees []tree
	bytes int64
}

func (c *cleaner) all(ctx context.Context) error {
	if err := c.units(); err != nil || len(c.files) == 0 {
		return err
	}
	if err := c.podman(ctx); err != nil {
		return err
	}
	if !c.RemoveContent { // the retired units lead to it, the next time
		return nil
	}
	if err := c.content(ctx); err != nil {
		return err
	}
	c.remaining = c.remains
	if c.bytes > 0 {
		c.Loses = fmt.Sprintf("%s of images, databases and certificates", humanize.IBytes(uint64(c.bytes)))
	}
	for _, file := range c.files {
		c.add(&inverse{host.Entry{Step: &host.File{Host: c.Host, Path: file}, Before: &host.Before{}}})
	}
	c.bus.needed = true
	c.add(&reload{bus: c.bus})
	return nil
}

// units reads the retired units.
func (c *cleaner) units() error {
	var files []string
	for _, unit := range retired() {
		files = append(files, c.unitFile(unit)+RetiredSuffix)
	}
	for _, file := range append(files, adopt.QuadletFile(c.unitDir())+RetiredSuffix) {
		text, err := c.Host.ReadFile(file)
		if notThere(err) {
			continue
		}
		if err != nil {
			return err
		}
		c.files = append(c.files, file)
		c.parts.Add(adopt.PartsOf(string(text)))
	}
	return nil
}

// podman adds what podman has, if there is one, except for volumes. Nothing that runs is removed, and no
// image that another container needs.
func (c *cleaner) podman(ctx context.Context) error {
	for _, kind := range []struct {
		names  []string
		what   string
		exists []string
		remove []string
	}{
		{c.parts.Pods, "pod", []string{"pod", "exists"}, []string{"pod", "rm", "--ignore"}},
		{c.parts.Containers, "container", []string{"container", "exists"}, []string{"rm", "--ignore"}},
		{c.parts.Secrets, "secret", []string{"secret", "inspect"}, []string{"secret", "rm"}},
		{c.parts.Images, "image", []string{"image", "exists"}, []string{"rmi"}},
	} {
		for _, name := range kind.names {
			if _, err := c.Host.Run(ctx, "podman", append(slices.Clone(kind.exists), "--", name)...); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				continue // no such thing, or no podman
			}
			c.add(&podman{host: c.Host, what: kind.what, name: name, args: append(slices.Clone(kind.remove), "--", name)})
		}
	}
	return nil
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
