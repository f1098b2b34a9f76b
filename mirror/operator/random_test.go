package operator_test

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/operator/operatortest"
)

// A selection of a catalog without faults has none, whatever lacks; without lacking bundles,
// the same entry leaves its result as it is.
func FuzzSelect(f *testing.F) {
	for seed := range uint64(400) {
		f.Add(seed, seed%3)
	}
	f.Fuzz(func(t *testing.T, seed, modulus uint64) {
		m := operatortest.New(t, seed, false)
		files, versions := m.Catalog()
		ask := m.Ask(versions)
		if full := read(t, whole(t, files), files); len(faults(full)) > 0 {
			t.Skip("the catalog itself has faults")
		}
		lacks := func(_, bundle string) bool {
			return modulus > 0 && (uint64(len(bundle))+uint64(bundle[len(bundle)-1])*7+seed)%(modulus+1) == 0
		}
		s, err := scan(t, files).Select(ask, lacks)
		if err != nil {
			return
		}
		out := read(t, s, files)
		if found := faults(out); len(found) > 0 {
			t.Fatalf("%+v leaves %s of\n%s", ask, found, describe(files))
		}
		for _, w := range s.Warnings {
			if strings.Contains(w.Text, "OLM refuses") {
				t.Errorf("a warning says that the catalog has a fault: %s", w)
			}
		}
		for _, b := range out.Bundles {
			if lacks(b.Package, b.Name) {
				t.Errorf("%s is kept, and lacks", b.Name)
			}
		}
		if modulus > 0 {
			return
		}
		left := write(t, s, files)
		again, err := scan(t, left).Select(ask, nil)
		if err != nil {
			t.Fatalf("%+v is not for its own result: %v\n%s", ask, err, describe(files))
		}
		if twice := write(t, again, left); describe(twice) != describe(left) {
			t.Fatalf("%+v leaves\n%s\nof its own result\n%s\nof\n%s", ask, describe(twice), describe(left), describe(files))
		}
	})
}

func whole(t *testing.T, files fs.FS) *operator.Selection {
	t.Helper()
	s, err := scan(t, files).Select(operatorFull, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func describe(files fstest.MapFS) string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	text := ""
	for _, name := range names {
		text += name + "\n" + string(files[name].Data)
	}
	return text
}

// faults returns the reasons for which opm refuses a catalog, by rules that are written anew here.
func faults(o outcome) []string {
	var found []string
	bundles := map[string]bool{}
	for _, b := range o.Bundles {
		bundles[b.Package+"/"+b.Name] = false
	}
	for _, p := range o.Packages {
		if !slices.ContainsFunc(p.Channels, func(c outChannel) bool { return c.Name == p.DefaultChannel }) {
			found = append(found, p.Name+": no default channel")
		}
		for _, c := range p.Channels {
			found = append(found, channelFaults(p.Name, c, bundles)...)
		}
	}
	for name, listed := range bundles {
		if !listed {
			found = append(found, name+": in no channel")
		}
	}
	return found
}

func channelFaults(pkg string, c outChannel, bundles map[string]bool) []string {
	at := pkg + "/" + c.Name
	entries, skipped, below := map[string]outEntry{}, map[string]bool{}, map[string]bool{}
	var found []string
	for _, e := range c.Entries {
		if _, twice := entries[e.Name]; twice {
			found = append(found, at+": "+e.Name+" twice")
		}
		if _, ok := bundles[pkg+"/"+e.Name]; !ok {
			found = append(found, at+": "+e.Name+" has no bundle")
		}
		bundles[pkg+"/"+e.Name] = true
		entries[e.Name] = e
		below[e.Replaces] = true
		for _, s := range e.Skips {
			skipped[s], below[s] = true, true
		}
	}
	heads := slices.DeleteFunc(slices.Clone(c.Entries), func(e outEntry) bool { return below[e.Name] })
	if len(heads) != 1 {
		return append(found, fmt.Sprintf("%s: %d heads", at, len(heads)))
	}
	reached := map[string]bool{}
	for e, ok := heads[0], true; ok && !reached[e.Name]; e, ok = entries[e.Replaces] {
		reached[e.Name] = true
		if skipped[e.Replaces] {
			break
		}
	}
	for name := range entries {
		if !reached[name] && !skipped[name] {
			found = append(found, at+": "+name+" is stranded")
		}
	}
	return found
}

// Whatever the bytes are, reading them ends with an index that can be saved and written, or with
// an error that names the file.
func FuzzScan(f *testing.F) {
	for _, name := range []string{"trees", "odd", "formats", "bad-images"} {
		files := catalog(f, name)
		_ = fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				text, _ := fs.ReadFile(files, path)
				f.Add(text)
			}
			return err
		})
	}
	for _, text := range []string{"", "{", "[]", "---\n", "{}", `{"schema":"olm.bundle","package":"a","name":"b","properties":[{"type":"olm.package","value":"x"}]}` + "\n---\nschema: olm.channel\npackage: a\nentries: [{name: b}]\n",
		`{"schema":"olm.package","name":"../x"}`, `{"schema":"x","a":"\"\\"}`, "a: &a [*a]\nschema: x", `{"schema":"olm.package","package":"p"}` + "\n  \n" + `{"schema":"olm.channel","package":"p","entries":null}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		files := fstest.MapFS{"d/file": {Data: text}}
		x, err := operator.Scan(context.Background(), files)
		if err != nil {
			if !strings.Contains(err.Error(), "d/file") {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		s, err := x.Select(operatorFull, nil)
		if err != nil {
			return
		}
		write(t, s, files)
		if _, _, err := s.Images(context.Background(), files); err != nil {
			t.Log(err)
		}
		s.Dependencies()
	})
}
