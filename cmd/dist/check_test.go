//go:build distcheck

package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestCheck makes packages for this machine and tries them: with lintian, rpm, man, three shells, and beside an
// install on a real systemd. It needs root; .ci/run installs the rest.
func TestCheck(t *testing.T) {
	root, err := filepath.Abs("../..")
	must(t, err)
	first := distOf(t, root, "v0.0.1", "-fips=false")
	t.Run("another clone makes the same files", func(t *testing.T) {
		clone := filepath.Join(t.TempDir(), "another", "place")
		must(t, os.MkdirAll(clone, 0o755))
		sh(t, `cd "$1" && git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$2"`, root, clone)
		sh(t, `diff -r "$1" "$2"`, first, distOf(t, clone, "v0.0.1", "-fips=false"))
	})
	t.Run("checksums and the archive", func(t *testing.T) {
		out := sh(t, `cd "$1" && sha256sum --quiet --check SHA256SUMS && tar -xzf ./*.tar.gz -C "$2" && "$2"/*/appliance version`, first, t.TempDir())
		if !strings.HasPrefix(out, "appliance version v0.0.1,") {
			t.Error(out)
		}
	})
	t.Run("lintian", func(t *testing.T) {
		sh(t, `lintian --allow-root --fail-on error,warning,info --suppress-tags spelling-error-in-binary "$1"/*.deb`, first)
	})
	files := t.TempDir()
	sh(t, `dpkg-deb -x "$1"/*.deb "$2"`, first, files)
	t.Run("manual pages", func(t *testing.T) { testPages(t, filepath.Join(files, "usr/share/man/man1")) })
	t.Run("completion", func(t *testing.T) { testCompletion(t, files) })
	testBox(t, first, distOf(t, root, "v0.0.2", "-fips=false"))
}

// distOf makes what is handed out for this machine, and returns its directory.
func distOf(t *testing.T, root, version string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	must(t, run(t.Context(), append([]string{"-root", root, "-dir", dir, "-version", version, "-arch", runtime.GOARCH}, args...)))
	return dir
}

// sh runs a script with arguments, and returns its output.
func sh(t *testing.T, script string, args ...string) string {
	t.Helper()
	c := exec.Command("bash", append([]string{"-euo", "pipefail", "-c", script, "bash"}, args...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func testPages(t *testing.T, dir string) {
	out := sh(t, `cd "$1" && for page in *; do
		MANROFFSEQ='' LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "./$page" 2>&1 >/dev/null | sed "s/^/$page: /"
	done`, dir)
	if out != "" {
		t.Error(out)
	}
	page, err := os.ReadFile(filepath.Join(dir, "appliance-install.1.gz"))
	must(t, err)
	_, err = gzip.NewReader(bytes.NewReader(page))
	must(t, err)
	if out := sh(t, `LC_ALL=C.UTF-8 MANWIDTH=200 man -l "$1/appliance-install.1.gz"`, dir); !strings.Contains(out, "HOST[:PORT] (default this host's name, port 8443)") {
		t.Error(out)
	}
}

// testCompletion has each shell complete a line with the files of the package.
func testCompletion(t *testing.T, files string) {
	for line, want := range map[string]string{"appliance sta": "status", "appliance status --o": "--output", "appliance status -o ": "json",
		"appliance user add ci --role p": "pull push", "appliance mirror -c /etc/hostn": "hostname"} {
		for shell, script := range map[string]string{
			"bash": `source /usr/share/bash-completion/bash_completion
				source "$FILES/usr/share/bash-completion/completions/appliance"
				read -ra COMP_WORDS <<<"$LINE"
				case $LINE in *' ') COMP_WORDS+=("") ;; esac
				COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$LINE COMP_POINT=${#LINE}
				compopt() { :; } # there is no completion under way
				__start_appliance
				printf '%s\n' "${COMPREPLY[@]}"
				[ ${#COMPREPLY[@]} -gt 0 ] || compgen -f -- "${COMP_WORDS[COMP_CWORD]}"`,
			"fish": `source $FILES/usr/share/fish/vendor_completions.d/appliance.fish; complete -C "$LINE"`,
			"zsh": `zmodload zsh/zpty
				zpty z zsh -f -i
				zpty -w z "PS1= fpath=($FILES/usr/share/zsh/vendor-completions \$fpath) LISTMAX=1000 TERM=dumb; autoload -U compinit; compinit -u -D; zstyle ':completion:*' list-separator '--'; bindkey '^I' list-choices; echo rea''dy"
				zpty -r -m z all '*ready*'
				zpty -w -n z "$LINE"$'\t'; sleep 2; zpty -r -t z all; sleep 1; while zpty -r -t z more; do all+=$more; done; print -r -- "$all"`,
		} {
			c := exec.Command(shell, "-c", script)
			c.Env = append(os.Environ(), "FILES="+files, "LINE="+line, "PATH="+files+"/usr/bin:"+os.Getenv("PATH"), "TERM=dumb")
			out, err := c.CombinedOutput()
			for word := range strings.FieldsSeq(want) {
				if err != nil || !strings.Contains(string(out), word) {
					t.Errorf("%s completes %q, want %q: %v\n%s", shell, line, word, err, out)
				}
			}
		}
	}
}

// testBox tries the packages on a real systemd, and the RPM in the same root.
func testBox(t *testing.T, old, new string) {
	script, err := filepath.Abs("../../testdata/sdbox/sdbox")
	must(t, err)
	dir := "/var/tmp/appliance-sdbox"
	box := func(args ...string) string {
		t.Helper()
		c := exec.Command(script, args...)
		c.Env = append(os.Environ(), "SDBOX_NAME=packages", "SDBOX_DIR="+dir)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	box("down")
	t.Cleanup(func() { box("down") })
	box("up")
	for name, from := range map[string]string{"old": old, "new": new} {
		sh(t, `cp "$1"/*.deb "$2"`, from, filepath.Join(dir, "packages/root/root", name+".deb"))
	}
	box("push", "testdata/box.sh", "/root/box.sh")
	t.Run("dpkg", func(t *testing.T) { t.Log(box("exec", "/root/box.sh")) })
	t.Run("rpm", func(t *testing.T) {
		sh(t, `r="$1/packages/root"
			rpm --root "$r" --initdb
			rpm -K --nosignature "$2"/*.rpm
			rpm --root "$r" -i --nodeps "$2"/*.rpm
			chroot "$r" getent passwd appliance
			chroot "$r" /usr/bin/appliance version | grep v0.0.1
			rpm --root "$r" -U --nodeps "$3"/*.rpm
			rpm --root "$r" -V --nodeps appliance
			chroot "$r" /usr/bin/appliance version | grep v0.0.2
			rpm --root "$r" -e appliance
			test ! -e "$r/usr/bin/appliance"`, dir, old, new)
	})
}
