package installer

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
)

// A file right in the home directory of the install cannot be shown to the service: an install with it is
// refused before anything is changed.
func TestInstall_fileRightInTheHome(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	b.write("root/auth.json", `{"auths":{}}`)
	b.append("upstreams:\n  - prefix: quay.io\n    url: https://quay.io\n    authFile: /root/auth.json\n")
	before := b.snapshot()
	_, err := PlanInstall(t.Context(), b.request(), b.deps)
	var failure *PreflightError
	if !errors.As(err, &failure) || len(failure.Problems) != 1 || !strings.Contains(err.Error(), "config.yaml names /root/auth.json, and the service sees nothing that is right in /root") || !strings.Contains(failure.Hint(), "/root/quay-install/quay-config") {
		t.Errorf("it ends with %v", err)
	}
	same(t, "after the refusal", b.snapshot(), before)
	for _, moved := range [][2]string{{"/root/auth.json", "/root/quay-install/auth.json"}, {"/root/quay-install/auth.json", "/root/quay-install/quay-config/auth.json"}} {
		b.edit(moved[0], moved[1])
		b.plan(b.request())
	}
}

// The unit shows the service the files of scheduled runs as well.
func TestInstall_filesOfSync(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	b.edit("sync: []", "sync:\n  - imageSet: /root/sets/isc.yaml\n    workspace: /root/quay-install/ws\n    interval: 24h\n    authFile: /root/logins/auth.json\n")
	b.install()
	unit := b.read("etc/systemd/system/appliance.service")
	for _, dir := range []string{"/root/sets", "/root/logins"} {
		if !strings.Contains(unit, dir) {
			t.Errorf("the unit does not show %s:\n%s", dir, unit)
		}
	}
}

// A file of an upstream that the service cannot read, though root can, is found before it is named.
func TestIdentity_CheckFiles(t *testing.T) {
	t.Parallel()
	b := newBox(t, os.Geteuid() != 0)
	b.install()
	if b.user {
		return // a user's service reads what the user does
	}
	for _, tc := range []struct {
		path string
		mode os.FileMode
		want string // "": it can be read
	}{
		{"root/auth.json", 0o644, "/root/auth.json: the service does not see /root, which its unit hides"},
		{"root/creds/auth.json", 0o644, "the service does not see /root/creds"},
		{"etc/upstream/auth.json", 0o600, "may not read it (mode 0600)"},
		{"etc/upstream/auth.json", 0o644, ""},
		{"root/quay-install/quay-config/auth.json", 0o644, ""},
		{"etc/upstream/none.json", 0, ""},
	} {
		if tc.mode != 0 {
			b.write(tc.path, "{}")
			b.chmod(tc.path, tc.mode)
		}
		id, err := Locate(b.deps, "", "")
		if err != nil {
			t.Fatal(err)
		}
		id.UID = 65534 // in the group of quay-config
		b.chmod("etc/upstream/..", 0o755)
		err = id.CheckFiles(b.deps, config.Upstream{Prefix: "a", URL: "https://a", AuthFile: "/" + tc.path})
		if (err != nil) != (tc.want != "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !strings.Contains(hint.Of(err), "chown root:appliance")) {
			t.Errorf("%s (%o): %v", tc.path, tc.mode, err)
		}
	}
	id, err := Locate(b.deps, "", "")
	if err != nil {
		t.Fatal(err)
	}
	id.UID = 65534 // in the group of quay-config
	for _, dir := range []string{"etc/upstream", "root/quay-install/closed"} {
		b.write(dir+"/auth.json", "{}")
		b.chmod(dir, 0o700)
		err = id.CheckFiles(b.deps, config.Upstream{Prefix: "a", URL: "https://a", CA: "/" + dir + "/auth.json"})
		if err == nil || !strings.Contains(err.Error(), "may not pass through /"+dir) {
			t.Errorf("behind a closed directory: %v", err)
		}
	}
}
