package support_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/support"
)

// planted are secrets by the place where a host has them.
var planted = map[string]string{
	"proxy in config":         "Pr0xyPassw",
	"proxy with @":            "p@ss@w0rd",
	"pull secret":             "PULLSECRETOFNODES234567ABC",
	"auth file":               "upstreamPw-77",
	"identity token":          "idtok3n-value-abcdef",
	"drop-in":                 "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	"drop-in with blanks":     "correct horse 9 battery",
	"proxy of drop-in":        "dropInProxyPw1",
	"environ":                 "environ-only-value-31337",
	"basic":                   base64.StdEncoding.EncodeToString([]byte("ci:basic-password-55")),
	"basic decoded":           "basic-password-55",
	"bearer":                  "opaque-bearer-value-8f3b2c",
	"jwt":                     "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJlLXZhbHVl",
	"amazon signature":        "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024",
	"amazon token":            "IQoJb3JpZ2luX2VjEXAMPLE",
	"azure signature":         "Zm9vYmFyc2ln%2Bazure%3D",
	"cloudfront policy":       "eyJTdGF0ZW1lbnQiOltdfQ__",
	"signature in JSON":       "json-escaped-sig-1",
	"key":                     "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
	"key on one line":         "MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY",
	"rest of a cut key":       "MSfYV3VqPTg2pJkBqN6bV1mE9m0m3yWc8o8m7b1oV5n2s9d0QkTg1aBcDeFgHiJk",
	"password field":          "hunter2!",
	"quoted password":         "two words 22",
	"flag":                    "flagPassw0rd",
	"flag with equals":        "flagPassw0rd3",
	"shown by install":        "SHOWNPASSWORDOFINSTALL2345ABCDEF",
	"generated, alone":        "KZXW6YTBOI2DGMZUGU3DONZYHE2DCMZT",
	"bcrypt":                  "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
	"crypt":                   "$6$saltsalt$abcdefghijklmnopqrstuvwxyz0123456789",
	"cookie":                  "sid-77aa88bb99",
	"password of a URL":       "urlPw-9",
	"pull secret in a log":    base64.StdEncoding.EncodeToString([]byte("puller:PULLSECRETOFNODES234567ABC")),
	"docker config in a log":  base64.StdEncoding.EncodeToString([]byte("other:other-pw-12")),
	"same value, another way": "learned-from-env-42",
	"key of ACME":             "acme-mac-key",
}

const digestOf = "sha256:0f3ea5bd4e0a6b3e4d1c2b9a8f7e6d5c4b3a29180f7e6d5c4b3a29180f7e6d5c"

func journal(p map[string]string) string {
	return strings.Join([]string{
		`2026-11-29T10:00:00 host appliance[7]: level=INFO msg=request method=GET path=/v2/quay.io/org/image/manifests/` + digestOf + ` status=200 user=puller`,
		`level=ERROR msg="fetch failed" error="upstream quay.io: 403" hint="appliance upstream test"`,
		`level=DEBUG msg=request header="Authorization: Basic ` + p["basic"] + `"`,
		`Authorization: Bearer ` + p["bearer"],
		`level=INFO msg="token given" answer=` + p["jwt"],
		`level=WARN msg=redirect to="https://bucket.s3.amazonaws.com/blob?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Security-Token=` + p["amazon token"] + `&X-Amz-Signature=` + p["amazon signature"] + `&ns=quay.io"`,
		`location: https://x.blob.core.windows.net/c/b?se=2026&sig=` + p["azure signature"],
		`https://cdn01.quay.io/x?Policy=` + p["cloudfront policy"] + `&Key-Pair-Id=APKA`,
		`{"url":"https://cdn/x?a=1\u0026Signature=` + p["signature in JSON"] + `"}`,
		"-----BEGIN PRIVATE KEY-----\n" + p["key"] + "\nhost appliance[7]: -----END PRIVATE KEY-----",
		`msg="-----BEGIN EC PRIVATE KEY-----\n` + p["key on one line"] + `\n-----END EC PRIVATE KEY-----\n" then=kept`,
		p["rest of a cut key"],
		`login user=ci password=` + p["password field"] + ` ok=kept-too`,
		`{"password": "` + p["quoted password"] + `"}`,
		`COMMAND=/usr/bin/appliance mirror --dest-password ` + p["flag"] + ` -c set.yaml`,
		`COMMAND=/usr/bin/appliance install --initPassword=` + p["flag with equals"],
		`appliance is available at https://h:8443 with credentials (init, ` + p["shown by install"] + `)`,
		`the new one is ` + p["generated, alone"],
		`hash ` + p["bcrypt"] + ` and ` + p["crypt"],
		`Cookie: session=` + p["cookie"],
		`GET http://ci:` + p["password of a URL"] + `@git.example.com/x`,
		`{"auths":{"h:8443":{"auth":"` + p["pull secret in a log"] + `"},"o":{"auth":"` + p["docker config in a log"] + `"}}}`,
		`the proxy said ` + p["proxy of drop-in"] + ` and ` + p["same value, another way"] + ` and ` + p["auth file"] + ` and ` + p["key of ACME"],
		`level=INFO msg="last line" path=/root/quay-install/quay-storage free=12345678`,
	}, "\n") + "\n"
}

