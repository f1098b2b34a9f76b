package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// copied is how the directory of a copy is called.
const copied = ".appliance-remote."

// copiedDir is a directory of ours as a host names it: what a shell takes literally in double
// quotes.
var copiedDir = regexp.MustCompile(`^/[^"'\\$` + "`" + `!\n]*` + regexp.QuoteMeta(copied) + `[A-Za-z0-9]+$`)

// IsCopy reports whether a path is that of a program that Run has brought, which is gone when its
// command has ended.
func IsCopy(path string) bool { return copiedDir.MatchString(filepath.Dir(path)) }

// marker is before what our scripts print: the shell of a user may print something as well.
const marker = "appliance-remote:"

// fields reads the lines NAME=VALUE that a script has printed with the marker.
func fields(out string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), marker); ok {
			name, value, _ := strings.Cut(rest, "=")
			found[name] = value
		}
	}
	return found
}

// machines are the architectures by what uname calls them.
var machines = map[string]string{"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}

func (h *host) architecture(ctx context.Context) (string, error) {
	limited, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	out, err := h.output(limited, `echo `+marker+`os=$(uname -s); echo `+marker+`machine=$(uname -m)`)
	if limited.Err() != nil && ctx.Err() == nil {
		return "", hint.New(fmt.Errorf("%s has not run a command within %s of the login", h.name, firstAnswer), h.tryLogin())
	}
	if err != nil {
		return "", err
	}
	found := fields(out)
	if len(found) == 0 {
		return "", hint.New(fmt.Errorf("%s has not run the command of the login: its shell ended before", h.name), h.tryLogin())
	}
	arch := machines[found["machine"]]
	if found["os"] != "Linux" || arch == "" {
		return "", fmt.Errorf("%s is %s on %s, for which there is no build of this program", h.name, found["os"], found["machine"])
	}
	return arch, nil
}

// tryLogin is the hint for a login whose shell runs no command.
func (h *host) tryLogin() string {
	return "see what a login does there: ssh " + h.name + " echo yes; in ~/.bashrc or another of the shell's files may stand exit, exec, or a program that waits"
}

// program is the file of a build, open.
type program struct {
	*os.File
	size int64
	hash string
}

// elfMachines are the architectures by what the header of a program calls them.
var elfMachines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390}

// open opens the build for an architecture: this program, or one beside it.
func open(self, arch string) (*program, error) {
	path := self
	if arch != runtime.GOARCH {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		beside := filepath.Dir(self)
		path = filepath.Join(beside, "appliance-linux-"+arch)
		if !exists(path) {
			path = filepath.Join(beside, "appliance-"+arch)
		}
		if !exists(path) {
			return nil, hint.New(fmt.Errorf("this program is built for %s, and there is none for %s beside it in %s", runtime.GOARCH, arch, beside),
				"put it there by the name of appliance-linux-"+arch+" or appliance-"+arch)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the program to be copied: %w", err)
	}
	header, err := elf.NewFile(f)
	if err == nil && header.Machine != elfMachines[arch] {
		err = fmt.Errorf("it is for %s", header.Machine)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is not a program for %s: %w", path, arch, err)
	}
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read the program to be copied: %w", err)
	}
	return &program{File: f, size: size, hash: hex.EncodeToString(sum.Sum(nil))}, nil
}

