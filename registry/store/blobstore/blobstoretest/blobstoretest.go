// Package blobstoretest has the tests that each implementation of package blobstore passes.
package blobstoretest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// Subject is an implementation.
type Subject struct {
	// Open opens an empty storage, and again opens the same one as another process does.
	Open func(t *testing.T) (storage blobstore.Storage, again func() blobstore.Storage)
	// Put writes what is not a blob of an upload: name is that of blobstore.Name.
	Put func(t *testing.T, s blobstore.Storage, name string, content []byte)
}

// big is larger than what an implementation sends at once, and not a multiple of it.
const big = 17<<20 + 7

// content returns n bytes, the same for each n.
func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.New(rand.NewSource(int64(n))).Read(b)
	return b
}

// Run runs the tests.
func (s Subject) Run(t *testing.T) {
	for name, test := range map[string]func(*testing.T, suite){
		"a blob that was placed can be read":                  testRead,
		"an upload goes on in another process":                testResume,
		"an empty upload goes on":                             testResumeEmpty,
		"an upload of another repository is not found":        testResumeOther,
		"a known blob goes on where it broke off":             testPartial,
		"a known blob does not go on before what is hashed":   testPartialGone,
		"a blob replaces a damaged one":                       testReplace,
		"a blob that is missing or of another size is a loss": testLoss,
		"damage is found":                                     testInspect,
		"a damaged blob moves to quarantine":                  testQuarantine,
		"a walk finds blobs":                                  testWalk,
		"uploads that are left are found and removed":         testUploads,
		"a blob that is removed is gone":                      testRemove,
		"an upload that is discarded leaves nothing":          testDiscard,
		"readers follow an upload":                            testFollow,
		"a note is written over the one that was seen":        testNotes,
	} {
		t.Run(name, func(t *testing.T) {
			storage, again := s.Open(t)
			test(t, suite{storage, again, func(name string, content []byte) { s.Put(t, storage, name, content) }})
		})
	}
}

type suite struct {
	blobstore.Storage
	again func() blobstore.Storage
	put   func(name string, content []byte)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// place uploads and places a blob.
func (s suite) place(t *testing.T, a digest.Algorithm, body []byte) digest.Digest {
	t.Helper()
	u, err := s.NewUpload("app", time.Now())
	must(t, err)
	write(t, u, body)
	d, err := u.Digest(t.Context(), a)
	must(t, err)
	if want := a.FromBytes(body); d != want {
		t.Fatalf("the digest is %s, not %s", d, want)
	}
	_, err = u.Place(t.Context(), d)
	must(t, errors.Join(err, u.Discard()))
	return d
}

func write(t *testing.T, u blobstore.Upload, body []byte) {
	t.Helper()
	for len(body) > 0 {
		n, err := u.Write(body[:min(len(body), 1<<20)])
		must(t, err)
		body = body[n:]
	}
}

func (s suite) has(t *testing.T, d digest.Digest, want []byte) {
	t.Helper()
	r, err := s.Blob(d).Open(t.Context(), int64(len(want)))
	must(t, err)
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes were read of %d, %v", len(got), len(want), err)
	}
	must(t, s.Blob(d).Check(t.Context(), int64(len(want))))
}

func testRead(t *testing.T, s suite) {
	for _, n := range []int{0, 1, blobstore.InMemory + 1, 8 << 20, big} {
		for _, a := range blobstore.Algorithms() {
			body := content(n)
			d := s.place(t, a, body)
			s.has(t, d, body)
			if n < 100 {
				continue
			}
			r, err := s.Blob(d).Open(t.Context(), int64(n))
			must(t, err)
			end, err := r.Seek(0, io.SeekEnd)
			must(t, err)
			from, err := r.Seek(-10, io.SeekCurrent)
			must(t, err)
			tail, err := io.ReadAll(r)
			if end != int64(n) || from != end-10 || err != nil || !bytes.Equal(tail, body[n-10:]) {
				t.Errorf("a seek to %d and %d reads %d bytes, %v", end, from, len(tail), err)
			}
			must(t, r.Close())
		}
	}
	if left, err := s.Uploads(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("uploads are left: %v, %v", left, err)
	}
}

