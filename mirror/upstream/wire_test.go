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
