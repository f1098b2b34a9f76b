//go:build e2e

package main_test

import (
	"strings"
	"testing"
)

// answersAdministrator has an install that is well say so, and its host trust it for a while.
func (b *box) answersAdministrator(t *testing.T, password string) {
	t.Helper()
	out := b.inside(t, installed, "doctor")
	for _, want := range []string{"ok       unit        appliance.service: enabled and active", "ok       unit        appliance.socket: enabled and active",
		"ok       name        " + boxHost, "ok       port        " + registryAddress, "ok       files ", "ok       directories ", "ok       database "} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
	b.inside(t, installed, "config", "validate")

	url := "https://" + registryAddress + "/health/instance"
	b.fails(t, []string{"SSL certificate problem"}, "exec", "curl", "-sS", url)
	b.inside(t, installed, "trust")
	b.inside(t, "curl", "-sSf", url)
	if out := b.inside(t, installed, "trust"); !strings.Contains(out, "nothing had to be changed") {
		t.Errorf("a second trust says\n%s", out)
	}
	b.inside(t, installed, "trust", "--undo")
	b.fails(t, []string{"SSL certificate problem"}, "exec", "curl", "-sS", url)

	secret := b.inside(t, "cat", "/root/quay-install/quay-config/pull-secret.json")
	if out := b.inside(t, installed, "credentials"); out != secret {
		t.Error("credentials does not print the pull secret")
	}
	const bundle = "/root/case.tar.gz"
	b.inside(t, installed, "support-bundle", "-o", bundle)
	if mode := b.inside(t, "stat", "-c", "%a %U", bundle); mode != "600 root\n" {
		t.Errorf("the bundle is %s", mode)
	}
	out = b.inside(t, "tar", "xzOf", bundle)
	for _, want := range []string{"msg=request", "ExecStart=", "MainPID=", "appliance_build_info", `"check": "database"`, "LISTEN [::]:8443", "pages "} {
		if !strings.Contains(out, want) {
			t.Errorf("the bundle lacks %q", want)
		}
	}
	if !strings.Contains(secret, `"auth":"`) {
		t.Fatalf("the pull secret is %s", secret)
	}
	_, auth, _ := strings.Cut(secret, `"auth":"`)
	auth, _, _ = strings.Cut(auth, `"`)
	for _, hidden := range []string{password, auth, "PRIVATE KEY"} {
		if strings.Contains(out, hidden) {
			t.Errorf("the bundle has a secret: %.4s…", hidden)
		}
	}
	b.inside(t, "rm", bundle)
}

// answersWhenDown is the same of a service that is stopped.
func (b *box) answersWhenDown(t *testing.T) {
	t.Helper()
	b.fails(t, []string{"FAILED   unit        appliance.service: it is inactive", "hint: sudo systemctl start appliance.service",
		"FAILED   port        " + registryAddress + ": nothing listens", "FAILED   daemon "}, "exec", installed, "doctor")
	b.inside(t, installed, "config", "validate")
}
