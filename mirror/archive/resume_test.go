package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

const partial = ".mirror_000001.partial"

// interrupted leaves a run with three layers unfinished.
func interrupted(t *testing.T) (*workbench, []image) {
	t.Helper()
	b := newWorkbench(t)
	b.begin()
	var all []image
	for n := range 3 {
		i := newImage(noise(byte(n), 10000))
		all = append(all, i)
		must(t, b.writer.PutBlob(t.Context(), "team/app", i.layer, bytes.NewReader(i.content)))
	}
	b.close()
	return b, all
}

func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, f(data), 0o644))
}

func TestCreate_continuesAnInterruptedRun(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, b *workbench)
		held   [3]bool
	}{
		{"that was stopped", func(*testing.T, *workbench) {}, [3]bool{true, true, true}},
		{"with a byte that changed", func(t *testing.T, b *workbench) {
			change(t, filepath.Join(b.dir, partial), func(d []byte) []byte { d[1024+512+10240+512+5000] ^= 1; return d })
		}, [3]bool{true, false, true}},
		{"with a header that was not written", func(t *testing.T, b *workbench) {
			change(t, filepath.Join(b.dir, partial), func(d []byte) []byte { clear(d[1024:1100]); return d })
		}, [3]bool{false, true, true}},
		{"that a power cut made shorter", func(t *testing.T, b *workbench) {
			change(t, filepath.Join(b.dir, partial), func(d []byte) []byte { return d[:1024+512+10240+3000] })
		}, [3]bool{true, false, false}},
		{"with a torn journal", func(t *testing.T, b *workbench) {
			change(t, filepath.Join(b.dir, ".mirror_journal"), func(d []byte) []byte { return d[:len(d)-30] })
		}, [3]bool{true, true, false}},
		{"with a journal of something else", func(t *testing.T, b *workbench) {
			must(t, os.WriteFile(filepath.Join(b.dir, ".mirror_journal"), []byte("{}\nxyz\x00\n"), 0o644))
		}, [3]bool{false, false, false}},
		{"whose chunk is gone", func(t *testing.T, b *workbench) {
			must(t, os.Remove(filepath.Join(b.dir, partial)))
		}, [3]bool{false, false, false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, all := interrupted(t)
			tc.damage(t, b)
			b.begin()
			for n, i := range all {
				if b.held(i.layer.Digest) != tc.held[n] {
					t.Errorf("layer %d is held: %v", n, !tc.held[n])
				}
				b.put("team/app", "v"+string(rune('0'+n)), i)
			}
			b.commit()
			if len(names(b.all(), "appliance-unused")) > 0 {
				t.Error("the place of what was damaged is not used again")
			}
			a := b.open()
			for _, i := range all {
				if err := verify(a.Repository("team/app", "team/app"), i.layer.Digest); err != nil {
					t.Error(err)
				}
			}
			if left := b.leftovers(); len(left) > 0 {
				t.Errorf("left are %v", left)
			}
		})
	}
}

// A journal may name places that its chunks do not have.
func TestCreate_journalWithWrongPlaces(t *testing.T) {
	b, all := interrupted(t)
	d := all[0].layer.Digest.String()
	for _, l := range []string{
		`{"blob":{"digest":"` + d + `","size":10000,"chunk":9,"offset":1024}}`, `{"blob":{"digest":"` + d + `","size":-1,"chunk":1,"offset":1024}}`,
		`{"blob":{"digest":"` + d + `","size":10000,"chunk":1,"offset":-512}}`, `{"blob":{"digest":"../x","size":1,"chunk":1,"offset":1024}}`,
		`{"blob":{"digest":"` + d + `","size":9000000000000000000,"chunk":1,"offset":1024}}`, `{"blob":{"digest":"` + d + `","size":10000,"chunk":1,"offset":1025}}`,
		`{"chunk":{"number":-3}}`, `{"chunk":{"number":7}}`,
	} {
		change(t, filepath.Join(b.dir, ".mirror_journal"), func(j []byte) []byte { return append(j, l+"\n"...) })
	}
	b.begin()
	b.put("team/app", "v1", all[0])
	b.commit()
	if err := verify(b.open().Repository("team/app", "team/app"), all[0].layer.Digest); err != nil {
		t.Error(err)
	}
}

// The second rename fails, which is as if the host had stopped there.
func TestCreate_completesAnInterruptedCommit(t *testing.T) {
	b := newWorkbench(t)
	b.begin()
	b.put("team/app", "old", newImage([]byte("old")))
	b.commit()
	b.begin(smallChunks)
	i, j := newImage(noise(1, 50<<10)), newImage(noise(2, 50<<10))
	b.put("team/app", "v1", i)
	b.put("team/app", "v2", j)
	second := filepath.Join(b.dir, "mirror_000002.tar")
	must(t, os.MkdirAll(filepath.Join(second, "in the way"), 0o755))
	if err := b.writer.Commit(t.Context()); err == nil {
		t.Fatal("the rename does not fail")
	}
	b.close()
	must(t, os.RemoveAll(second))
	b.begin()
	if !b.held(i.layer.Digest) || !b.held(j.layer.Digest) {
		t.Error("the history lacks what was committed")
	}
	b.close()
	a := b.open()
	for _, d := range []digest.Digest{i.layer.Digest, j.layer.Digest} {
		if err := verify(a.Repository("team/app", "team/app"), d); err != nil {
			t.Error(err)
		}
	}
	if left := b.leftovers(); len(left) > 0 || len(b.chunks()) < 2 {
		t.Errorf("left are %v, the chunks are %s", left, strings.Join(b.chunks(), " "))
	}
}
