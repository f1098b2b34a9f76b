package imageset

import (
	"strings"
	"testing"
)

// A pinned configuration goes into archives and tickets, and has no secret of an address.
func TestConfig_Pin_hasNoSecrets(t *testing.T) {
	c, err := Parse("isc.yaml", []byte(`kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  helm:
    repositories:
    - {name: a, url: 'https://me:s3cret@charts.example.com/a/'}
    - {name: b, url: 'https://charts.example.com/b/?token=s3cret'}
`))
	if err != nil {
		t.Fatal(err)
	}
	set, deletion, err := c.Pin(Pins{})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(set), string(deletion)} {
		if strings.Contains(text, "s3cret") || !strings.Contains(text, "https://charts.example.com/a/") || !strings.Contains(text, "https://charts.example.com/b/") {
			t.Errorf("it has\n%s", text)
		}
	}
}
