package ready_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/ready"
)

// newKey returns a private key, and its line of allowed signers.
func newKey(t *testing.T, name string) (private ssh.Signer, line string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, name + " " + string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// hardware is a key as that of a device which is touched for each signature, see PROTOCOL.u2f of OpenSSH.
type hardware struct {
	ed25519.PrivateKey
	public ssh.PublicKey
}

const hardwareType, application = "sk-ssh-ed25519@openssh.com", "ssh:"

func newHardware(t *testing.T) *hardware {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	of, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Key, Application string }{hardwareType, string(public), application}))
	if err != nil {
		t.Fatal(err)
	}
	return &hardware{key, of}
}

func (h *hardware) PublicKey() ssh.PublicKey { return h.public }

func (h *hardware) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message, touched := sha256.Sum256([]byte(application)), sha256.Sum256(data), []byte{1, 0, 0, 0, 7}
	signed := ed25519.Sign(h.PrivateKey, slices.Concat(app[:], touched, message[:]))
	return &ssh.Signature{Format: hardwareType, Blob: signed, Rest: touched}, nil
}

func given() api.Verdict {
	return api.Verdict{Answer: api.ReadyYes, To: "4.18.2", Reasons: []api.Reason{}, Risks: []api.Reason{{Text: "a < b & ü", Where: "4.17 → 4.18"}}, Made: time.Now().UTC(), Registry: registry,
		Basis: api.Basis{Releases: []api.JudgedRelease{{Version: "4.18.2"}}}}
}

