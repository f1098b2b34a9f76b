package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// The operators of an appliance as an image set asks for exactly those: the default channel of a package, which the
// source has otherwise, the place of the catalog, its platforms.
func TestImageSet_fromStoreOperators(t *testing.T) {
	for name, c := range map[string]struct{ path, operators, want string }{
		"filtered": {"", `  - catalog: HOST/redhat/redhat-operator-index:v4.18
    platforms: [{os: linux, architecture: amd64}]
    packages:
    - {name: sample-database, channels: [{name: stable, minVersion: 1.1.0}]}
    - {name: sample-logging, defaultChannel: stable-5.8, channels: [{name: stable-5.8, minVersion: 5.8.0}]}
`, `  - catalog: HOST/redhat/redhat-operator-index:v4.18
    platforms:
    - {os: linux, architecture: amd64}
    packages:
    - name: sample-database
      defaultChannel: stable
      channels:
      # held: 1.1.0, 1.2.0
      - name: stable
        minVersion: 1.1.0
        maxVersion: 1.2.0
    - name: sample-logging
      defaultChannel: stable-5.8
      channels:
      # held: 5.8.0, 5.8.1
      - name: stable-5.8
        minVersion: 5.8.0
        maxVersion: 5.8.1
`},
		"heads below a path, under another name": {"/own/path", `  - catalog: HOST/redhat/redhat-operator-index:v4.18
    targetCatalog: other/catalog
    targetTag: v9
    packages: [{name: sample-database}]
`, `# some of it is below the path own/path: give it with the destination, docker://HOST:PORT/own/path
mirror:
  operators:
  - catalog: HOST/redhat/redhat-operator-index:v4.18
    targetCatalog: other/catalog
    targetTag: v9
    packages:
    - name: sample-database
      defaultChannel: stable
      channels:
      # held: 2.0.0
      - name: fast
        minVersion: 2.0.0
        maxVersion: 2.0.0
      # held: 1.2.0
      - name: stable
        minVersion: 1.2.0
        maxVersion: 1.2.0
`},
		"whole": {"", "  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', full: true}\n", `  # held: the whole catalog, of 2 packages
  - catalog: HOST/redhat/redhat-operator-index:v4.18
    full: true
`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			flags := []string{"docker://" + s.address + c.path, "--workspace", "file://" + s.dir + "/ws", "--src-tls-verify=false", "--dest-creds", "admin:" + faultPassword}
			set := s.set(t, "imageset.yaml", "  operators:\n"+c.operators)
			s.works(t, append([]string{"mirror", "-c", set}, flags...)...)
			held := filepath.Join(s.dir, "held.yaml")
			s.works(t, "imageset", "from-store", "--quayRoot", s.root, "-o", held)
			raw, err := os.ReadFile(held)
			must(t, err)
			text := string(raw)
			if want := strings.ReplaceAll(c.want, "HOST/", s.source+"/"); !strings.HasSuffix(text, want) || strings.Contains(text, "not in here") {
				t.Errorf("it is\n%s", text)
			}
			if _, err := imageset.Load(held); err != nil {
				t.Error(err)
			}
			if code, stdout, stderr := s.run(t, append([]string{"drift", "-c", held}, flags...)...); code != 0 || !strings.Contains(stdout, ": 0 missing, 0 changed (0 B to copy); 0 no longer asked for") {
				t.Errorf("drift ended with %d:\n%s%s", code, stdout, stderr)
			}
			if again := s.works(t, "imageset", "from-store", "docker://"+s.address, "--dest-creds", "admin:"+faultPassword); again != text {
				t.Errorf("from elsewhere it is\n%s", again)
			}
			s.stop(t)
			if again := s.works(t, "imageset", "from-store", "--quayRoot", s.root); again != text {
				t.Errorf("without a daemon it is\n%s", again)
			}
		})
	}
}
