//go:build e2e

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// quayUnits are as mirror-registry writes them, with a program that listens in the place of podman's.
const quayUnits = `set -e
tar -C / -xf /root/quay.tar && rm /root/quay.tar
cd /etc/systemd/system
for name in pod redis; do
	printf '[Unit]\nPartOf=quay-pod.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' > quay-$name.service
done
cat > quay-app.service <<'EOF'
[Unit]
After=quay-pod.service quay-redis.service
[Service]
ExecStart=/usr/bin/systemd-socket-activate -l 8443 /bin/cat \
    --name quay-app \
    -v /root/quay-install/quay-config:/quay-registry/conf/stack:Z \
    -v /root/quay-install/sqlite-storage:/sqlite:Z,U \
    -v /root/quay-install/quay-storage:/datastorage:Z
[Install]
WantedBy=multi-user.target default.target
EOF
systemctl daemon-reload
systemctl enable --now quay-pod quay-redis quay-app`

// takesOver has a mirror-registry replaced, by the command of its users' runbooks.
func (b *box) takesOver(t *testing.T) {
	t.Helper()
	tree := t.TempDir()
	q := newQuay(t, filepath.Join(tree, "root/quay-install"))
	image := newTestImage("openshift/release", "4.17", randomBytes(2<<20), randomBytes(10))
	q.tag(t, 1, "4.17", q.push(t, 1, image), time.Time{}, false)
	ca, err := tlsgen.CreateCA("quay", time.Now())
	must(t, err)
	leaf, key, err := ca.IssueLeaf([]string{boxHost}, time.Now())
	must(t, err)
	for name, content := range map[string][]byte{"quay-rootCA/rootCA.pem": ca.CertPEM(), "quay-rootCA/rootCA.key": ca.KeyPEM(),
		"quay-config/ssl.cert": leaf, "quay-config/ssl.key": key} {
		must(t, os.WriteFile(filepath.Join(q.root, name), content, 0o600))
	}
	namesBox(t, filepath.Join(q.root, "quay-config/config.yaml"))
	archive := filepath.Join(t.TempDir(), "quay.tar")
	if out, err := exec.Command("tar", "-C", tree, "-cf", archive, "root/quay-install").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.must(t, "push", archive, "/root/quay.tar")
	b.inside(t, "sh", "-c", quayUnits)
	must(t, os.WriteFile(filepath.Join(b.certs(), "ca.crt"), ca.CertPEM(), 0o600)) // and never another
	before := b.files(t)
	unchanged := func(t *testing.T) {
		t.Helper()
		for _, unit := range []string{"quay-pod", "quay-redis", "quay-app"} {
			b.inside(t, "systemctl", "is-active", unit)
			b.inside(t, "systemctl", "is-enabled", unit)
		}
		if left := without(b.files(t), before); len(left) > 0 {
			t.Errorf("left: %s", strings.Join(left, "\n"))
		}
	}
	t.Run("a plan", func(t *testing.T) {
		out := b.inside(t, "/root/appliance", "install", "--adopt", "--dry-run")
		for _, want := range []string{"stop and disable the mirror-registry", "would take over 1 repository with 1 manifest and 1 tag", "users, with their passwords and tokens: init, init+ci, dev"} {
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q:\n%s", want, out)
			}
		}
		unchanged(t)
	})
	t.Run("what fails gives the host back", func(t *testing.T) {
		b.inside(t, "mv", "/root/quay-install/quay-storage/sha256", "/root/quay-install/quay-storage/away")
		b.fails(t, []string{"nothing could be imported", "what had been done was taken back"}, "exec", "/root/appliance", "upgrade")
		b.inside(t, "mv", "/root/quay-install/quay-storage/away", "/root/quay-install/quay-storage/sha256")
		unchanged(t)
	})
	t.Run("a power cut brings it back", func(t *testing.T) {
		b.inside(t, "sh", "-c", `mkdir /root/slow
			printf '#!/bin/sh\nexec sleep 600\n' > /root/slow/systemd-sysusers; chmod 755 /root/slow/systemd-sysusers
			systemd-run --collect --setenv=PATH=/root/slow:$PATH /root/appliance upgrade`)
		waitFor(t, "the mirror-registry to end", func() error {
			_, err := b.run("exec", "ls", "/etc/systemd/system/quay-app.service.mirror-registry")
			return err
		})
		b.must(t, "kill")
		b.must(t, "up")
		waitFor(t, "the mirror-registry to run", func() error {
			_, err := b.run("exec", "systemctl", "is-active", "quay-app")
			return err
		})
		b.inside(t, "rm", "-r", "/root/slow")
		unchanged(t)
	})
	t.Run("everything is there", func(t *testing.T) {
		out := b.inside(t, "/root/appliance", "upgrade")
		if !strings.Contains(out, "took over 1 repository with") || !strings.Contains(out, "1 linked") && !strings.Contains(out, "1 cloned") {
			t.Errorf("it says:\n%s", out)
		}
		b.healthy(t)
		for _, login := range []string{"init:" + quayPassword, "init+ci:" + robotToken} {
			raw := b.client(t, "skopeo", "inspect", "--raw", "--creds", login, "--cert-dir", b.certs(), "docker://"+registryAddress+"/openshift/release:4.17")
			if got := digest.FromString(raw); got != image.digest {
				t.Errorf("%s gets %s", login, got)
			}
		}
		b.client(t, "skopeo", "copy", "--src-creds", "init:"+quayPassword, "--src-cert-dir", b.certs(),
			"docker://"+registryAddress+"/openshift/release:4.17", "oci:"+filepath.Join(b.home, "adopted"))
		units := b.inside(t, "sh", "-c", "cd /etc/systemd/system; readlink quay-app.service; ls *"+".mirror-registry; systemctl is-active quay-app")
		for _, want := range []string{"appliance.service", "quay-pod.service.mirror-registry", "quay-redis.service.mirror-registry", "quay-app.service.mirror-registry"} {
			if !strings.Contains(units, want) {
				t.Errorf("there is no %s: %s", want, units)
			}
		}
		if out := b.inside(t, installed, "verify", "--content"); !strings.Contains(out, "nothing is damaged") {
			t.Error(out)
		}
	})
	t.Run("a second time nothing is", func(t *testing.T) {
		if out := b.inside(t, "/root/appliance", "install", "--adopt"); !strings.Contains(out, "was taken over already") || !strings.Contains(out, "nothing had to be changed") {
			t.Errorf("it says:\n%s", out)
		}
	})
	t.Run("uninstall leaves what is the mirror-registry's", func(t *testing.T) {
		b.inside(t, installed, "uninstall", "--autoApprove")
		for _, content := range image.contents {
			b.inside(t, "test", "-s", strings.TrimPrefix(q.file(digest.FromBytes(content)), tree))
		}
		if out, err := b.run("exec", "sh", "-c", "ls -d /root/appliance-install 2>&1"); err == nil {
			t.Error(fmt.Sprint("left: ", out))
		}
	})
	t.Run("the way back, and a cleanup", func(t *testing.T) {
		b.inside(t, "sh", "-c", `cd /etc/systemd/system; for f in *.mirror-registry; do mv $f ${f%.mirror-registry}; done
			systemctl daemon-reload; systemctl enable --now quay-pod quay-redis quay-app`)
		unchanged(t)
		b.inside(t, "/root/appliance", "install", "--adopt")
		layer := filepath.Join("/root/appliance-install/quay-storage", blobfile.Name(digest.FromBytes(image.contents[len(image.contents)-1])))
		b.inside(t, "sh", "-c", `echo mine > /root/quay-install/quay-config/mine
			cp -p $0 $0.x && printf damage | dd of=$0.x conv=notrunc status=none && mv $0.x $0`, layer)
		out := b.inside(t, "sh", "-c", `echo n | `+installed+` install --cleanup 2>&1`)
		for _, want := range []string{"of which 2.0 MiB are the appliance's as well", "was damaged in the appliance; the mirror-registry's copy", "/root/quay-install stays, and the retired units"} {
			if !strings.Contains(out, want) {
				t.Errorf("without consent, it does not say %q:\n%s", want, out)
			}
		}
		b.inside(t, "rm", "/root/quay-install/quay-config/config.yaml") // as a cleanup that was killed
		if out := b.inside(t, installed, "install", "--cleanup", "--autoApprove"); !strings.Contains(out, "except for what stays\nstays: /root/quay-install/quay-config/mine") {
			t.Errorf("it says:\n%s", out)
		}
		b.inside(t, "rm", "-r", "/root/quay-install/quay-config/mine")
		b.inside(t, "rmdir", "/root/quay-install/quay-config", "/root/quay-install")
		if out := b.inside(t, installed, "verify", "--content"); !strings.Contains(out, "nothing is damaged") {
			t.Error(out)
		}
		b.healthy(t)
		b.inside(t, installed, "uninstall", "--autoApprove")
		b.nothingOf(t, "quay", "/root/appliance")
	})
}

