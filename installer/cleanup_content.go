package installer

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
)

// tree is what a mirror-registry makes in a directory.
type tree struct {
	adopt.Made
	top    bool     // no later one has the same directory, which goes when it is empty
	volume string   // of podman's that it lies in; "": none
	used   string   // what the appliance uses that the directory is, or lies in; "": nothing
	inside []string // what the appliance uses below the directory
}

// content adds what removes images, database and configuration: names that the mirror-registry makes, and a
// directory if that was all. The configuration goes last, since it tells where the rest is.
func (c *cleaner) content(ctx context.Context) (err error) {
	volumes, err := c.volumes(ctx)
	if err != nil {
		return err
	}
	c.lookAtTrees(volumes)
	if c.Stays, err = c.staying(ctx); err != nil {
		return err
	}
	sizes := map[string]size{} // of volumes
	for i, t := range c.trees {
		if ok, err := c.Host.Exists(t.Dir); err != nil {
			return err
		} else if !ok || t.used != "" {
			continue
		}
		size, err := c.measure(ctx, i)
		if err != nil {
			return err
		}
		c.bytes += size.bytes
		if t.volume == "" || c.staysIn(volumes[t.volume]) {
			if size.files == 0 && !t.top {
				continue
			}
			c.add(&sweep{host: c.Host, tree: t, known: c.known(t), size: size})
			continue
		}
		sizes[t.volume] = sizes[t.volume].plus(size)
		if !slices.ContainsFunc(c.trees[i+1:], func(later tree) bool { return later.volume == t.volume }) {
			c.add(&podman{host: c.Host, what: "volume", name: t.volume, args: []string{"volume", "rm", "--", t.volume}, size: sizes[t.volume]})
		}
	}
	return nil
}

// volumes returns the directories of podman's volumes.
func (c *cleaner) volumes(ctx context.Context) (dirs map[string]string, err error) {
	dirs = map[string]string{}
	for _, name := range c.parts.Volumes {
		out, err := c.Host.Run(ctx, "podman", "volume", "inspect", "--format", "{{.Mountpoint}}", "--", name)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if dir := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(dir) {
			dirs[name] = dir
		}
	}
	return dirs, nil
}

// lookAtTrees finds out what the appliance uses, and warns of it.
func (c *cleaner) lookAtTrees(volumes map[string]string) {
	made := c.quay.Made()
	for i, m := range made {
		t := tree{Made: m, top: !slices.ContainsFunc(made[i+1:], func(later adopt.Made) bool { return later.Dir == m.Dir })}
		for name, dir := range volumes {
			if within(m.Dir, dir) {
				t.volume = name
			}
		}
		for _, used := range c.uses() {
			switch {
			case c.leadsTo(used, m.Dir):
				t.used = used
			case c.leadsTo(m.Dir, used):
				t.inside = append(t.inside, used)
			}
		}
		if ok, _ := c.Host.Exists(m.Dir); ok && t.used != "" && t.top {
			c.stays(m.Dir, t.used)
		}
		c.trees = append(c.trees, t)
	}
}

func (c *cleaner) stays(path, used string) {
	c.Warnings = append(c.Warnings, Problem{Warning: true, What: path + " stays: the appliance uses " + used, Remedy: "nothing has to be done"})
}

// usedAt returns what the appliance uses that a path below a tree is, or lies in.
func (c *cleaner) usedAt(t tree, path string) (used string, is bool) {
	for _, used := range t.inside {
		if c.leadsTo(used, path) {
			return used, true
		}
	}
	return "", false
}

// known tells what goes of a tree.
func (c *cleaner) known(t tree) host.Known {
	return func(name string, dir bool) bool {
		if !t.Knows(name, dir) {
			return false
		}
		_, used := c.usedAt(t, filepath.Join(t.Dir, name))
		return !used
	}
}

