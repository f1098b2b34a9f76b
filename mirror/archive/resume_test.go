package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
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

// Blobs are moved over what did not come. A run that was stopped meanwhile loses the one under way.
func TestCreate_continuesWhatWasBeingMoved(t *testing.T) {
	b, all := interrupted(t)
	journal := filepath.Join(b.dir, ".mirror_journal")
	change(t, journal, func(d []byte) []byte { // the second is on its way over the first
		var line string
		for l := range strings.Lines(string(d)) {
			if strings.Contains(l, all[1].layer.Digest.String()) {
				line = l
			}
		}
		return append(d, regexp.MustCompile(`"offset":\d+`).ReplaceAllString(line, `"offset":1024`)...)
	})
	change(t, filepath.Join(b.dir, partial), func(d []byte) []byte { copy(d[1024:], d[1024+512+10240:1024+2*512+10240+5000]); return d })
	b.begin()
	for n, i := range all {
		if b.held(i.layer.Digest) != (n == 2) {
			t.Errorf("layer %d is held: %v", n, n != 2)
		}
		b.put("team/app", "v"+string(rune('0'+n)), i)
	}
	b.commit()
	for _, i := range all {
		if err := verify(b.open().Repository("team/app", "team/app"), i.layer.Digest); err != nil {
			t.Error(err)
		}
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

// breaking is content that ends with an error at a byte, and counts what is read of it.
type breaking struct {
	*bytes.Reader
	at, read int
}

var errLine = errors.New("the line is dead")

func (b *breaking) Read(p []byte) (int, error) {
	if left := b.at - int(b.Size()) + b.Len(); b.at > 0 {
		if left <= 0 {
			return 0, errLine
		}
		p = p[:min(len(p), left)]
	}
	n, err := b.Reader.Read(p)
	b.read += n
	return n, err
}

func TestWriter_Planned_countsWhatIsThereOfABlob(t *testing.T) {
	const size, came = 12 << 20, 8 << 20 // of 32 MiB, of which 16 are wanted besides
	b, i := newWorkbench(t), newImage(noise(7, size))
	b.dir, _ = diskspacetest.Small(t)
	t.Cleanup(b.close) // before the file system goes
	b.begin()
	begun := &breaking{Reader: bytes.NewReader(noise(7, size)), at: came}
	if err := b.writer.PutBlob(t.Context(), "team/app", i.layer, begun); !errors.Is(err, errLine) {
		t.Fatalf("the error is %v", err)
	}
	if err := b.begin().Planned(t.Context(), planOf(i)); err != nil {
		t.Error(err)
	}
}

func TestWriter_PutBlob_continuesInsideABlob(t *testing.T) {
	const size, half = 3 << 20, 1 << 20
	content := noise(7, size)
	copy(content[half-5:], make([]byte, 5)) // which look like what is not written
	at := 1024 + 512                        // of the content in the chunk
	for _, tc := range []struct {
		name      string
		meanwhile func(t *testing.T, b *workbench)
		read      int
	}{
		{"in the same run", nil, size - half},
		{"in the next", func(_ *testing.T, b *workbench) { b.begin() }, size - half + 5},
		{"with a place that is there to its end", func(t *testing.T, b *workbench) {
			must(t, os.Truncate(filepath.Join(b.dir, partial), 10<<20))
			b.begin()
		}, size - half + 5},
		{"with a power cut's holes", func(t *testing.T, b *workbench) {
			change(t, filepath.Join(b.dir, partial), func(d []byte) []byte { clear(d[at+half/2:]); return d })
			b.begin()
		}, size - half/2},
		{"with none of it", func(t *testing.T, b *workbench) {
			must(t, os.Truncate(filepath.Join(b.dir, partial), 0))
			b.begin()
		}, size},
		{"with nothing missing but the header", func(t *testing.T, b *workbench) {
			change(t, filepath.Join(b.dir, partial), func(d []byte) []byte { return append(d[:at], content...) })
			b.begin()
		}, 0},
		{"with other content in all of its place", func(t *testing.T, b *workbench) {
			change(t, filepath.Join(b.dir, partial), func(d []byte) []byte { return append(d[:at], noise(8, size)...) })
			b.begin()
		}, size},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, i := newWorkbench(t), newImage(content)
			b.begin()
			begun := &breaking{Reader: bytes.NewReader(content), at: half}
			if err := b.writer.PutBlob(t.Context(), "team/app", i.layer, begun); !errors.Is(err, errLine) {
				t.Fatalf("the error is %v", err)
			}
			if tc.meanwhile != nil {
				tc.meanwhile(t, b)
			}
			rest := &breaking{Reader: bytes.NewReader(content)}
			must(t, b.writer.PutBlob(t.Context(), "team/app", i.layer, rest))
			if rest.read != tc.read {
				t.Errorf("%d bytes are read, want %d", rest.read, tc.read)
			}
			b.put("team/app", "v1", i)
			b.commit()
			if err := verify(b.open().Repository("team/app", "team/app"), i.layer.Digest); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWriter_PutBlob_beginsAgainAfterOtherBytes(t *testing.T) {
	content := noise(7, 3<<20)
	b, i := newWorkbench(t), newImage(content)
	b.begin()
	other := &breaking{Reader: bytes.NewReader(noise(8, 3<<20)), at: 1 << 20}
	if err := b.writer.PutBlob(t.Context(), "team/app", i.layer, other); !errors.Is(err, errLine) {
		t.Fatalf("the error is %v", err)
	}
	b.begin()
	var wrong interface{ Mismatch() bool }
	if err := b.writer.PutBlob(t.Context(), "team/app", i.layer, bytes.NewReader(content)); !errors.As(err, &wrong) {
		t.Fatalf("the error is %v", err)
	}
	b.put("team/app", "v1", i)
	b.commit()
	if err := verify(b.open().Repository("team/app", "team/app"), i.layer.Digest); err != nil {
		t.Error(err)
	}
}