func testResume(t *testing.T, s suite) {
	for _, n := range []int{10, blobstore.InMemory + 1, big} {
		body := content(n)
		for _, at := range []int{1, n / 2, n} {
			began := time.Now().UTC()
			u, err := s.NewUpload("app", began)
			must(t, err)
			write(t, u, body[:at])
			must(t, u.Save(time.Time{}))
			if at < n {
				write(t, u, body[at:at+1]) // which was not saved
			}
			must(t, u.Close())
			other := s.again()
			again, err := other.ResumeUpload(t.Context(), "app", u.ID())
			must(t, err)
			if again.Size() != int64(at) || !again.Started().Equal(began) || again.Repository() != "app" || again.ID() != u.ID() {
				t.Fatalf("%d bytes go on at %d", at, again.Size())
			}
			write(t, again, body[at:])
			d, err := again.Digest(t.Context(), digest.SHA256)
			must(t, err)
			if d != digest.FromBytes(body) {
				t.Fatalf("%d bytes that went on at %d have digest %s", n, at, d)
			}
			_, err = again.Place(t.Context(), d)
			must(t, errors.Join(err, again.Discard()))
			s.has(t, d, body)
			if _, err := s.ResumeUpload(t.Context(), "app", u.ID()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("an upload that was placed gives %v", err)
			}
			_, err = s.Blob(d).Remove(t.Context())
			must(t, err)
		}
	}
}

func testResumeEmpty(t *testing.T, s suite) {
	u, err := s.NewUpload("app", time.Now())
	must(t, err)
	used := time.Now().Add(-time.Hour)
	must(t, errors.Join(u.Save(used), u.Close()))
	if _, old, err := s.OldUpload(t.Context(), u.ID(), used.Add(time.Minute), time.Now()); err != nil || !old {
		t.Errorf("the time of its use is not kept: %v", err)
	}
	again, err := s.again().ResumeUpload(t.Context(), "app", u.ID())
	must(t, err)
	write(t, again, []byte("content"))
	d, err := again.Digest(t.Context(), digest.SHA256)
	must(t, err)
	_, err = again.Place(t.Context(), d)
	must(t, errors.Join(err, again.Discard()))
	s.has(t, d, []byte("content"))
}