// staying lists what is not of the mirror-registry, or is used by the appliance, and so stays in its
// directories.
func (c *cleaner) staying(ctx context.Context) (paths []string, err error) {
	for _, t := range c.trees {
		if !t.top || t.used != "" {
			continue
		}
		err := c.Host.EachBelow(ctx, t.Dir, c.anyKnown(t.Dir), func(name string, info fs.FileInfo, known bool) error {
			path := filepath.Join(t.Dir, name)
			if known || slices.ContainsFunc(c.trees, func(other tree) bool { return other.Dir == path && other.used == "" }) {
				return nil
			}
			used, is := c.usedAt(t, path)
			switch {
			case is:
				path += " (the appliance uses " + used + ")"
			case info.IsDir():
				path += "/"
			}
			paths = append(paths, path)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look at what is left of the mirror-registry: %w", err)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// anyKnown tells what any tree of a directory knows.
func (c *cleaner) anyKnown(dir string) host.Known {
	var all []host.Known
	for _, t := range c.trees {
		if t.Dir == dir {
			all = append(all, c.known(t))
		}
	}
	return func(name string, dir bool) bool {
		return slices.ContainsFunc(all, func(known host.Known) bool { return known(name, dir) })
	}
}

func (c *cleaner) staysIn(dir string) bool {
	return slices.ContainsFunc(c.Stays, func(path string) bool { return within(path, dir) })
}

// remains lists what has stayed: what was to stay, and directories that could not be removed.
func (c *cleaner) remains(ctx context.Context) ([]string, error) {
	paths, err := c.staying(ctx)
	for _, t := range c.trees {
		ok, _ := c.Host.Exists(t.Dir)
		if ok && t.top && !slices.ContainsFunc(paths, func(path string) bool { return within(path, t.Dir) }) {
			paths = append(paths, t.Dir+"/")
		}
	}
	slices.Sort(paths)
	return paths, err
}

// size is how much there is.
type size struct {
	files  int
	bytes  int64
	shared int64 // in files that have other names too, such as those of the appliance
}

func (z size) plus(other size) size {
	return size{z.files + other.files, z.bytes + other.bytes, z.shared + other.shared}
}

func (z size) String() string {
	text := humanize.IBytes(uint64(z.bytes))
	if z.shared > 0 {
		text += fmt.Sprintf(", of which %s are the appliance's as well and stay", humanize.IBytes(uint64(z.shared)))
	}
	return text
}

// measure measures what goes with a tree, and not with an earlier one.
func (c *cleaner) measure(ctx context.Context, n int) (z size, err error) {
	t := c.trees[n]
	err = c.Host.EachBelow(ctx, t.Dir, c.known(t), func(name string, info fs.FileInfo, known bool) error {
		earlier := slices.ContainsFunc(c.trees[:n], func(e tree) bool { return e.Dir == t.Dir && e.Knows(name, false) })
		if !known || info.IsDir() || earlier {
			return nil
		}
		z = z.plus(size{files: 1, bytes: info.Size()})
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

// sweep removes what a mirror-registry has made in a directory, and the directory when that was all.
type sweep struct {
	action
	host  *host.Host
	tree  tree
	known host.Known
	size  size
}

func (s *sweep) String() string {
	text := fmt.Sprintf("remove the %s in %s (%s)", s.tree.What, s.tree.Dir, s.size)
	switch {
	case s.size.files == 0:
		return "remove " + s.tree.Dir + " if it is empty"
	case s.tree.top:
		text += ", and the directory if it is empty then"
	}
	return text
}

func (s *sweep) Apply(ctx context.Context) (bool, error) {
	removed, err := s.host.RemoveBelow(ctx, s.tree.Dir, s.known)
	if err != nil || !s.tree.top || s.host.Removable(s.tree.Dir) != nil {
		return removed, err
	}
	dir := host.Dir{Host: s.host, Path: s.tree.Dir}
	gone, err := dir.Undo(ctx, &host.Before{})
	return removed || gone, err
}
