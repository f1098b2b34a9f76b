package oci

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestCheckRange(t *testing.T) {
	for header, ok := range map[string]bool{
		"": true, "bytes=0-": true, "bytes=0-0": true, "bytes=9-": true, "bytes=-1": true, "bytes=-99": true,
		"bytes=2-99": true, "bytes=20-, 1-2": true, "bytes= 1-2 ,,3-4": true,
		"bytes=10-": false, "bytes=10-20": false, "bytes=-0": false, "bytes=5-4": false, "bytes=": false, "bytes=,": false,
		"bytes=a-b": false, "bytes=+1-2": false, "bytes=1": false, "bytes=-": false, "items=0-1": false, "0-1": false,
		"bytes=99999999999999999999-": false, "bytes=1-2,x": false,
	} {
		if err := checkRange(header, 10); (err == nil) != ok {
			t.Errorf("%q of 10 bytes: %v", header, err)
		}
	}
}

// FuzzRange holds our reading of Range against net/http's: what we let through it must not refuse.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=1-2", "bytes=-3", "bytes=2-1", "bytes=0-0,-1", "bytes=5-,0-1", "bytes=x", "bytes=", "bytes=--1", "bytes=1 - 2", "bytes=-9223372036854775807"} {
		f.Add(s, uint8(10))
	}
	f.Add("bytes=0-", uint8(0))
	f.Fuzz(func(t *testing.T, header string, size uint8) {
		if checkRange(header, int64(size)) != nil {
			return
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", header)
		w := httptest.NewRecorder()
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, size)))
		if w.Code != http.StatusOK && w.Code != http.StatusPartialContent {
			t.Errorf("Range %q of %d bytes was let through and gets %d", header, size, w.Code)
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
