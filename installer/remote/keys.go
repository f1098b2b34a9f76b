package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/sshkey"
)

// keys are what a user can log in with.
type keys struct {
	to      *Target
	console Console
	read    map[string]ssh.Signer // by file, so that a passphrase is asked for once
	held    []ssh.Signer          // of the agent
	closed  func()                // nil: there is no agent
}

// connectAgent connects to the agent of the environment, or of IdentityAgent. Without one that answers,
// the files have to do.
func (k *keys) connectAgent(ctx context.Context, h hop) {
	if k.closed != nil {
		return
	}
	path := os.Getenv("SSH_AUTH_SOCK")
	switch set := k.to.ssh.get(h.alias, "IdentityAgent"); {
	case strings.EqualFold(set, "none"):
		return
	case set != "" && set != "SSH_AUTH_SOCK":
		path = k.to.ssh.path(set, h)
	}
	if path == "" {
		return
	}
	var err error
	if k.held, k.closed, err = sshkey.Held(ctx, path); err != nil && ctx.Err() == nil {
		fmt.Fprintf(k.console.Err, "note: the ssh agent at %s does not answer: %v\n", path, err)
	}
}

func (k *keys) Close() {
	if k.closed != nil {
		k.closed()
	}
}

// defaultKeys are the files that ssh(1) tries, without those that need a device.
var defaultKeys = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}

// signers returns the keys to try on a host, in order. sshd closes the connection after six, so
// that those come first which a user has named.
func (k *keys) signers(ctx context.Context, h hop) ([]ssh.Signer, error) {
	k.connectAgent(ctx, h)
	if k.to.Key != "" {
		signer, err := k.file(ctx, k.to.Key)
		if err != nil {
			return nil, err
		}
		return []ssh.Signer{signer}, nil
	}
	named := k.to.ssh.all(h.alias, "IdentityFile")
	files := append([]string{DefaultKey}, named...)
	if len(named) == 0 {
		files = append(files, defaultKeys...)
	}
	var found []ssh.Signer
	for _, file := range files {
		signer, err := k.file(ctx, k.to.ssh.path(file, h))
		switch {
		case err == nil:
			found = append(found, signer)
		case !errors.Is(err, fs.ErrNotExist):
			fmt.Fprintf(k.console.Err, "note: %v\n", err)
		}
	}
	if !k.to.ssh.yes(h.alias, "IdentitiesOnly") {
		for _, signer := range k.held {
			if !slices.ContainsFunc(found, func(s ssh.Signer) bool { return sshkey.SamePublic(s.PublicKey(), signer.PublicKey()) }) {
				found = append(found, signer)
			}
		}
	}
	if len(found) == 0 {
		return nil, hint.New(fmt.Errorf("there is no key to log in to %s with", h.alias),
			"name one with --ssh-key, or add one to the ssh agent: ssh-add FILE")
	}
	return found, nil
}

// file reads a private key. The agent signs with it if it has it too, so that a passphrase need not
// be asked for.
func (k *keys) file(ctx context.Context, path string) (ssh.Signer, error) {
	if signer, ok := k.read[path]; ok {
		return signer, nil
	}
	signer, err := sshkey.File(ctx, path, k.held, k.console.Secret)
	if err != nil {
		return nil, hint.New(err, cmp.Or(hint.Of(err), "name the file of a private key: --ssh-key"))
	}
	k.read[path] = signer
	return signer, nil
}