// hostWith is a host with an installed appliance and secrets in each place.
func hostWith(t *testing.T, p map[string]string) *installer.Traces {
	t.Helper()
	root := t.TempDir()
	put := func(file, text string) string {
		path := filepath.Join(root, file)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return file
	}
	cfg := config.Default("/root/quay-install")
	cfg.Hostname = "registry.example.com"
	cfg.Upstreams = []config.Upstream{{Prefix: "quay.io", URL: "https://quay.io", AuthFile: "/root/up.json", Freshness: config.DefaultFreshness}}
	text, err := cfg.Marshal()
	must(t, err)
	text = append(text, "#    proxy: http://me:"+p["proxy in config"]+"@proxy.example.com:3128\n"...)
	text = append(text, "# by hand: http://me:"+p["proxy with @"]+"@proxy:3128\n"...)
	login := func(user, password string) string {
		return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	}
	put("/root/up.json", `{"auths":{"quay.io":{"auth":"`+login("me", p["auth file"])+`","identitytoken":"`+p["identity token"]+`"}}}`)
	put("/root/quay-install/quay-config/pull-secret.json", `{"auths":{"h:8443":{"auth":"`+login("puller", p["pull secret"])+`"}}}`)
	put("/root/quay-install/sqlite-storage/appliance.db", "SQLite format 3\x00"+strings.Repeat("\x01", 200))
	put("/proc/4711/environ", "PATH=/bin\x00SOME_SETTING="+p["environ"]+"\x00HTTPS_PROXY=http://me:"+p["proxy of drop-in"]+"@proxy:1\x00X_TOKEN="+p["same value, another way"]+"\x00")
	units := "/etc/systemd/system/"
	return &installer.Traces{
		Config: put("/root/quay-install/quay-config/config.yaml", string(text)), QuayRoot: "/root/quay-install",
		Record: put("/root/quay-install/quay-config/install.json", `{"version": 2, "steps": []}`),
		Units: []string{put(units+"appliance.service", "[Service]\nExecStart=/usr/local/bin/appliance serve --config /root/x\n"),
			put(units+"appliance.service.d/override.conf", "[Service]\nEnvironment=AWS_SECRET_ACCESS_KEY="+p["drop-in"]+"\nEnvironment=\"MY_PASSWORD="+p["drop-in with blanks"]+"\"\nEnvironment=HTTPS_PROXY=http://me:"+p["proxy of drop-in"]+"@proxy:1\nEnvironment=X_TOKEN="+p["same value, another way"]+" SOME_SETTING="+p["environ"]+"\n")},
		Secrets: []string{put("/root/acme.key", p["key of ACME"]+"\n"), "/root/up.json", "/root/quay-install/quay-config/pull-secret.json"}, Dirs: []string{"/root/quay-install"},
		Database: "/root/quay-install/sqlite-storage/appliance.db", Conf: cfg,
		Host: host.Under(root, func(_ context.Context, name string, args ...string) ([]byte, error) {
			switch {
			case name == "journalctl":
				return []byte(journal(p)), nil
			case name == "systemctl" && args[0] == "show":
				return []byte("Id=appliance.service\nMainPID=4711\nEnvironment=SOME_SETTING=" + p["environ"] + " X_TOKEN=" + p["same value, another way"] + " AWS_SECRET_ACCESS_KEY=" + p["drop-in"] + "\n"), nil
			}
			return nil, errors.New("there is no " + name)
		}),
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unpack returns the files of an archive.
func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	must(t, err)
	files := map[string]string{}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		if h.Mode != 0o600 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		files[strings.TrimPrefix(h.Name, "appliance-support/")] = string(text)
	}
}

