package limits

import (
	"testing"

	"golang.org/x/net/http2"
)

// grown is a connection of ws whose server has handed out its window.
func grown(ws *windows) *windowed {
	w := ws.watch(nil)
	w.returned(Window - firstWindow)
	return w
}

// widened makes room for a body, without a connection to tell it on.
func widened(w *windowed, size int64) int64 {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	w.wanted = max(w.wanted, size)
	w.hand()
	return w.claim
}

func TestWindows(t *testing.T) {
	t.Run("a client without a login has what HTTP/2 gives to all", func(t *testing.T) {
		ws := &windows{limit: windowsLimit}
		w := grown(ws)
		w.returned(1000) // which it sent, and a handler has read
		if w.claim != firstWindow || ws.used != 0 || ws.open != 0 {
			t.Errorf("claims %d, all %d", w.claim, ws.used)
		}
	})
	t.Run("one upload has the whole window", func(t *testing.T) {
		ws := &windows{limit: windowsLimit}
		w := grown(ws)
		if got := widened(w, Window); got != Window || w.pending.Load() != Window-firstWindow || w.credit.Load() != Window {
			t.Errorf("claims %d, pending %d, credit %d", got, w.pending.Load(), w.credit.Load())
		}
		w.release()
		if ws.used != 0 || ws.open != 0 {
			t.Errorf("%d bytes of %d connections are claimed after its end", ws.used, ws.open)
		}
	})
	t.Run("an upload has it that is admitted before the server hands out its window", func(t *testing.T) {
		w := (&windows{limit: windowsLimit}).watch(nil)
		widened(w, Window)
		w.returned(Window - firstWindow)
		if w.claim != Window || w.pending.Load() != Window-firstWindow {
			t.Errorf("claims %d, pending %d", w.claim, w.pending.Load())
		}
	})
	t.Run("a small body has no more than it is of use", func(t *testing.T) {
		if got := widened(grown(&windows{limit: windowsLimit}), 100_000); got != 100_000 {
			t.Errorf("claims %d", got)
		}
	})
	t.Run("all together are bounded, and each has its least", func(t *testing.T) {
		ws := &windows{limit: windowsLimit}
		var all []*windowed
		for range 100 {
			w := grown(ws)
			if got := widened(w, Window); got < leastWindow {
				t.Fatalf("connection %d claims only %d", len(all), got)
			}
			all = append(all, w)
		}
		if most := int64(windowsLimit + 100*leastWindow); ws.used > most {
			t.Errorf("%d bytes are claimed, more than %d", ws.used, most)
		}
		// The first has filled its window. What its handlers read goes to others until it has
		// no more than its share.
		w := all[0]
		w.returned(w.claim)
		if w.claim > windowsLimit/50 || w.claim < leastWindow {
			t.Errorf("the first claims %d of its window after that was read", w.claim)
		}
		for _, w := range all {
			w.release()
		}
		if ws.used != 0 || ws.open != 0 {
			t.Errorf("%d bytes of %d connections are claimed in the end", ws.used, ws.open)
		}
	})
}

// TestFrames_inPieces follows frames that are cut anywhere.
func TestFrames_inPieces(t *testing.T) {
	update := []byte{0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0, 0, 0, 0, 9}
	data := append([]byte{0, 0, 3, byte(http2.FrameData), 0, 0, 0, 0, 1}, "abc"...)
	settings := []byte{0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0}
	stream := append(append(append(append([]byte{}, data...), update...), settings...), data...)
	kept := string(data) + string(settings) + string(data)
	for size := 1; size <= len(stream); size++ {
		w := grown(&windows{limit: windowsLimit})
		w.claim = firstWindow - 9 // a client that sent as much
		var out []byte
		for rest := stream; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			piece := rest[:min(size, len(rest))]
			if w.out.passes(piece) {
				out = append(out, piece...)
				continue
			}
			w.scratch = w.scratch[:0]
			w.out.scan(piece, func(f frame) bool { return !f.isWindow() }, w)
			out = append(out, w.scratch...)
		}
		if string(out) != kept || !w.out.atBoundary() {
			t.Errorf("in pieces of %d: %q", size, out)
		}
		if want := int64(Window - firstWindow + 9); w.owed+w.pending.Load() != want {
			t.Errorf("in pieces of %d: %d are owed and %d pending, together not %d", size, w.owed, w.pending.Load(), want)
		}
	}
}
