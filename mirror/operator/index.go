// Package operator reads file-based catalogs of operators, selects of them what an image set asks
// for, and writes what is left.
//
// Scan reads a catalog once and returns its Index, which is small and can be kept (WriteTo,
// ReadIndex); everything after that is a function of the index. Select applies an operator entry
// of an image set, Selection.Images reads what the bundles need, Selection.Files has the catalog
// that is left. The bytes of bundles stay in the files of the catalog and are read by offset.
//
// The package knows no network, no clock and no path of the host. Refused: operator-registry and
// oc-mirror's filter library, which hold a catalog in memory as decoded objects, 3 GiB of the
// largest, write it differently from how they read it, and bring 181 modules. They are what
// testdata/olmcheck compares this package with.
package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Index has of a catalog what a selection is made from.
type Index struct {
	files    []string
	packages []*pack // by name
	loose    []place // values of other schemas that belong to no package
	props    [][]property
}

// place is where a value stands in the files of a catalog.
type place struct {
	file   int
	offset int64
	length int
	yaml   bool
}

// pack is what a catalog has of one package.
type pack struct {
	name         string
	blobs        []packageBlob // one, in a catalog without faults
	channels     []channel
	bundles      []bundle // by name
	deprecations []deprecations
	others       []place
}

type packageBlob struct {
	at             place
	defaultChannel string
}

type channel struct {
	at      place
	name    string
	entries []entry
}

type entry struct {
	Name      string   `json:"name"`
	Replaces  string   `json:"replaces"`
	Skips     []string `json:"skips"`
	SkipRange string   `json:"skipRange"`
}

type bundle struct {
	at      place
	name    string
	version string
	props   int // in Index.props; many bundles have the same
}

// deprecations is one olm.deprecations, and what its entries are about.
type deprecations struct {
	at      place
	entries []reference
}

type reference struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

// property is a property of bundles that decides about dependencies. Value is compact JSON.
type property struct{ kind, value string }

// Scan reads the catalog in files: every file that no .indexignore names, in JSON or YAML.
// An error names the file, and the place in it.
func Scan(ctx context.Context, files fs.FS) (*Index, error) {
	s := &scan{index: &Index{}, byName: map[string]*pack{}, texts: map[string]string{}, props: map[string]int{}}
	ignored := ignores{}
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return unreadable(name, err)
		case e.IsDir():
			return ignored.read(files, name)
		case e.Name() == ignoreFile || ignored.match(name):
			return nil
		}
		info, err := fs.Stat(files, name)
		if err != nil {
			return unreadable(name, err)
		}
		if !info.Mode().IsRegular() {
			return nil // a link to a directory, for example, which opm does not read either
		}
		return s.file(ctx, files, name)
	})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	return s.finish(), nil
}

// unreadable returns the error for a file of a catalog that cannot be read, such as a link to itself.
func unreadable(name string, err error) error {
	var of *fs.PathError
	if name == "." { // the catalog itself, which its reader names
		return err
	}
	if errors.As(err, &of) {
		err = of.Err
	}
	return hint.New(fmt.Errorf("%s: %w", name, err), "mend the file in the catalog, or name it in .indexignore")
}

// scan is an index that is being made.
type scan struct {
	index  *Index
	byName map[string]*pack
	texts  map[string]string // each string is held once
	props  map[string]int    // the place of a set of properties in index.props
}

func (s *scan) file(ctx context.Context, files fs.FS, name string) error {
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s.index.files = append(s.index.files, name)
	values := newSplitter(f)
	for {
		v, err := values.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			at := place{len(s.index.files) - 1, v.offset, len(v.raw), values.yaml}
			if err = s.value(v.json, at); err != nil {
				err = fmt.Errorf("the value at byte %d: %w", v.offset, err)
			}
		}
		if err != nil {
			return hint.New(fmt.Errorf("%s: %w", name, err),
				"opm validate says what else is wrong with a catalog; name files that are no part of it in .indexignore")
		}
	}
}

// meta has the keys that every value of a catalog has.
type meta struct{ schema, pkg, name string }

func readMeta(b []byte) (meta, error) {
	var m meta
	var failed error
	eachKey(b, func(key string, at span) {
		to := map[string]*string{"schema": &m.schema, "package": &m.pkg, "name": &m.name}[key]
		if to == nil {
			return
		}
		text, err := stringOf(key, b[at.from:at.to])
		*to, failed = text, cmp.Or(failed, err)
	})
	if failed == nil && m.schema == "" {
		failed = errors.New("it has no schema, as each value of a catalog must")
	}
	return m, failed
}

func (s *scan) value(b []byte, at place) error {
	if b[0] != '{' {
		return errors.New("it is not an object")
	}
	m, err := readMeta(b)
	if err != nil {
		return err
	}
	if m.schema == "olm.package" && m.pkg == "" {
		m.pkg = m.name
	}
	if m.pkg == "" && !strings.HasPrefix(m.schema, "olm.") {
		s.index.loose = append(s.index.loose, at)
		return nil
	}
	p, err := s.pack(m)
	if err != nil {
		return err
	}
	switch m.schema {
	case "olm.package":
		err = s.packageBlob(p, b, at)
	case "olm.channel":
		err = s.channel(p, m.name, b, at)
	case "olm.bundle":
		s.bundle(p, m.name, b, at)
	case "olm.deprecations":
		err = s.deprecations(p, b, at)
	default:
		p.others = append(p.others, at)
	}
	return err
}

// pack returns the package of a value. Its name becomes that of a directory.
func (s *scan) pack(m meta) (*pack, error) {
	if p := s.byName[m.pkg]; p != nil {
		return p, nil
	}
	if m.pkg == "" {
		return nil, fmt.Errorf("%s %q names no package", m.schema, m.name)
	}
	if !fs.ValidPath(m.pkg) || m.pkg == "." || strings.ContainsAny(m.pkg, "/\\\x00") || len(m.pkg) > 255 {
		return nil, fmt.Errorf("%q cannot be the name of a package", m.pkg)
	}
	p := &pack{name: strings.Clone(m.pkg)}
	s.byName[p.name] = p
	s.index.packages = append(s.index.packages, p)
	return p, nil
}

// text returns s as it is held already, so that the bytes of a whole value are not held by it.
func (s *scan) text(t string) string {
	if have, ok := s.texts[t]; ok {
		return have
	}
	t = strings.Clone(t)
	s.texts[t] = t
	return t
}

// finish sorts what was found, so that the index does not depend on which file has what.
func (s *scan) finish() *Index {
	slices.SortFunc(s.index.packages, func(a, b *pack) int { return cmp.Compare(a.name, b.name) })
	for _, p := range s.index.packages {
		slices.SortStableFunc(p.channels, func(a, b channel) int { return cmp.Compare(a.name, b.name) })
		slices.SortStableFunc(p.bundles, func(a, b bundle) int { return cmp.Compare(a.name, b.name) })
	}
	return s.index
}

// Packages returns the names of the packages.
func (x *Index) Packages() []string {
	var names []string
	for _, p := range x.packages {
		names = append(names, p.name)
	}
	return names
}

// pack returns a package by its name, nil if the catalog does not have it.
func (x *Index) pack(name string) *pack {
	i, ok := slices.BinarySearchFunc(x.packages, name, func(p *pack, name string) int { return cmp.Compare(p.name, name) })
	if !ok {
		return nil
	}
	return x.packages[i]
}
