package oci

import (
	"bytes"
	"io"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// pieces records the size of each Write, which takes as long as took says.
type pieces struct {
	*httptest.ResponseRecorder
	sizes []int
	took  func(n int) time.Duration // for the nth Write
}

func (p *pieces) Write(b []byte) (int, error) {
	time.Sleep(p.took(len(p.sizes)))
	p.sizes = append(p.sizes, len(b))
	return p.ResponseRecorder.Write(b)
}

func TestPiecewise(t *testing.T) {
	const kib = 1 << 10
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20/16)
	for name, test := range map[string]struct {
		took func(n int) time.Duration
		want []int
	}{
		"a fast client gets large pieces": {
			func(int) time.Duration { return time.Millisecond },
			[]int{32 * kib, 64 * kib, 128 * kib, 256 * kib, 256 * kib, 256 * kib, 32 * kib},
		},
		"a slow client gets small pieces": {
			func(int) time.Duration { return time.Second },
			slices.Repeat([]int{32 * kib}, 32),
		},
		"a client that becomes slow gets small pieces again": {
			func(n int) time.Duration {
				if n == 2 {
					return time.Second
				}
				return time.Millisecond
			},
			[]int{32 * kib, 64 * kib, 128 * kib, 32 * kib, 128 * kib, 256 * kib, 256 * kib, 128 * kib},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &pieces{ResponseRecorder: httptest.NewRecorder(), took: test.took}
				n, err := io.Copy(piecewise{w}, struct{ io.Reader }{bytes.NewReader(content)})
				if err != nil || n != int64(len(content)) || !bytes.Equal(w.Body.Bytes(), content) {
					t.Errorf("%d of %d bytes were sent, %v", n, len(content), err)
				}
				if !slices.Equal(w.sizes, test.want) {
					t.Errorf("pieces of %v bytes, not %v", w.sizes, test.want)
				}
			})
		})
	}
}
