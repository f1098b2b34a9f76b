package operator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

func (s *scan) packageBlob(p *pack, b []byte, at place) error {
	var v struct{ DefaultChannel string }
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("olm.package %q: %w", p.name, plainly(err))
	}
	p.blobs = append(p.blobs, packageBlob{at, v.DefaultChannel})
	return nil
}

func (s *scan) channel(p *pack, name string, b []byte, at place) error {
	var v struct{ Entries []entry }
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("olm.channel %q of package %q: %w", name, p.name, plainly(err))
	}
	for i := range v.Entries {
		e := &v.Entries[i]
		e.Name, e.Replaces, e.SkipRange = s.text(e.Name), s.text(e.Replaces), s.text(e.SkipRange)
		for j, skipped := range e.Skips {
			e.Skips[j] = s.text(skipped)
		}
	}
	p.channels = append(p.channels, channel{at, s.text(name), v.Entries})
	return nil
}

func (s *scan) deprecations(p *pack, b []byte, at place) error {
	var v struct {
		Entries []struct{ Reference reference }
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("olm.deprecations of package %q: %w", p.name, plainly(err))
	}
	d := deprecations{at: at}
	for _, e := range v.Entries {
		d.entries = append(d.entries, reference{s.text(e.Reference.Schema), s.text(e.Reference.Name)})
	}
	p.deprecations = append(p.deprecations, d)
	return nil
}

// plainly returns an error of decoding without the types of this program.
func plainly(err error) error {
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) {
		return err
	}
	return fmt.Errorf("its %s cannot be a JSON %s", cmp.Or(strings.ToLower(kind.Field), "value"), kind.Value)
}

// bundle keeps the version and what decides about dependencies.
func (s *scan) bundle(p *pack, name string, b []byte, at place) {
	found := bundle{at: at, name: s.text(name)}
	versioned := false
	var kept []property
	eachProperty(b, func(kind string, value []byte) {
		switch kind {
		case "olm.package":
			if !versioned {
				versioned = true
				found.version = s.text(stringAt(value, "version"))
			}
		case "olm.gvk", "olm.gvk.required", "olm.package.required", "olm.constraint":
			var compact bytes.Buffer
			if json.Compact(&compact, value) == nil {
				kept = append(kept, property{s.text(kind), s.text(compact.String())})
			}
		}
	})
	found.props = s.propertySet(kept)
	p.bundles = append(p.bundles, found)
}

// propertySet returns the place of a set of properties: the bundles of a package mostly share one.
func (s *scan) propertySet(set []property) int {
	key := fmt.Sprintf("%q", set)
	at, ok := s.props[key]
	if !ok {
		at = len(s.index.props)
		s.props[key] = at
		s.index.props = append(s.index.props, set)
	}
	return at
}

// eachProperty calls f with the type and the value of each property of a bundle.
func eachProperty(b []byte, f func(kind string, value []byte)) {
	eachKey(b, func(key string, at span) {
		if key != "properties" {
			return
		}
		list := b[at.from:at.to]
		eachElement(list, func(at span) {
			p := list[at.from:at.to]
			var kind string
			var value []byte
			eachKey(p, func(key string, at span) {
				switch key {
				case "type":
					kind = text(p[at.from:at.to])
				case "value":
					value = p[at.from:at.to]
				}
			})
			f(kind, value)
		})
	})
}

// stringAt returns the string that an object has under a key.
func stringAt(b []byte, key string) string {
	var found string
	eachKey(b, func(k string, at span) {
		if k == key {
			found = text(b[at.from:at.to])
		}
	})
	return found
}
