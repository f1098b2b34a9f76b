// Package sshkey reads private keys of SSH: of files, with their passphrases, and of an agent.
//
// Use Held for the keys of an agent, File for a private key, and Named for what a user names as to
// ssh-keygen -Y sign: a private key, or a public one whose private half is in the agent, as those of
// hardware are.
package sshkey

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
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

// Secret asks for a passphrase.
type Secret func(ctx context.Context, prompt string) (string, error)

// SamePublic reports whether two public keys are one.
func SamePublic(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// of returns the signer of a public key, nil if there is none.
func of(public ssh.PublicKey, held []ssh.Signer) ssh.Signer {
	n := slices.IndexFunc(held, func(s ssh.Signer) bool { return SamePublic(s.PublicKey(), public) })
	if n < 0 {
		return nil
	}
	return held[n]
}

// Held returns the keys of the agent at a socket: none of one that is locked. They sign until closed is
// called, or ctx ends: an agent may wait for its user.
func Held(ctx context.Context, socket string) (held []ssh.Signer, closed func(), err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	closed = func() {
		stop()
		_ = conn.Close()
	}
	held, _ = agent.NewClient(conn).Signers()
	if ctx.Err() != nil {
		closed()
		return nil, nil, ctx.Err()
	}
	return held, closed, nil
}

// File reads a private key. held are the keys of an agent, one of which signs in the place of a file with
// a passphrase; else secret is asked for it once the key is to sign.
func File(ctx context.Context, path string, held []ssh.Signer, secret Secret) (ssh.Signer, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if encrypted := (*ssh.PassphraseMissingError)(nil); errors.As(err, &encrypted) {
		return locked(ctx, path, text, encrypted.PublicKey, held, secret)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a private key: %w", path, err)
	}
	return signer, nil
}

// readPrivate refuses a file that others may read, as ssh(1) does.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, hint.New(fmt.Errorf("other users may read the key %s", path), "close it to them: chmod 600 "+path)
	}
	return regular.ReadFile(path)
}

// beside returns the public key in the file beside a private one, nil if there is none.
func beside(path string) ssh.PublicKey {
	text, err := regular.ReadFile(path + ".pub")
	if err != nil {
		return nil
	}
	public, _, _, _, _ := ssh.ParseAuthorizedKey(text)
	return public
}

// locked returns a key whose passphrase is asked for when it has to sign.
func locked(ctx context.Context, path string, text []byte, public ssh.PublicKey, held []ssh.Signer, secret Secret) (ssh.Signer, error) {
	if public == nil { // PEM has it beside
		public = beside(path)
	}
	unlock := func() (ssh.Signer, error) {
		phrase, err := secret(ctx, "Passphrase for "+filepath.Clean(path)+": ")
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
	if signer := of(public, held); signer != nil {
		return signer, nil
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

// Named returns the key that a user names as to ssh-keygen -Y sign. The agent at socket signs if it has
// it, "" being no agent; else the private key does, beside a public one without its suffix. A passphrase
// is asked for at once. closed closes the connection to the agent; it is never nil.
func Named(ctx context.Context, path, socket string, secret Secret) (signer ssh.Signer, closed func(), err error) {
	closed = func() {}
	public, isPublic := beside(path), false
	if text, err := regular.ReadFile(path); err != nil {
		return nil, closed, fmt.Errorf("%s: %w", path, regular.Reason(err))
	} else if key, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		public, isPublic = key, true
	}
	var held []ssh.Signer
	if socket != "" {
		keys, end, err := Held(ctx, socket)
		switch {
		case err == nil:
			held, closed = keys, end
		case ctx.Err() != nil:
			return nil, closed, ctx.Err()
		}
	}
	if public != nil {
		if signer := of(public, held); signer != nil {
			return signer, closed, nil
		}
	}
	private := path
	if isPublic {
		private = strings.TrimSuffix(path, ".pub")
		if _, err := os.Stat(private); err != nil || private == path {
			return nil, closed, hint.New(fmt.Errorf("the ssh agent does not have the key of %s, and its private half is not beside it", path), "add it to the agent: ssh-add; SSH_AUTH_SOCK is its socket")
		}
	}
	signer, err = File(ctx, private, held, secret)
	if key, ok := signer.(*lockedKey); ok {
		signer, err = key.unlock()
	}
	return signer, closed, err
}
