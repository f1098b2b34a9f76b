package upstream

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// A registry, or a proxy before it, may refuse ranges in any way: then the whole
// blob is read again.
func TestClient_Blob_resumesWhereRangeIsRefused(t *testing.T) {
	answers := map[string]func(w http.ResponseWriter, f *fixture){
		"with another range": func(w http.ResponseWriter, f *fixture) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", len(f.layer)-1, len(f.layer)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(f.layer[5:])
		},
		"with several parts": func(w http.ResponseWriter, _ *fixture) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			w.WriteHeader(http.StatusPartialContent)
		},
	}
	for _, status := range []int{400, 403, 405, 406, 412, 416, 501} {
		answers[fmt.Sprint("with ", status)] = func(w http.ResponseWriter, _ *fixture) { w.WriteHeader(status) }
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, nth int) bool {
				switch {
				case nth == 1:
					sendPart(w, f.layer, 2<<20)
					cut()
				case r.Header.Get("Range") != "":
					answer(w, f)
					return true
				}
				return false
			})
			got, err := readBlob(t.Context(), f.client(t), f.blob)
			if err != nil || !bytes.Equal(got, f.layer) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if asked := f.ranges(); len(asked) != 3 || asked[2] != "" {
				t.Errorf("asked for %q", asked)
			}
			rest, size, err := f.client(t).BlobFrom(t.Context(), repo, f.blob, 2<<20) // an earlier run broke off
			if err != nil {
				t.Fatal(err)
			}
			got, err = io.ReadAll(rest)
			if err != nil || !bytes.Equal(got, f.layer[2<<20:]) || size != int64(len(f.layer)) {
				t.Errorf("from the middle: got %d bytes of %d, %v", len(got), size, err)
			}
			if err := rest.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Without a length, a connection that is closed early looks like the end of the blob.
func TestClient_Blob_resumesAfterAnEarlyEnd(t *testing.T) {
	send := func(t *testing.T, w http.ResponseWriter, content []byte) {
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
		_, _ = out.Write(content)
		_ = out.Flush()
	}
	t.Run("and gets the rest", func(t *testing.T) {
		f := newFixture(t)
		f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if nth == 1 {
				send(t, w, f.layer[:2<<20])
				return true
			}
			return serveRange(w, r, f.layer)
		})
		got, err := readBlob(t.Context(), f.client(t), f.blob)
		if err != nil || !bytes.Equal(got, f.layer) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
	t.Run("and not again where nothing follows", func(t *testing.T) {
		f := newFixture(t)
		f.layer[0]++
		f.fault = onBlobs(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			send(t, w, f.layer)
			return true
		})
		_, err := readBlob(t.Context(), f.client(t), f.blob)
		wantText(t, asError(t, err).Error(), "not to "+f.blob.String())
		if n := f.count("GET", "/blobs/"+f.blob.String()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}
