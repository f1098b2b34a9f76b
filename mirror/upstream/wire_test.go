package upstream_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/upstream"
)

func TestAnswersPlain_retriesALostConnection(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(server.Close)
	if plain, err := upstream.AnswersPlain(t.Context(), server.Listener.Addr().String()); !plain || err != nil {
		t.Errorf("it does: %v, %v", plain, err)
	}
}

func TestAnswersPlain_whileItIsDown(t *testing.T) {
	for name, down := range map[string]int64{"for one request": 1, "for long": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked.Add(1) <= down {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			t.Cleanup(server.Close)
			if plain, err := upstream.AnswersPlain(t.Context(), server.Listener.Addr().String()); !plain || err != nil {
				t.Errorf("got %v, %v", plain, err)
			}
		})
	}
}
