package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/installer"
)

// An install that was killed may have made the user, and not shown its password.
func TestReportInstall_LostPassword(t *testing.T) {
	var out bytes.Buffer
	reportInstall(&out, installer.Result{Address: "r.example.com:8443", QuayRoot: t.TempDir(), InitUser: "init"})
	if !strings.Contains(out.String(), "appliance user passwd init") {
		t.Errorf("no way to a new password:\n%s", out.String())
	}
}

// An empty value is an unset variable of a script.
func TestInstall_RefusesEmptyValues(t *testing.T) {
	for _, flag := range []string{"--quayHostname", "--initUser", "--initPassword", "--quayRoot"} {
		c := newInstallCommand(stdio{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
		c.SetArgs([]string{"--dry-run", flag, ""})
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), flag[2:]) || !strings.Contains(err.Error(), "empty") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// The CA is the one that config.yaml names. There is none beside a certificate that clients know.
func TestReportInstall_CA(t *testing.T) {
	for ca, want := range map[string]string{"/srv/ca/root.pem": "https://r.example.com:8443/ca.crt, or /srv/ca/root.pem\n", "": ""} {
		var out bytes.Buffer
		reportInstall(&out, installer.Result{Address: "r.example.com:8443", QuayRoot: t.TempDir(), CA: ca})
		if said := strings.Contains(out.String(), "CA for clients"); said != (want != "") || !strings.Contains(out.String(), want) {
			t.Errorf("with the CA %q:\n%s", ca, out.String())
		}
	}
}

// A user puller whose role was changed can do more than read.
func TestReportInstall_PullerRole(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(root, "quay-config"), 0o700), os.WriteFile(installer.PullSecretFile(root), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for role, want := range map[string]string{"": "which can only read: " + installer.PullSecretFile(root), "push": "the user puller, which is for cluster nodes, has the role push and is left alone; to have it only read: appliance user role puller pull"} {
		var out bytes.Buffer
		reportInstall(&out, installer.Result{Address: "r.example.com:8443", QuayRoot: root, PullerRole: role})
		if strings.Contains(out.String(), "which can only read") != (role == "") || !strings.Contains(out.String(), want) {
			t.Errorf("with the role %q:\n%s", role, out.String())
		}
	}
}