func testResumeOther(t *testing.T, s suite) {
	u, err := s.NewUpload("app", time.Now())
	must(t, err)
	write(t, u, []byte("content"))
	must(t, errors.Join(u.Save(time.Time{}), u.Close()))
	if _, err := s.ResumeUpload(t.Context(), "other", u.ID()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// partial leaves the first bytes of a blob.
func (s suite) partial(t *testing.T, d digest.Digest, body []byte) {
	t.Helper()
	u, err := s.NewPartial(t.Context(), d, time.Now())
	must(t, err)
	if u.ID() != blobstore.PartialID(d) {
		t.Fatalf("its id is %s", u.ID())
	}
	write(t, u, body)
	must(t, errors.Join(u.Save(time.Time{}), u.Close()))
}

func testPartial(t *testing.T, s suite) {
	for _, a := range []digest.Algorithm{digest.SHA256} {
		body := content(big)
		d := a.FromBytes(body)
		for _, have := range []int{100_000, big / 2, big} {
			for _, less := range []int{0, 1} {
				if n := s.PartialSize(t.Context(), d); n != 0 {
					t.Fatalf("%d bytes are left of none", n)
				}
				s.partial(t, d, body[:have])
				other := s.again()
				if n := other.PartialSize(t.Context(), d); n != int64(have) {
					t.Fatalf("%d bytes are left of %d", n, have)
				}
				if _, err := other.ResumePartial(t.Context(), d, big+1); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("to go on at a byte that did not come gives %v", err)
				}
				s.partial(t, d, body[:have])
				u, err := other.ResumePartial(t.Context(), d, int64(have-less))
				must(t, err)
				write(t, u, body[have-less:])
				got, err := u.Digest(t.Context(), a)
				if err != nil || got != d {
					t.Fatalf("%d bytes that went on %d before have digest %s, %v", have, less, got, err)
				}
				_, err = u.Place(t.Context(), d)
				must(t, errors.Join(err, u.Discard()))
				s.has(t, d, body)
				_, err = s.Blob(d).Remove(t.Context())
				must(t, err)
			}
		}
	}
}

// An implementation may not be able to go on at any byte. Then it has none of them afterwards, so
// that the blob comes again.
func testPartialGone(t *testing.T, s suite) {
	body := content(big)
	d := digest.FromBytes(body)
	s.partial(t, d, body)
	u, err := s.ResumePartial(t.Context(), d, 5)
	if err == nil {
		must(t, u.Discard())
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if n := s.PartialSize(t.Context(), d); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

func testReplace(t *testing.T, s suite) {
	for _, n := range []int{7, big} {
		body := content(n)
		d := digest.FromBytes(body)
		s.put(blobstore.Name(d), []byte("damaged"))
		s.place(t, digest.SHA256, body)
		s.has(t, d, body)
	}
}

func testLoss(t *testing.T, s suite) {
	d := s.place(t, digest.SHA256, []byte("content"))
	missing := digest.FromString("missing")
	for _, err := range []error{
		s.Blob(d).Check(t.Context(), 8), s.Blob(missing).Check(t.Context(), 7), opens(t, s.Blob(d), 8), opens(t, s.Blob(missing), 7),
	} {
		if !blobstore.IsLoss(err) {
			t.Errorf("got %v", err)
		}
	}
	if !s.Blob(d).Readable(t.Context()) || s.Blob(missing).Readable(t.Context()) {
		t.Error("Readable does not tell them apart")
	}
}

func opens(t *testing.T, b blobstore.Blob, size int64) error {
	t.Helper()
	r, err := b.Open(t.Context(), size)
	if err == nil {
		must(t, r.Close())
	}
	return err
}

func testInspect(t *testing.T, s suite) {
	body := []byte("content")
	d := digest.FromBytes(body)
	for _, c := range []struct {
		content    []byte
		seen       bool // by its size alone
		seenByHash bool
	}{{nil, true, true}, {body, false, false}, {[]byte("conten"), true, true}, {[]byte("c0ntent"), false, true}} {
		if c.content != nil {
			s.put(blobstore.Name(d), c.content)
		}
		for _, p := range []throttle.Pace{nil, throttle.New(0)} {
			found, err := s.Blob(d).Inspect(t.Context(), 7, p)
			want := c.seen
			if p != nil {
				want = c.seenByHash
			}
			if err != nil || (found.Damage != "") != want || (found.Seen == nil) != (c.content == nil) {
				t.Errorf("%q: %+v, %v", c.content, found, err)
			}
			if still := s.Blob(d).IsStill(t.Context(), found.Seen); !still {
				t.Errorf("%q is not what it was", c.content)
			}
		}
	}
	found, err := s.Blob(d).Inspect(t.Context(), 7, nil)
	must(t, err)
	s.place(t, digest.SHA256, body)
	if s.Blob(d).IsStill(t.Context(), found.Seen) || s.Blob(d).IsStill(t.Context(), nil) {
		t.Error("another content is taken for the one before")
	}
	if found, err := s.Blob("not a digest").Inspect(t.Context(), 7, nil); err != nil || found.Damage == "" {
		t.Errorf("a malformed digest gives %+v, %v", found, err)
	}
}

func testQuarantine(t *testing.T, s suite) {
	d := digest.FromString("content")
	must(t, s.Blob(d).Quarantine(t.Context())) // that is missing
	s.put(blobstore.Name(d), []byte("damaged"))
	must(t, s.Blob(d).Quarantine(t.Context()))
	if s.Blob(d).Readable(t.Context()) || opens(t, s.Quarantined(d), 7) != nil {
		t.Error("it is not in quarantine")
	}
	for _, keep := range []bool{true, false} {
		must(t, s.TidyQuarantine(t.Context(), func(got digest.Digest) (bool, error) {
			if got != d {
				t.Errorf("%s is in quarantine", got)
			}
			return keep, nil
		}))
		if s.Quarantined(d).Readable(t.Context()) != keep {
			t.Error("it is kept or removed against the answer")
		}
	}
}

func testWalk(t *testing.T, s suite) {
	for _, a := range blobstore.Algorithms() {
		if _, mounted, err := s.CheckMounted(t.Context(), a); err != nil || mounted {
			t.Errorf("an empty storage has blobs, %v", err)
		}
		var want, got []digest.Digest
		for i := range 50 {
			want = append(want, s.place(t, a, fmt.Append(nil, i)))
		}
		s.put(a.String()+"/"+want[0].Encoded()[:2]+"/README", nil)
		parts, err := s.Parts(t.Context(), a)
		must(t, err)
		others := 0
		for _, p := range parts {
			names, err := p.Names(t.Context())
			must(t, err)
			if !slices.IsSorted(names) {
				t.Errorf("names of %s are not sorted: %v", p.Prefix(), names)
			}
			for _, name := range names {
				if d, ok := p.Digest(name); ok {
					got = append(got, d)
				} else {
					others++
				}
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || others != 1 {
			t.Errorf("found %d blobs of %d, and %d other names", len(got), len(want), others)
		}
		if _, mounted, err := s.CheckMounted(t.Context(), a); err != nil || !mounted {
			t.Errorf("no blob is found, %v", err)
		}
	}
	must(t, s.CheckWritable(t.Context()))
}

func testUploads(t *testing.T, s suite) {
	u, err := s.NewUpload("app", time.Now())
	must(t, err)
	write(t, u, content(big))
	must(t, errors.Join(u.Save(time.Time{}), u.Close()))
	crashed, err := s.NewUpload("app", time.Now())
	must(t, err)
	write(t, crashed, content(big)) // and it is never saved
	must(t, crashed.Close())
	known := digest.FromBytes(content(big))
	s.partial(t, known, content(big)[:big/2])
	want := []string{u.ID(), crashed.ID(), blobstore.PartialID(known)}
	slices.Sort(want)
	other := s.again()
	ids, err := other.Uploads(t.Context())
	if err != nil || !slices.Equal(ids, want) {
		t.Fatalf("found %v of %v, %v", ids, want, err)
	}
	for _, id := range ids {
		now := time.Now()
		if _, old, err := other.OldUpload(t.Context(), id, now.Add(-time.Minute), now); err != nil || old {
			t.Errorf("%s is old, %v", id, err)
		}
		if _, old, err := other.OldUpload(t.Context(), id, now.Add(time.Hour), now.Add(time.Hour)); err != nil || !old {
			t.Errorf("%s is not old, %v", id, err)
		}
		must(t, other.RemoveUpload(t.Context(), id))
	}
	if ids, err := other.Uploads(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("%v are left, %v", ids, err)
	}
	must(t, other.RemoveUpload(t.Context(), u.ID())) // that is gone
}

func testRemove(t *testing.T, s suite) {
	d := s.place(t, digest.SHA256, []byte("content"))
	now := time.Now()
	if size, old, err := s.Blob(d).Old(t.Context(), now.Add(2*time.Hour), now.Add(time.Hour)); err != nil || !old || size != 7 {
		t.Errorf("%d bytes, %v, %v", size, old, err)
	}
	if _, old, err := s.Blob(d).Old(t.Context(), now.Add(-time.Hour), now); err != nil || old {
		t.Errorf("it is old, %v", err)
	}
	if n, err := s.Blob(d).Remove(t.Context()); err != nil || n != 7 {
		t.Errorf("%d bytes were removed, %v", n, err)
	}
	if _, err := s.Blob(d).Remove(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("to remove it again gives %v", err)
	}
	if _, old, err := s.Blob(d).Old(t.Context(), now.Add(time.Hour), now); err != nil || old {
		t.Errorf("a missing blob is old, %v", err)
	}
}

func testDiscard(t *testing.T, s suite) {
	for _, n := range []int{0, 7, big} {
		u, err := s.NewUpload("app", time.Now())
		must(t, err)
		write(t, u, content(n))
		must(t, errors.Join(u.Save(time.Time{}), u.Discard()))
	}
	if ids, err := s.Uploads(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("%v are left, %v", ids, err)
	}
}

func testFollow(t *testing.T, s suite) {
	u, err := s.NewUpload("app", time.Now())
	must(t, err)
	r, err := u.Open()
	must(t, err)
	body := content(big)
	write(t, u, body[:big/2])
	got := make([]byte, big)
	n, _ := r.ReadAt(got, 0)
	write(t, u, body[big/2:])
	_, err = r.ReadAt(got[n:], int64(n))
	if n != big/2 || err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes were read of the first %d, %v", n, big/2, err)
	}
	must(t, errors.Join(u.Discard(), r.Close()))
}
