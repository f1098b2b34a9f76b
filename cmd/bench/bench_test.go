package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestSeries_ratios(t *testing.T) {
	s := series{subjectName: {2, 9, 30, 7}, probeName: {1, 3, 10}, zotProgram: {4, 5}}
	r := s.row("x", "y").atLeast(3)
	if r.Ratio != 3 || !slices.Equal(r.Spread, []float64{2, 3}) || r.Verdict != met {
		t.Errorf("%+v", r)
	}
	if r.Value != 8 || r.Probe != 3 || r.Peers[zotProgram] != 4.5 {
		t.Errorf("medians are %+v", r)
	}
	if r := r.atMost(2.9); r.Verdict != missed {
		t.Errorf("%+v", r)
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for n := range 100 {
		d = append(d, time.Duration(100-n)*time.Millisecond)
	}
	if got := percentile(d, 0.99); got != 100 {
		t.Errorf("p99 of 1 to 100 ms is %v", got)
	}
	if got := percentile(nil, 0.99); got != 0 {
		t.Errorf("p99 of nothing is %v", got)
	}
}

func TestVersus_peerIsNotThere(t *testing.T) {
	r := versus("x", "y", series{subjectName: {1}}, zotProgram, 1.8)
	if r.Verdict != absent {
		t.Errorf("%+v", r)
	}
}

func TestLarge_everyVersionIsNew(t *testing.T) {
	l, err := newLarge(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[digest.Digest]bool{}
	for range 3 {
		d, body, err := l.next()
		if err != nil || d != digest.FromBytes(body) || seen[d] {
			t.Fatalf("%s of %x (%v)", d, sha256.Sum256(body), err)
		}
		seen[d] = true
	}
}

func TestGeneratedImage_isWhatItSays(t *testing.T) {
	a, err := generatedImage(1)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.blobs) != refsEach || a.digest != digest.FromBytes(a.manifest) {
		t.Errorf("%d blobs, %s", len(a.blobs), a.digest)
	}
	for _, blob := range a.blobs {
		if !bytes.Contains(a.manifest, []byte(digest.FromBytes(blob))) {
			t.Errorf("the manifest does not name %q", blob)
		}
	}
	if b, err := generatedImage(2); err != nil || b.digest == a.digest {
		t.Errorf("two images are the same (%v)", err)
	}
}

func TestGenerate_theStoreTakesItForItsOwn(t *testing.T) {
	const scale = 2000
	s := &site{dir: t.TempDir()}
	c := subjectConfig(s, s.path("generated"))
	g, err := generate(t.Context(), c, scale)
	if err != nil {
		t.Fatal(err)
	}
	checkGenerated(t, c, g)
}

func TestWire_skipHeader(t *testing.T) {
	for text, want := range map[string]int64{
		"Content-Type: x\r\ncontent-length:  42 \r\n\r\nbody": 42,
		"Content-Length: 0\r\n\r\n":                           0,
		"Content-Type: x\r\n\r\n":                             -1,
		"Content-Length: 1\r\n":                               -1,
	} {
		got, err := (&wire{r: bufio.NewReader(strings.NewReader(text))}).skipHeader()
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q gives %d, %v", text, got, err)
		}
	}
}

func TestProxied_handsOnBothWaysAndLater(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // until the client goes
			}()
		}
	}()
	addr, end, err := proxied(context.Background(), &server{addr: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	sent := noise("link", 300_000)
	began := time.Now()
	go func() { _, _ = c.Write(sent) }() // what does not arrive is seen below
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("something else came back (%v)", err)
	}
	if took := time.Since(began); took < 2*linkDelay {
		t.Errorf("it came back after %s", took)
	}
	c.Close()
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestDiscard_countsToTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 3*discardBuffer + 1
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = c.Write(make([]byte, size)) // what does not arrive is seen below
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := discard(c); n != size || err != nil {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
}

func TestPullTimes_row(t *testing.T) {
	ms := func(all ...int) (took []time.Duration) {
		for _, n := range all {
			took = append(took, time.Duration(n)*time.Millisecond)
		}
		return took
	}
	r := pullTimes{subjectName: {ms(1, 2), ms(4, 1)}, probeName: {ms(1, 1), ms(2, 1)}}.row("pulls")
	if r.Value != 4 || r.Probe != 2 || r.Ratio != 2 || r.Spread[0] != 2 || r.Spread[1] != 2 {
		t.Errorf("%+v", r)
	}
}