// prepare makes a directory that only the user can enter, on a file system that programs can be run
// from, and removes what copies that were cut off have left there: a day later, and a part of a program
// once nothing has come for some minutes, when sshd may not have noticed yet. A program that is installed there
// already and has the hash is taken. A place without rights or NEED KiB of space is passed over without a
// word: that none is left is an error of its own.
const prepare = `umask 077
for c in PLACES; do
	[ -w "$c" ] || continue
	find "$c" -maxdepth 1 -name "` + copied + `*" -user "$(id -u)" -mmin +1440 -exec rm -rf {} + 2>/dev/null
	find "$c" -maxdepth 1 -name "` + copied + `*" -user "$(id -u)" -exec find {} -maxdepth 1 -name part -mmin +3 -delete ";" 2>/dev/null
	set -- $(df -Pk "$c" 2>/dev/null | tail -n 1)
	[ -z "$4" ] || [ "$4" -ge NEED ] || continue
	d=$(mktemp -d "$c/` + copied + `XXXXXXXX" 2>/dev/null) || continue
	if echo "exit 0" >"$d/try" && chmod 700 "$d/try" && "$d/try" 2>/dev/null; then
		rm "$d/try"
		for p in /usr/local/bin/appliance "$HOME/.local/bin/appliance"; do
			if [ -r "$p" ] && cp "$p" "$d/appliance" 2>/dev/null; then
				s=$(sha256sum <"$d/appliance")
				if [ "${s%% *}" = HASH ]; then chmod 700 "$d/appliance"; echo ` + marker + `have=yes; break; fi
				rm -f "$d/appliance"
			fi
		done
		echo "` + marker + `dir=$d"
		exit 0
	fi
	rm -rf "$d"
done`

// receive writes the program, and removes it again unless it is whole.
const receive = `d="DIR"; umask 077; trap "" HUP
cat >"$d/part" && chmod 700 "$d/part" && s=$(sha256sum <"$d/part") && [ "${s%% *}" = HASH ] && mv "$d/part" "$d/appliance" && exit 0
rm -rf "$d"; echo "not all of it arrived as it was sent" >&2; exit 9`

// bring returns a directory of the host in which the program is, by the name of appliance.
func (h *host) bring(ctx context.Context, p *program) (dir string, err error) {
	places := `"$HOME" /var/tmp /tmp /opt`
	if h.to.Become != AsLogin { // for which a home directory on NFS may be closed
		places = `/var/tmp /tmp /opt "$HOME"`
	}
	need := p.size>>10 + 1<<10
	out, err := h.output(ctx, oneLine(strings.NewReplacer("PLACES", places, "HASH", p.hash, "NEED", fmt.Sprint(need)).Replace(prepare)))
	if err != nil {
		return "", err
	}
	found := fields(out)
	if dir = found["dir"]; !copiedDir.MatchString(dir) {
		return "", hint.New(fmt.Errorf("%s has no directory for a program: %s are not writable, mounted noexec, or have less than %d MiB free", h.name, strings.ReplaceAll(places, `"`, ""), need>>10),
			"make room in one of them, or have it mounted with exec while this runs: mount -o remount,exec /var/tmp")
	}
	if found["have"] != "" {
		return dir, nil
	}
	session, err := h.NewSession()
	if err != nil {
		return "", lost(h.name, err)
	}
	defer session.Close()
	defer h.closeWith(ctx, session)()
	var errs bytes.Buffer
	session.Stderr = &errs
	session.Stdin = &counted{p: p, copying: h.console.Copying}
	if err := session.Run(shell(oneLine(strings.NewReplacer("DIR", dir, "HASH", p.hash).Replace(receive)))); err != nil {
		err = h.failed(ctx, err, errs.String())
		if ctx.Err() == nil {
			err = fmt.Errorf("copy the program to %s: %w", dir, err)
		}
		return "", err
	}
	return dir, nil
}

// oneLine makes a line of a script: the C shell takes no line end in quotes.
func oneLine(script string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		b.WriteString(line)
		switch {
		case strings.HasSuffix(line, " do"), strings.HasSuffix(line, " then"):
			b.WriteString(" ")
		default:
			b.WriteString("; ")
		}
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// counted reads a program and tells how far it is.
type counted struct {
	p       *program
	done    int64
	copying func(done, total int64)
}

func (c *counted) Read(buf []byte) (int, error) {
	n, err := c.p.Read(buf)
	if c.done += int64(n); c.copying != nil {
		c.copying(c.done, c.p.size)
	}
	if errors.Is(err, io.EOF) && c.done != c.p.size {
		err = errors.New("the program was changed while it was read")
	}
	return n, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