func bundle(t *testing.T, about support.Case) map[string]string {
	t.Helper()
	var archive bytes.Buffer
	must(t, support.Bundle(t.Context(), &archive, about, func(string) {}))
	return unpack(t, archive.Bytes())
}

func TestBundle_hasNoSecrets(t *testing.T) {
	p := planted
	status := &api.Status{Version: "1", Address: "h:8443", Trouble: []api.Trouble{{Problem: "https://me:" + p["proxy in config"] + "@x: 407"}}}
	files := bundle(t, support.Case{Traces: hostWith(t, p), Version: "1",
		Examine: func(_ context.Context, tell func(finding.Finding)) (*api.Status, error) {
			tell(finding.Finding{Check: "upstream", Level: finding.Failed, Text: "proxy http://me:" + p["proxy in config"] + "@proxy: 407"})
			return status, nil
		},
		Metrics: func(context.Context) ([]byte, error) { return []byte("appliance_build_info{version=\"1\"} 1\n"), nil },
	})
	for name, text := range files {
		for place, secret := range p {
			for form, value := range map[string]string{"": secret, "in base64 ": base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(text, value) {
					t.Errorf("%s has the %s, %s%q", name, place, form, value)
				}
			}
		}
	}
	// What helps is there.
	for name, wants := range map[string][]string{
		"config.yaml":                             {"hostname: registry.example.com", "authFile: /root/up.json", "http://[removed]@proxy.example.com:3128"},
		"install.json":                            {`"version": 2`},
		"units/appliance.service":                 {"ExecStart=/usr/local/bin/appliance serve --config /root/x"},
		"units/appliance.service.d/override.conf": {"AWS_SECRET_ACCESS_KEY=[removed]", "MY_PASSWORD=[removed]"},
		"journal.txt": {"path=/v2/quay.io/org/image/manifests/" + digestOf + " status=200 user=puller", `error="upstream quay.io: 403" hint="appliance upstream test"`,
			"X-Amz-Signature=[removed]&ns=quay.io", "path=/root/quay-install/quay-storage free=12345678", "ok=kept-too", "then=kept", "user=ci", "-c set.yaml"},
		"environment.txt": {"PATH=/bin\n", "SOME_SETTING=[removed]\n"},
		"doctor.json":     {`"check": "upstream"`},
		"status.json":     {`"address": "h:8443"`},
		"metrics.txt":     {"appliance_build_info"},
		"database.txt":    {"appliance.db", `magic "SQLite format 3"`, "page size 257"},
		"host.txt":        {"program: appliance 1"}, "df.txt": {"/root/quay-install: type "},
		"files.txt": {"/root/quay-install/quay-config/config.yaml"}, "README.txt": {"Support bundle"},
	} {
		for _, want := range wants {
			if !strings.Contains(files[name], want) {
				t.Errorf("%s lacks %q:\n%s", name, want, files[name])
			}
		}
	}
	if strings.Contains(files["README.txt"], "Not collected") {
		t.Errorf("it says\n%s", files["README.txt"])
	}
	for _, name := range []string{"doctor.json", "status.json"} {
		if !json.Valid([]byte(files[name])) {
			t.Errorf("%s is not JSON any more:\n%s", name, files[name])
		}
	}
}

// What cannot be collected is named, and the rest is there.
func TestBundle_daemonIsDown(t *testing.T) {
	traces := hostWith(t, planted)
	traces.Conf, traces.Database = nil, ""
	files := bundle(t, support.Case{Traces: traces, Version: "1",
		Examine: func(context.Context, func(finding.Finding)) (*api.Status, error) {
			return nil, fmt.Errorf("read %s", "config.yaml")
		},
		Metrics: func(context.Context) ([]byte, error) { return nil, errors.New("connection refused") },
	})
	for _, want := range []string{"doctor.json: read config.yaml", "status.json: the daemon does not answer", "metrics.txt: connection refused"} {
		if !strings.Contains(files["README.txt"], want) {
			t.Errorf("README.txt does not say %q:\n%s", want, files["README.txt"])
		}
	}
	if files["journal.txt"] == "" || files["config.yaml"] == "" {
		t.Error("the rest is not there")
	}
}
