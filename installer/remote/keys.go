package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// keys are what a user can log in with.
type keys struct {
	to      *Target
	console Console
	read    map[string]ssh.Signer // by file, so that a passphrase is asked for once
	agent   agent.ExtendedAgent   // nil: there is none
	conn    net.Conn
}

// connectAgent connects to the agent of the environment, or of IdentityAgent. Without one that answers,
// the files have to do.
func (k *keys) connectAgent(h hop) {
	if k.conn != nil {
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
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Fprintf(k.console.Err, "note: the ssh agent at %s does not answer: %v\n", path, err)
		return
	}
	k.conn, k.agent = conn, agent.NewClient(conn)
}

func (k *keys) Close() {
	if k.conn != nil {
		_ = k.conn.Close()
	}
}

// defaultKeys are the files that ssh(1) tries, without those that need a device.
var defaultKeys = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}

// signers returns the keys to try on a host, in order. sshd closes the connection after six, so
// that those come first which a user has named.
func (k *keys) signers(ctx context.Context, h hop) ([]ssh.Signer, error) {
	k.connectAgent(h)
	var held []ssh.Signer
	if k.agent != nil {
		held, _ = k.agent.Signers() // of a locked agent there are none
	}
	if k.to.Key != "" {
		signer, err := k.file(ctx, k.to.Key, held)
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
		signer, err := k.file(ctx, k.to.ssh.path(file, h), held)
		switch {
		case err == nil:
			found = append(found, signer)
		case !errors.Is(err, fs.ErrNotExist):
			fmt.Fprintf(k.console.Err, "note: %v\n", err)
		}
	}
	if !k.to.ssh.yes(h.alias, "IdentitiesOnly") {
		for _, signer := range held {
			if !slices.ContainsFunc(found, func(s ssh.Signer) bool { return samePublic(s.PublicKey(), signer.PublicKey()) }) {
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

func samePublic(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// file reads a private key. The agent signs with it if it has it too, so that a passphrase need not
// be asked for.
func (k *keys) file(ctx context.Context, path string, held []ssh.Signer) (ssh.Signer, error) {
	if signer, ok := k.read[path]; ok {
		return signer, nil
	}
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if encrypted := (*ssh.PassphraseMissingError)(nil); errors.As(err, &encrypted) {
		signer, err = k.encrypted(ctx, path, text, encrypted.PublicKey, held)
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("%s is not a private key: %w", path, err), "name another with --ssh-key")
	}
	k.read[path] = signer
	return signer, nil
}

// readPrivate refuses a file that others may read, as ssh(1) does.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, hint.New(fmt.Errorf("read the key: %w", err), "name the file of a private key: --ssh-key")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, hint.New(fmt.Errorf("other users may read the key %s", path), "close it to them: chmod 600 "+path)
	}
	return regular.ReadFile(path)
}

// encrypted returns a key whose passphrase is asked for when the host has accepted it.
func (k *keys) encrypted(ctx context.Context, path string, text []byte, public ssh.PublicKey, held []ssh.Signer) (ssh.Signer, error) {
	if public == nil { // PEM has it beside
		if beside, err := os.ReadFile(path + ".pub"); err == nil {
			public, _, _, _, _ = ssh.ParseAuthorizedKey(beside)
		}
	}
	unlock := func() (ssh.Signer, error) {
		phrase, err := k.console.Secret(ctx, "Passphrase for "+filepath.Clean(path)+": ")
		if err != nil {
			return nil, err
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(text, []byte(phrase))
		if errors.Is(err, x509.IncorrectPasswordError) {
			err = errors.New("the passphrase is not the right one")
		}
		if err != nil {
			return nil, fmt.Errorf("decrypt %s: %w", path, err)
		}
		return signer, nil
	}
	if public == nil {
		return unlock()
	}
	for _, signer := range held {
		if samePublic(signer.PublicKey(), public) {
			return signer, nil
		}
	}
	return &lockedKey{public: public, unlock: unlock}, nil
}

// lockedKey is a private key whose passphrase is asked for once it has to sign.
type lockedKey struct {
	public ssh.PublicKey
	unlock func() (ssh.Signer, error)
	open   ssh.Signer
}

func (k *lockedKey) PublicKey() ssh.PublicKey { return k.public }

func (k *lockedKey) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return k.SignWithAlgorithm(rand, data, "")
}

func (k *lockedKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if k.open == nil {
		signer, err := k.unlock()
		if err != nil {
			return nil, err
		}
		k.open = signer
	}
	if signer, ok := k.open.(ssh.AlgorithmSigner); ok {
		return signer.SignWithAlgorithm(rand, data, cmp.Or(algorithm, k.public.Type()))
	}
	return k.open.Sign(rand, data)
}