// namesBox has a configuration of Quay's name the box.
func namesBox(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte(strings.Replace(string(text), "registry.example.com", boxHost, 1)), 0o600))
}

// nothingOf expects that a host has no file with a word in its name, except for one.
func (b *box) nothingOf(t *testing.T, word string, but ...string) {
	t.Helper()
	for _, file := range b.files(t) {
		if strings.Contains(file, word) && !slices.Contains(but, file) {
			t.Errorf("left: %s", file)
		}
	}
}

// quadlet does what podman's generator does, with a program that listens in the place of podman's.
const quadlet = `set -e
tar -C / -xf /root/quay.tar && rm /root/quay.tar
mkdir -p /etc/containers/systemd /etc/systemd/system-generators
cat > /etc/containers/systemd/quay.container <<'EOF'
[Container]
Image=quay.io/quay/quay-mirror:latest
Volume=/var/lib/quay:/data:Z
PublishPort=8443:8443
Exec=serve --config /data/config.yaml --hostname ` + boxHost + `:8443
EOF
cat > /etc/systemd/system-generators/quay <<'EOF'
#!/bin/sh
[ -f /etc/containers/systemd/quay.container ] || exit 0
printf '[Service]\nExecStart=/usr/bin/systemd-socket-activate -l 8443 /bin/cat\n' > $1/quay.service
EOF
chmod 755 /etc/systemd/system-generators/quay
systemctl daemon-reload
systemctl start quay`

