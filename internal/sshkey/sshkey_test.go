package sshkey_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/mirror-appliance/appliance/internal/sshkey"
)

// keys is a directory of keys, and an agent.
type keys struct {
	*testing.T
	dir    string
	agent  agent.Agent
	socket string
}

func newKeys(t *testing.T) *keys {
	t.Helper()
	k := &keys{T: t, dir: t.TempDir(), agent: agent.NewKeyring()}
	k.socket = filepath.Join(k.dir, "agent")
	l, err := net.Listen("unix", k.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(k.agent, conn) }()
		}
	}()
	return k
}

// add makes a key pair, with a passphrase unless that is "", and returns its public key.
func (k *keys) add(name, phrase string, private crypto.Signer) ssh.PublicKey {
	k.Helper()
	block, err := ssh.MarshalPrivateKey(private, "")
	if phrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(phrase))
	}
	if err != nil {
		k.Fatal(err)
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		k.Fatal(err)
	}
	k.write(name, pem.EncodeToMemory(block), 0o600)
	k.write(name+".pub", ssh.MarshalAuthorizedKey(public), 0o644)
	return public
}

func (k *keys) write(name string, text []byte, mode os.FileMode) {
	k.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, name), text, mode); err != nil {
		k.Fatal(err)
	}
}

func (k *keys) made() ed25519.PrivateKey {
	k.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		k.Fatal(err)
	}
	return private
}

func TestNamed(t *testing.T) {
	k := newKeys(t)
	held, gone := k.made(), k.made()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := map[string]ssh.PublicKey{"plain": k.add("plain", "", k.made()), "locked": k.add("locked", "secret", k.made()), "rsa": k.add("rsa", "secret", rsaKey),
		"held": k.add("held", "secret", held), "gone": k.add("gone", "", gone)}
	for _, key := range []any{held, *rsaKey} {
		if r, ok := key.(rsa.PrivateKey); ok {
			key = &r
		}
		if err := k.agent.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(k.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 old keys are so, and their public halves are beside them or nowhere
	old, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), []byte("secret"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	k.write("old", pem.EncodeToMemory(old), 0o600)
	k.write("open", []byte("a key"), 0o644)
	k.write("text", []byte("no key"), 0o600)
	for name, tc := range map[string]struct {
		file, phrase string
		noAgent      bool
		asked        bool
		fails        string
	}{
		"a file":                          {file: "plain"},
		"a public key beside a file":      {file: "plain.pub"},
		"a passphrase":                    {file: "locked", phrase: "secret", asked: true},
		"a passphrase, by the public key": {file: "locked.pub", phrase: "secret", asked: true},
		"a wrong passphrase":              {file: "locked", phrase: "other", asked: true, fails: "the passphrase is not the right one"},
		"a wrong passphrase of PEM":       {file: "old", phrase: "other", asked: true, fails: "the passphrase is not the right one"},
		"a key in the agent":              {file: "held.pub"},
		"a key in the agent, by its file": {file: "held"},
		"a key of RSA in the agent":       {file: "rsa.pub"},
		"a key of RSA with a passphrase":  {file: "rsa", phrase: "secret", noAgent: true, asked: true},
		"without the agent":               {file: "held.pub", noAgent: true, phrase: "secret", asked: true},
		"a public key alone":              {file: "gone.pub", fails: "the ssh agent does not have the key"},
		"a file that others may read":     {file: "open", fails: "other users may read"},
		"no key":                          {file: "text", fails: "is not a private key"},
		"a file that there is not":        {file: "none", fails: "none: no such file"},
		"a directory":                     {file: ".", fails: "it is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			socket, asked := k.socket, false
			if tc.noAgent {
				socket = ""
			}
			signer, closed, err := sshkey.Named(t.Context(), filepath.Join(k.dir, tc.file), socket, func(context.Context, string) (string, error) {
				asked = true
				return tc.phrase, nil
			})
			defer closed()
			if asked != tc.asked {
				t.Errorf("a passphrase was asked for: %v", asked)
			}
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) || tc.asked && strings.Contains(err.Error(), "is not a private key") {
					t.Errorf("%v, and not %s", err, tc.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := public[strings.TrimSuffix(tc.file, ".pub")]
			signature, err := signer.Sign(rand.Reader, []byte("text"))
			if err != nil || !sshkey.SamePublic(signer.PublicKey(), want) || want.Verify([]byte("text"), signature) != nil {
				t.Errorf("it is not signed: %v", err)
			}
		})
	}
}

// An agent that does not answer, such as one that waits for its user, does not outlast the command.
func TestNamed_silentAgent(t *testing.T) {
	k := newKeys(t)
	k.add("plain", "", k.made())
	socket := filepath.Join(k.dir, "silent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			cancel()
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	ended := make(chan error, 1)
	go func() {
		_, closed, err := sshkey.Named(ctx, filepath.Join(k.dir, "plain"), socket, nil)
		closed()
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the agent")
	}
}

// A passphrase is asked for once the key is to sign, so that a host that does not take the key costs none.
func TestFile_asksLate(t *testing.T) {
	k := newKeys(t)
	public := k.add("locked", "secret", k.made())
	asked := 0
	signer, err := sshkey.File(t.Context(), filepath.Join(k.dir, "locked"), nil, func(context.Context, string) (string, error) {
		asked++
		return "secret", nil
	})
	if err != nil || asked != 0 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	for range 2 {
		signature, err := signer.Sign(rand.Reader, []byte("text"))
		if err != nil || public.Verify([]byte("text"), signature) != nil || asked != 1 {
			t.Errorf("asked %d times: %v", asked, err)
		}
	}
}
