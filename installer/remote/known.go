package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// knownHosts are the keys of hosts that the user has accepted.
type knownHosts struct {
	files []string // that exist
	user  string   // where a new one is written
	hash  bool     // names are hashed there
	db    *knownhosts.HostKeyDB

	skipped []string          // lines that cannot be read, and why
	copied  map[string]string // files by their copies without these lines
}

func (s *settings) known(h hop) (*knownHosts, error) {
	users := strings.Fields(s.get(h.alias, "UserKnownHostsFile"))
	if len(users) == 0 {
		users = []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}
	}
	global := strings.Fields(s.get(h.alias, "GlobalKnownHostsFile"))
	if len(global) == 0 {
		global = []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
	}
	k := &knownHosts{user: s.path(users[0], h), hash: s.yes(h.alias, "HashKnownHosts")}
	for _, file := range append(users, global...) {
		file = s.path(file, h)
		_, err := os.Stat(file)
		switch {
		case strings.EqualFold(filepath.Base(file), "none") || errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			k.files = append(k.files, file)
		}
	}
	var err error
	if k.db, err = knownhosts.NewDB(k.files...); err != nil {
		err = k.readable()
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("read the known hosts: %w", err), "correct that file, or remove that line")
	}
	return k, nil
}

// readable reads the lines that can be read, as ssh does: the others may be of a kind of key that this
// program does not know. One that revokes a key is not left out.
func (k *knownHosts) readable() error {
	dir, err := os.MkdirTemp("", "known-hosts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var copies []string
	k.copied = map[string]string{}
	for i, file := range k.files {
		text, err := regular.ReadFile(file)
		if err != nil {
			return err
		}
		var kept strings.Builder
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			line = strings.TrimRight(line, "\r\n")
			if err := readLineOf(dir, line); err != nil {
				if strings.HasPrefix(strings.TrimSpace(line), "@revoked") {
					return fmt.Errorf("%s:%d: %w", file, number, err)
				}
				k.skipped = append(k.skipped, fmt.Sprintf("%s:%d is not read: %v", file, number, err))
				line = ""
			}
			kept.WriteString(line + "\n")
		}
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		if err := os.WriteFile(copied, []byte(kept.String()), 0o600); err != nil {
			return err
		}
		copies, k.copied[copied] = append(copies, copied), file
	}
	k.db, err = knownhosts.NewDB(copies...)
	return err
}

// readLineOf tries to read a line of a file of known hosts, by itself: the library reads files only.
func readLineOf(dir, line string) error {
	file := filepath.Join(dir, "line")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		return err
	}
	_, err := xknownhosts.New(file)
	if err == nil {
		return nil
	}
	return errors.New(strings.TrimPrefix(strings.ReplaceAll(err.Error(), file+":1: ", ""), "knownhosts: "))
}

// algorithms returns what a host is asked for: of a known one first the kind of key that is known,
// since it may have others.
func (k *knownHosts) algorithms(address string) []string {
	return append(k.db.HostKeyAlgorithms(address), ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
}

// check returns a function that accepts the key of a host if it is known, or if the user accepts
// it now.
func (k *knownHosts) check(ctx context.Context, to *Target, h hop, c Console) ssh.HostKeyCallback {
	for _, line := range k.skipped {
		fmt.Fprintln(c.Err, "note: "+plain.Line(line))
	}
	return func(address string, remote net.Addr, key ssh.PublicKey) error {
		err := k.db.HostKeyCallback()(address, remote, key)
		name := knownhosts.Normalize(address)
		seen := fmt.Sprintf("%s %s", key.Type(), ssh.FingerprintSHA256(key))
		switch {
		case err == nil:
			return nil
		case knownhosts.IsHostKeyChanged(err):
			return hint.New(fmt.Errorf("the key of %s is not the known one: it is %s, and %s has another", name, seen, k.where(err)),
				"another host may answer in its place. If it was installed anew, compare the key with the one on its "+
					"console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), and forget the old one: ssh-keygen -R '"+name+"'")
		case !knownhosts.IsHostUnknown(err):
			return fmt.Errorf("the key of %s (%s): %w", name, seen, err)
		case to.Accept:
			fmt.Fprintf(c.Err, "note: the key of %s, %s, was not known, and is accepted\n", name, seen)
			return k.record(name, key)
		case k.strict(to, h):
			return hint.New(fmt.Errorf("the key of %s (%s) is not known, and StrictHostKeyChecking is on", name, seen),
				"add it to "+k.user)
		}
		if err := c.Confirm(ctx, fmt.Sprintf("The key of %s is not known: %s. Is it the right one?", name, seen)); err != nil {
			return hint.New(fmt.Errorf("the key of %s (%s) was not accepted: %w", name, seen, err),
				"compare it with the one on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; --autoApprove accepts and records it")
		}
		return k.record(name, key)
	}
}

func (k *knownHosts) strict(to *Target, h hop) bool {
	return to.ssh.yes(h.alias, "StrictHostKeyChecking")
}

// where names the lines that have another key.
func (k *knownHosts) where(err error) string {
	var changed *xknownhosts.KeyError
	if !errors.As(err, &changed) {
		return "known_hosts"
	}
	var places []string
	for _, known := range changed.Want {
		places = append(places, fmt.Sprintf("%s:%d", cmp.Or(k.copied[known.Filename], known.Filename), known.Line))
	}
	return strings.Join(places, ", ")
}

// record adds a line to the user's file, which other programs may have open.
func (k *knownHosts) record(name string, key ssh.PublicKey) error {
	if k.user == os.DevNull {
		return nil
	}
	if k.hash {
		name = xknownhosts.HashHostname(name)
	}
	line := xknownhosts.Line([]string{name}, key) + "\n"
	err := os.MkdirAll(filepath.Dir(k.user), 0o700)
	if err != nil {
		return fmt.Errorf("record the key of the host: %w", err)
	}
	if old, err := os.ReadFile(k.user); err == nil && len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
		line = "\n" + line
	}
	f, err := os.OpenFile(k.user, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line)
		err = durable.Finish(f, err)
	}
	if err != nil {
		return fmt.Errorf("record the key of the host: %w", err)
	}
	return nil
}
