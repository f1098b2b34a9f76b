package tlsgen

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func certOf(o Options) string { return o.CertFile }
func keyOf(o Options) string  { return o.KeyFile }

// TestManager_RefusesWhatItCannotKeep has a configuration name devices and the like as the
// certificate or its key.
func TestManager_RefusesWhatItCannotKeep(t *testing.T) {
	ca := newCA(t)
	for name, c := range map[string]struct {
		file func(Options) string
		make func(t *testing.T, path string)
		want string
	}{
		"a FIFO as the key":               {keyOf, fifo, "not a regular file"},
		"a FIFO as the certificate":       {certOf, fifo, "not a regular file"},
		"a FIFO behind a link as the key": {keyOf, linkTo(fifo), "not a regular file"},
		"a directory as the key":          {keyOf, directory, "not a regular file"},
		"a directory as the certificate":  {certOf, directory, "not a regular file"},
		"more than any key as the key":    {keyOf, huge, "larger than"},

		"text as the key":                   {keyOf, text, "no private key in PEM form"},
		"text as the certificate":           {certOf, text, "no certificate in PEM form"},
		"text behind a link as the key":     {keyOf, linkTo(text), "no private key in PEM form"},
		"a certificate where a key belongs": {keyOf, certificate, "no private key in PEM form"},
		"a key where a certificate belongs": {certOf, holding("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "no certificate in PEM form"},
		"a key of ssh":                      {keyOf, holding("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), "no private key in PEM form"},
		"a key of PGP":                      {keyOf, holding("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n"), "no private key in PEM form"},
		"a certificate in DER":              {certOf, holding("\x30\x82\x01\x00"), "no certificate in PEM form"},
	} {
		for _, alone := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, alone %v", name, alone), func(t *testing.T) {
				o, path := misnamed(t, ca, c.file, c.make, alone)
				before := tree(t, filepath.Dir(path))
				m, err := NewManager(t.Context(), o)
				if err == nil {
					m.Close()
					t.Fatal("it is replaced")
				}
				if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v: want the file and %q", err, c.want)
				}
				if after := tree(t, filepath.Dir(path)); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		}
	}
}

// TestManager_KeepsWhatItDidNotMake finds a certificate or a key that cannot be used:
// it may be the only copy.
func TestManager_KeepsWhatItDidNotMake(t *testing.T) {
	encrypted := holding("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	for name, c := range map[string]struct {
		file func(Options) string
		make func(t *testing.T, path string)
		kept string
	}{
		"a key with a passphrase":               {keyOf, encrypted, ".replaced"},
		"a key with a passphrase behind a link": {keyOf, linkTo(encrypted), ".target.replaced"},
		"a broken key":                          {keyOf, holding("-----BEGIN EC PRIVATE KEY-----\nAAAA\n"), ".replaced"},
		"a broken certificate":                  {certOf, holding("-----BEGIN CERTIFICATE-----\nAAAA\n"), ".replaced"},
		"an empty key":                          {keyOf, holding(""), ".replaced"},
		"a key of blanks":                       {keyOf, holding(" \r\n\t"), ".replaced"},
		"a certificate of zeros":                {certOf, holding(string(make([]byte, 512))), ".replaced"},
	} {
		for _, alone := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, alone %v", name, alone), func(t *testing.T) {
				ca := newCA(t)
				o, path := misnamed(t, ca, c.file, c.make, alone)
				before := get(t, path)
				m := start(t, o)
				serial(t, m, ca.Pool(), "r.example.com")
				if !bytes.Equal(get(t, path+c.kept), before) {
					t.Error("it was not kept")
				}
			})
		}
	}
}

func holding(content string) func(*testing.T, string) {
	return func(t *testing.T, path string) { put(t, path, []byte(content)) }
}

func certificate(t *testing.T, path string) { put(t, path, newCA(t).CertPEM()) }

// misnamed has one of the two files be another's, alone or beside the other of a pair of ours.
func misnamed(t *testing.T, ca *CA, file func(Options) string, make func(*testing.T, string), alone bool) (Options, string) {
	t.Helper()
	o := options(t, ca, "r.example.com")
	if !alone {
		install(t, o, ca, time.Now(), "r.example.com")
	}
	path := file(o)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	make(t, path)
	return o, path
}

// TestManager_KeepsAKeyOfAnother finds a certificate of our CA beside a key that is not its
// own: the only copy, maybe.
func TestManager_KeepsAKeyOfAnother(t *testing.T) {
	ca := newCA(t)
	o := options(t, ca, "r.example.com")
	install(t, o, ca, time.Now(), "r.example.com")
	var kept [][]byte
	for range 2 { // the second is not kept in place of the first
		_, key, err := newCA(t).IssueLeaf([]string{"other.example.com"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		put(t, o.KeyFile, key)
		kept = append(kept, key)
		m, err := NewManager(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		serial(t, m, ca.Pool(), "r.example.com")
		m.Close()
		if err := os.RemoveAll(o.StateDir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(o.StateDir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for n, suffix := range []string{".replaced", ".replaced.1"} {
		if got, err := os.ReadFile(o.KeyFile + suffix); err != nil || !bytes.Equal(got, kept[n]) {
			t.Errorf("%s holds another key than the one that was found, %v", suffix, err)
		}
	}
}

// TestLoadCA_ReadsRegularFiles is for devices, which may have no end, and for files of any size.
func TestLoadCA_ReadsRegularFiles(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	huge(t, big)
	for file, want := range map[string]string{os.DevNull: "not a regular file", big: "larger than"} {
		if _, err := LoadCA(file, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

// TestManager_RenewalKeepsWhatItDidNotMake has the key's file become another's while
// the registry serves.
func TestManager_RenewalKeepsWhatItDidNotMake(t *testing.T) {
	ca := newCA(t)
	m, o, look := renewing(t, ca)
	const precious = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
	put(t, o.KeyFile, []byte(precious))
	eventually(t, "another leaf is in the file", func() bool {
		look()
		_, cert, err := readPair(o.CertFile, o.KeyFile)
		return err == nil && cert.Leaf.SerialNumber.String() == serial(t, m, ca.Pool(), o.Names[0])
	})
	if got := get(t, o.KeyFile+".replaced"); string(got) != precious {
		t.Errorf("%q is kept", got)
	}
}

func text(t *testing.T, path string) { put(t, path, []byte("precious\n")) }
func huge(t *testing.T, path string) { put(t, path, bytes.Repeat([]byte("x"), 2<<20)) }

func fifo(t *testing.T, path string) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func directory(t *testing.T, path string) {
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// linkTo has a link lead to what another makes.
func linkTo(other func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		other(t, path+".target")
		if err := os.Symlink(path+".target", path); err != nil {
			t.Fatal(err)
		}
	}
}

// tree is the names, modes and contents in a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(info.Mode().String() + " " + e.Name())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all.Write(content)
		}
		all.WriteString("\n")
	}
	return all.String()
}