// takesOver3 has a mirror-registry 3 replaced, of which a layer is lost.
func (b *box) takesOver3(t *testing.T) {
	t.Helper()
	tree := t.TempDir()
	root := filepath.Join(tree, "var/lib/quay")
	newQuay3(t, root)
	namesBox(t, filepath.Join(root, "config.yaml"))
	must(t, os.Remove(quay3File(root, "layer of arm64")))
	ca, err := tlsgen.CreateCA(boxHost, time.Now())
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "ssl.cert"), ca.CertPEM(), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "ssl.key"), ca.KeyPEM(), 0o600))
	archive := filepath.Join(t.TempDir(), "quay.tar")
	if out, err := exec.Command("tar", "-C", tree, "-cf", archive, "var/lib/quay").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.must(t, "push", archive, "/root/quay.tar")
	b.inside(t, "sh", "-c", quadlet)
	must(t, os.WriteFile(filepath.Join(b.certs(), "ca.crt"), ca.CertPEM(), 0o600)) // and never another
	before := b.files(t)
	t.Run("what fails gives the host back", func(t *testing.T) {
		b.inside(t, "mv", "/var/lib/quay/storage/sha256", "/var/lib/quay/storage/away")
		b.fails(t, []string{"nothing could be imported", "what had been done was taken back"}, "exec", "/root/appliance", "upgrade")
		b.inside(t, "mv", "/var/lib/quay/storage/away", "/var/lib/quay/storage/sha256")
		b.inside(t, "systemctl", "is-active", "quay")
		if left := without(b.files(t), before); len(left) > 0 {
			t.Errorf("left: %s", strings.Join(left, "\n"))
		}
	})
	t.Run("what was not taken over is not cleaned up unasked", func(t *testing.T) {
		b.fails(t, []string{"openshift/release@sha256:f57e", "/var/lib/quay stays: the appliance does not have 3 items"},
			"exec", "/root/appliance", "upgrade", "--cleanup", "--autoApprove")
		b.healthy(t)
		for _, login := range []string{"init:" + quayPassword, "init+ci:" + robotToken} {
			b.client(t, "skopeo", "list-tags", "--creds", login, "--cert-dir", b.certs(), "docker://"+registryAddress+"/openshift/release")
		}
		raw := b.client(t, "skopeo", "inspect", "--raw", "--no-creds", "--cert-dir", b.certs(), "docker://"+registryAddress+"/mirror/ocp/images:x")
		if got := digest.FromString(raw); got != "sha256:6ba31ee4c29a515bcec9c2d136f0a4f5d56dff9360ffbc519ba950fabde0a6c4" {
			t.Errorf("without a login it gets %s", got)
		}
		b.inside(t, "sh", "-c", "test -s /var/lib/quay/quay.db && ! test -e /etc/containers/systemd/quay.container && ! systemctl is-active quay")
		b.inside(t, installed, "uninstall", "--autoApprove")
		left := without(b.files(t), before)
		left = slices.DeleteFunc(left, func(line string) bool { return strings.Contains(line, "quay.container.mirror-registry") })
		if len(left) > 0 {
			t.Errorf("left: %s", strings.Join(left, "\n"))
		}
	})
}
