package sample_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

func TestFailing(t *testing.T) {
	c := newContent(t, "127.0.0.1:5055")
	for percent, want := range map[int][2]int{0: {0, 0}, 20: {20, 80}, 100: {200, 200}} {
		server := httptest.NewServer(sample.Failing(c.Handler(), percent))
		t.Cleanup(server.Close)
		failed, kinds := 0, map[string]bool{}
		for range 200 {
			kind := fault(server.URL + "/v2/samples/docker/manifests/v1")
			if kind != "" {
				failed++
				kinds[kind] = true
			}
		}
		if failed < want[0] || failed > want[1] || percent > 0 && len(kinds) != 3 {
			t.Errorf("of 200 requests %d fail at %d %%, in the ways %v", failed, percent, kinds)
		}
		if kind := fault(server.URL + sample.ChartsPath + "index.yaml"); kind != "" {
			t.Errorf("what is not of the registry fails: %s", kind)
		}
	}
}

// fault is the way in which a request fails, or "".
func fault(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return "before the answer"
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "within the answer"
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return ""
}
