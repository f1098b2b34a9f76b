package mirror_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestExecute_aManifestThatIsWrongAboutASize(t *testing.T) {
	for name, length := range map[string]bool{"and a length that is told": true, "and none": false} {
		for change, by := range map[string]int{"too many bytes": -1, "too few": 1} {
			t.Run(change+" "+name, func(t *testing.T) {
				s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n")
				m, _ := s.Manifest("samples/oci", "v1")
				d := s.layer(t, "samples/oci", "v1")
				data, _ := s.Blob("samples/oci", d)
				wrong := strings.Replace(string(m.Body), `"`+d.String()+`","size":`+itoa(len(data)), `"`+d.String()+`","size":`+itoa(len(data)+by), 1)
				if wrong == string(m.Body) {
					t.Fatal("the manifest is written otherwise")
				}
				s.fails(func(w http.ResponseWriter, r *http.Request) bool {
					switch {
					case strings.HasSuffix(r.URL.Path, "/manifests/v1"):
						w.Header().Set("Content-Type", m.MediaType)
						io.WriteString(w, wrong)
						return true
					case strings.HasSuffix(r.URL.Path, d.String()) && !length:
						w.(http.Flusher).Flush()
						w.Write(data)
						return true
					}
					return false
				})
				s.asked("")
				report, err := s.mirror(t)
				if exitCode(err) != 8 || len(report.Failures) != 1 {
					t.Fatalf("error %v, failures %v", err, report.Failures)
				}
				if got := report.Failures[0].Error; !strings.Contains(got, "registry "+s.host) || !strings.Contains(got, "its manifest gives it "+itoa(len(data)+by)+" bytes") {
					t.Errorf("it is said that %s", got)
				}
				if asked := s.asked("GET /v2/samples/oci/blobs/" + d.String()); len(asked) != 1 {
					t.Errorf("it was fetched %d times", len(asked))
				}
			})
		}
	}
}
