package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// File is one file of the catalog that a selection leaves.
type File struct {
	Name string // relative to the directory of the catalog, with slashes
	Size int64

	index  *Index
	pieces []piece
}

// piece is one value of a file: bytes, or where they stand in the catalog.
type piece struct {
	text []byte
	at   place
}

// Files returns the files of the catalog: <package>/catalog.json, and catalog.json for values that
// belong to no package. What the selection does not change is written byte for byte as it came.
// Equal selections of equal catalogs have equal files. files is the catalog that was scanned.
func (s *Selection) Files(ctx context.Context, files fs.FS) ([]File, error) {
	r := s.index.reader(files)
	defer r.close()
	var out []File
	for _, p := range s.parts {
		f, err := p.file(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("write package %q: %w", p.pack.name, err)
		}
		out = append(out, f)
	}
	if len(s.index.loose) > 0 {
		f := File{Name: "catalog.json", index: s.index}
		for _, at := range s.index.loose {
			if err := f.add(r, at, nil); err != nil {
				return nil, err
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// WriteTo writes the file, reading bundles from the catalog that was scanned.
func (f File) WriteTo(ctx context.Context, files fs.FS, w io.Writer) error {
	r := f.index.reader(files)
	defer r.close()
	for _, p := range f.pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		text := p.text
		if text == nil {
			var err error
			if text, err = r.read(p.at); err != nil {
				return err
			}
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if _, err := w.Write([]byte{'\n'}); err != nil {
			return err
		}
	}
	return nil
}

// add appends the value at a place, or the text that it became.
func (f *File) add(r *reader, at place, text []byte) error {
	size := at.length
	if text == nil && at.yaml {
		converted, err := r.read(at)
		if err != nil {
			return err
		}
		size = len(converted)
	}
	if text != nil {
		size = len(text)
	}
	f.Size += int64(size) + 1
	f.pieces = append(f.pieces, piece{text, at})
	return nil
}

// file puts together what is left of a package.
func (p *part) file(ctx context.Context, r *reader) (File, error) {
	f := File{Name: p.pack.name + "/catalog.json", index: p.selection.index}
	for _, b := range p.pack.blobs {
		var text []byte
		if b.defaultChannel != p.defaultChannel {
			raw, err := r.read(b.at)
			if err != nil {
				return f, err
			}
			quoted, _ := json.Marshal(p.defaultChannel)
			text = replaceKey(raw, "defaultChannel", quoted)
		}
		if err := f.add(r, b.at, text); err != nil {
			return f, err
		}
	}
	for _, c := range p.channels {
		text, err := p.channelText(r, c)
		if err == nil {
			err = f.add(r, c.at, text)
		}
		if err != nil {
			return f, err
		}
	}
	for _, b := range p.bundles {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		if err := f.add(r, b.at, nil); err != nil {
			return f, err
		}
	}
	for _, d := range p.pack.deprecations {
		if err := p.addDeprecations(&f, r, d); err != nil {
			return f, err
		}
	}
	for _, at := range p.pack.others {
		if err := f.add(r, at, nil); err != nil {
			return f, err
		}
	}
	return f, nil
}

// channelText returns the channel with only the kept entries, nil if it keeps all.
func (p *part) channelText(r *reader, c keptChannel) ([]byte, error) {
	return filtered(r, c.at, len(c.entries), func(i int) bool { return c.keep(c.entries[i].Name) })
}

// addDeprecations adds those of the package itself, and of channels and bundles that are kept.
func (p *part) addDeprecations(f *File, r *reader, d deprecations) error {
	keep := func(i int) bool { return p.asIs && p.selection.whole || p.keepsDeprecation(d.entries[i]) }
	none := len(d.entries) > 0
	for i := range d.entries {
		none = none && !keep(i)
	}
	if none {
		return nil
	}
	text, err := filtered(r, d.at, len(d.entries), keep)
	if err != nil {
		return err
	}
	return f.add(r, d.at, text)
}

func (p *part) keepsDeprecation(about reference) bool {
	switch about.Schema {
	case "olm.bundle":
		return slices.ContainsFunc(p.bundles, func(b bundle) bool { return b.name == about.Name })
	case "olm.channel":
		return slices.ContainsFunc(p.channels, func(c keptChannel) bool { return c.name == about.Name })
	}
	return true
}

// filtered returns the value at a place with only some of its n entries, nil if it keeps all.
func filtered(r *reader, at place, n int, keep func(i int) bool) ([]byte, error) {
	all := true
	for i := range n {
		all = all && keep(i)
	}
	if all {
		return nil, nil
	}
	raw, err := r.read(at)
	if err != nil {
		return nil, err
	}
	var entries span
	eachKey(raw, func(key string, at span) {
		if key == "entries" {
			entries = at
		}
	})
	list := raw[entries.from:entries.to]
	text, i := []byte{'['}, 0
	eachElement(list, func(at span) {
		if i < n && keep(i) {
			if len(text) > 1 {
				text = append(text, ',')
			}
			text = append(text, list[at.from:at.to]...)
		}
		i++
	})
	if i != n {
		return nil, errChanged(r.index.files[at.file])
	}
	return replaceKey(raw, "entries", append(text, ']')), nil
}

// replaceKey returns an object with another value for a key, all else as it is.
func replaceKey(object []byte, key string, value []byte) []byte {
	var out []byte
	done := 0
	eachKey(object, func(k string, at span) {
		if k == key {
			out = append(append(out, object[done:at.from]...), value...)
			done = at.to
		}
	})
	if done > 0 {
		return append(out, object[done:]...)
	}
	end := len(object) - 1
	for object[end] != '}' {
		end--
	}
	quoted, _ := json.Marshal(key)
	out = append(out, object[:end]...)
	if skipSpace(object, 1) < end {
		out = append(out, ',')
	}
	out = append(append(append(out, quoted...), ':'), value...)
	return append(out, object[end:]...)
}