func TestOpen(t *testing.T) {
	key, line := newKey(t, "ops")
	_, other := newKey(t, "dev")
	sealed, err := ready.Seal(given(), key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(sealed, "", "    ") // as another program may write it
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := json.Marshal(given())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text    []byte
		allowed string
		signer  string
		fails   string
	}{
		"signed":                             {text: text},
		"not signed":                         {text: unsigned},
		"by an allowed signer":               {text: text, allowed: "# all\n" + other + line, signer: "ops"},
		"by one that is allowed for this":    {text: text, allowed: strings.Replace(line, " ", ` namespaces="git,appliance-ready",valid-after="20200101",valid-before="22000101Z" `, 1), signer: "ops"},
		"by another":                         {text: text, allowed: other, fails: "none of the allowed signers"},
		"by none, and one is wanted":         {text: unsigned, allowed: line, fails: "it is not signed"},
		"by one that is allowed for git":     {text: text, allowed: strings.Replace(line, " ", ` namespaces="git" `, 1), fails: "it is for git"},
		"by one that was allowed":            {text: text, allowed: strings.Replace(line, " ", ` valid-before="20200101" `, 1), fails: "not valid now"},
		"by one that will be allowed":        {text: text, allowed: strings.Replace(line, " ", ` valid-after="22000101000000Z" `, 1), fails: "not valid now"},
		"by one that is excluded":            {text: text, allowed: "!" + line, fails: "are negated"},
		"by an authority":                    {text: text, allowed: strings.Replace(line, " ", ` cert-authority `, 1), fails: "is not understood"},
		"changed":                            {text: bytes.Replace(text, []byte("4.18.2"), []byte("4.18.3"), 1), fails: "its signature"},
		"changed, and by an allowed signer":  {text: bytes.Replace(text, []byte("4.18.2"), []byte("4.18.3"), 1), allowed: line, fails: "its signature"},
		"without a signature that is whole":  {text: bytes.Replace(text, []byte("BEGIN SSH"), []byte("BEGIN"), 1), fails: "its signature"},
		"no verdict":                         {text: []byte(`{"verdict":{}}`), fails: "it is no verdict"},
		"an answer to nothing":               {text: []byte(`{"answer":"yes"}`), fails: "it is no verdict"},
		"an answer without what it is for":   {text: bytes.Replace(unsigned, []byte(`"releases":[{`), []byte(`"none":[{`), 1), fails: "it is no verdict"},
		"an answer that there is not":        {text: bytes.Replace(unsigned, []byte(`"yes"`), []byte(`"perhaps"`), 1), fails: "it is no verdict"},
		"an answer for no registry":          {text: bytes.Replace(unsigned, []byte(registry), nil, 1), fails: "it is no verdict"},
		"a no":                               {text: bytes.Replace(unsigned, []byte(`"yes"`), []byte(`"no"`), 1)},
		"no JSON":                            {text: []byte("yes"), fails: "it is no verdict"},
		"a signature of the whole, for more": {text: bytes.Replace(text, []byte(`"answer"`), []byte(`"more": 1, "answer"`), 1), fails: "its signature"},
	} {
		t.Run(name, func(t *testing.T) {
			var allowed []byte
			if tc.allowed != "" {
				allowed = []byte(tc.allowed)
			}
			got, err := ready.Open(tc.text, allowed, time.Now())
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("%v, and not %s", err, tc.fails)
				}
				return
			}
			if err != nil || got.To != "4.18.2" || got.Signer != tc.signer || (got.Key == "") != (name == "not signed" || name == "a no") {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// TestSeal_openssh has the programs that people have verify a verdict.
func TestSeal_openssh(t *testing.T) {
	key, line := newKey(t, "ops")
	openssh(t, key, line)
	device := newHardware(t)
	openssh(t, device, "ops "+string(ssh.MarshalAuthorizedKey(device.public)))
}

// openssh has a verdict signed, read and verified by OpenSSH.
func openssh(t *testing.T, key ssh.Signer, line string) {
	t.Helper()
	sealed, err := ready.Seal(given(), key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text, err := json.MarshalIndent(sealed, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := ready.Open(text, []byte(line), time.Now()); err != nil || opened.Signer != "ops" {
		t.Errorf("%v", err)
	}
	for name, data := range map[string][]byte{"verdict": text, "signers": []byte(line)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sh := exec.CommandContext(context.Background(), "sh", "-ec", `command -v jq ssh-keygen > /dev/null || exit 0
jq -r .signature verdict > signature
jq -cSj .verdict verdict | ssh-keygen -Y verify -f signers -I ops -n appliance-ready -s signature`)
	sh.Dir = dir
	if out, err := sh.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestJudge_unchanged has what a verdict was given for change.
func TestJudge_unchanged(t *testing.T) {
	f := newFixture(t)
	f.catalog("v4.16", nil)
	v := f.judge(api.ReadyRequest{To: "4.18.2-x86_64", Cluster: f.cluster("", installed{"1.0.0", "stable", registry + "/" + index + ":v4.16"})})
	if v.Answer != api.ReadyYes || len(v.Basis.Releases) != 3 || v.Basis.Graph == nil || len(v.Basis.Catalogs) != 2 {
		t.Fatalf("%+v\n%s", v.Basis, codes(v))
	}
	now := func() string {
		t.Helper()
		again := f.judge(api.ReadyRequest{Unchanged: &v.Basis})
		var all []string
		for _, r := range again.Reasons {
			all = append(all, r.Code)
		}
		return again.Answer + " " + strings.Join(all, " ")
	}
	if got := now(); got != "yes " {
		t.Errorf("nothing has changed: %s", got)
	}
	is := v.Basis.Graph
	v.Basis.Graph = &api.JudgedImage{Image: is.Image, Digest: v.Basis.Catalogs[0].Digest}
	if got := now(); got != "no graph-changed" {
		t.Errorf("graph data has changed: %s", got)
	}
	v.Basis.Graph = is
	f.catalog("v4.16", maxOpenShift("1.0.0", "4.20"))
	if got := now(); got != "no catalog-changed" {
		t.Errorf("a catalog has changed: %s", got)
	}
	f.must(f.Tags.Delete(f.Context(), index, "v4.16"))
	if got := now(); got != "no catalog-changed" {
		t.Errorf("a catalog is gone: %s", got)
	}
	f.must(f.Manifests.Delete(f.Context(), payloads, f.release("4.17.2", "amd64").Digest))
	if got := now(); got != "no release-changed catalog-changed" {
		t.Errorf("a release is gone: %s", got)
	}
	f.must(f.Tags.Delete(f.Context(), "openshift/graph-image", "latest"))
	if got := now(); got != "no release-changed graph-changed catalog-changed" {
		t.Errorf("graph data is gone: %s", got)
	}
}

// TestJudge_unchangedImages has what belongs to a release of a verdict go.
func TestJudge_unchangedImages(t *testing.T) {
	r := newFixture(t).release("4.18.2", "amd64")
	for name, tc := range map[string]struct {
		want, to string
		nodes    []string
		change   func(f *fixture)
	}{
		"a component": {want: "no image-absent", change: func(f *fixture) {
			f.must(f.Manifests.Delete(f.Context(), components, f.component(r, "cli")))
		}},
		"a layer": {want: "no blob-absent", change: func(f *fixture) {
			f.must(os.Remove(f.file(f.parts(components, f.component(r, "etcd"))[0])))
		}},
		"the signature of a component": {want: "no signature-absent", change: func(f *fixture) {
			f.must(f.Tags.Delete(f.Context(), components, strings.Replace(f.component(r, "etcd").String(), ":", "-", 1)+".sig"))
		}},
		"one that no node needs": {want: "yes ", to: "4.18.2-multi", nodes: []string{"amd64"}, change: func(f *fixture) {
			f.must(f.Manifests.Delete(f.Context(), components, f.component(f.release("4.18.2", "arm64"), "cli")))
		}},
		"one that a node needs": {want: "no image-absent", to: "4.18.2-multi", change: func(f *fixture) {
			f.must(f.Manifests.Delete(f.Context(), components, f.component(f.release("4.18.2", "arm64"), "cli")))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			v := f.judge(api.ReadyRequest{To: cmp.Or(tc.to, "4.18.2-x86_64"), Architectures: tc.nodes})
			if v.Answer != api.ReadyYes {
				t.Fatal(codes(v))
			}
			tc.change(f)
			again := f.judge(api.ReadyRequest{Unchanged: &v.Basis, Architectures: v.Nodes})
			got := again.Answer + " "
			if len(again.Reasons) > 0 {
				got += again.Reasons[0].Code
			}
			if got != tc.want {
				t.Errorf("%s, and not %s\n%s", got, tc.want, codes(again))
			}
		})
	}
}
