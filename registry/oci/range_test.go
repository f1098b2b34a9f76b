package oci

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestUsableRange(t *testing.T) {
	for header, want := range map[string]string{
		"": "", "items=0-1": "", "none": "416", "Bytes=0-": "bytes=0-9",
		"bytes=0-": "bytes=0-9", "bytes=0-0": "bytes=0-0", "bytes=9-": "bytes=9-9", "bytes=-1": "bytes=9-9", "bytes=-99": "bytes=0-9",
		"bytes=2-99": "bytes=2-9", "bytes=20-, 1-2": "bytes=1-2", "bytes= 1-2 ,,3-4": "bytes=1-2,3-4",
		"bytes=1-99999999999999999999": "bytes=1-9", "bytes=-99999999999999999999": "bytes=0-9",
		"bytes=10-": "416", "bytes=10-20": "416", "bytes=-0": "416", "bytes=5-4": "416", "bytes=": "416", "bytes=,": "416",
		"bytes=a-b": "416", "bytes=+1-2": "416", "bytes=1": "416", "bytes=-": "416", "0-1": "416",
		"bytes=99999999999999999999-": "416", "bytes=1-2,x": "416",
	} {
		got, err := usableRange(header, 10)
		if err != nil {
			got = "416"
		}
		if got != want {
			t.Errorf("%q of 10 bytes: %q, want %q", header, got, want)
		}
	}
}

// FuzzRange holds that net/http accepts every range that usableRange returns.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=1-2", "bytes=-3", "bytes=2-1", "bytes=0-0,-1", "bytes=5-,0-1", "bytes=x", "bytes=", "bytes=--1", "bytes=1 - 2", "bytes=-9223372036854775807", "bytes=0-99999999999999999999", "Bytes=0-", "x=0-"} {
		f.Add(s, uint8(10))
	}
	f.Add("bytes=0-", uint8(1))
	f.Fuzz(func(t *testing.T, header string, size uint8) {
		if size == 0 {
			return // Range is ignored for an empty blob
		}
		usable, err := usableRange(header, int64(size))
		if err != nil {
			return
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", usable)
		w := httptest.NewRecorder()
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, size)))
		if w.Code != http.StatusOK && w.Code != http.StatusPartialContent {
			t.Errorf("Range %q of %d bytes is taken for %q and gets %d", header, size, usable, w.Code)
		}
	})
}

func TestParseContentRange(t *testing.T) {
	for header, want := range map[string]span{
		"0-0": {0, 1}, "0-1023": {0, 1024}, "10-19": {10, 10}, "bytes 10-19/100": {10, 10}, "bytes 10-19/*": {10, 10},
	} {
		if got, err := parseContentRange(header); err != nil || got != want {
			t.Errorf("%q: %v, %v", header, got, err)
		}
	}
	for _, header := range []string{"", "-", "1", "1-", "-1", "2-1", "a-b", "0-+1", " 0-1", "0-1 ", "0--1", "bytes=0-1", "0-9/10", "0-9223372036854775808", "0-9223372036854775807"} {
		if got, err := parseContentRange(header); err == nil {
			t.Errorf("%q: %v", header, got)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"0-0", "0-1023", "bytes 0-1/2", "bytes 0-1/*", "1-0", "-", "0-9223372036854775807", "00-01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		got, err := parseContentRange(header)
		if err != nil {
			return
		}
		if got.start < 0 || got.length <= 0 {
			t.Fatalf("%q: %+v", header, got)
		}
		again, err := parseContentRange(fmt.Sprintf("%d-%d", got.start, got.start+(got.length-1)))
		if err != nil || again != got {
			t.Errorf("%q is %+v, written again %+v (%v)", header, got, again, err)
		}
	})
}
