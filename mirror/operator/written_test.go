package operator_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/mirror/operator"
)

// write returns the catalog that a selection leaves.
func write(t testing.TB, s *operator.Selection, files fs.FS) fstest.MapFS {
	t.Helper()
	list, err := s.Files(context.Background(), files)
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	for _, f := range list {
		var text bytes.Buffer
		if err := f.WriteTo(context.Background(), files, &text); err != nil {
			t.Fatal(err)
		}
		if int64(text.Len()) != f.Size {
			t.Errorf("%s has %d bytes, and says %d", f.Name, text.Len(), f.Size)
		}
		out[f.Name] = &fstest.MapFile{Data: text.Bytes()}
	}
	return out
}

// read returns what a selection wrote, as it is read by encoding/json.
func read(t testing.TB, s *operator.Selection, files fs.FS) outcome {
	t.Helper()
	var out outcome
	packages, blobs := map[string]*outPackage{}, map[string]bool{}
	for _, file := range write(t, s, files) {
		for d := json.NewDecoder(bytes.NewReader(file.Data)); d.More(); {
			var v struct {
				Schema, Package, Name, DefaultChannel string
				Entries                               []struct {
					outEntry
					Reference struct{ Schema, Name string }
				}
			}
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
			name := cmp.Or(v.Package, v.Name)
			if packages[name] == nil {
				packages[name] = &outPackage{Name: name}
			}
			switch p := packages[name]; v.Schema {
			case "olm.package":
				blobs[name], p.DefaultChannel = true, v.DefaultChannel
			case "olm.channel":
				c := outChannel{Name: v.Name}
				for _, e := range v.Entries {
					c.Entries = append(c.Entries, e.outEntry)
				}
				p.Channels = append(p.Channels, c)
			case "olm.bundle":
				out.Bundles = append(out.Bundles, outBundle{Package: v.Package, Name: v.Name})
			case "olm.deprecations":
				for _, e := range v.Entries {
					out.Deprecations = append(out.Deprecations, v.Package+" "+e.Reference.Schema+" "+e.Reference.Name)
				}
			default:
				out.Others = append(out.Others, v.Schema+" package="+v.Package+" name="+v.Name)
			}
		}
	}
	for name, p := range packages {
		if blobs[name] {
			out.Packages = append(out.Packages, *p)
			continue
		}
		for _, c := range p.Channels {
			out.OrphanChannels = append(out.OrphanChannels, name+"/"+c.Name)
		}
	}
	slices.SortFunc(out.Packages, func(a, b outPackage) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Bundles, func(a, b outBundle) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Name, b.Name))
	})
	slices.Sort(out.Deprecations)
	slices.Sort(out.Others)
	return out
}
