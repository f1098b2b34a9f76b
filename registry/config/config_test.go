package config_test

import (
	"bytes"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
)

func sampleConfig() *config.Config {
	c := config.Default("/var/lib/appliance")
	c.Hostname = "registry.example.com"
	return c
}

func TestSample(t *testing.T) {
	t.Run("parses to the defaults", func(t *testing.T) {
		c, err := config.Parse("sample.yaml", config.Sample())
		if err != nil {
			t.Fatal(err)
		}
		if want := sampleConfig(); !reflect.DeepEqual(c, want) {
			t.Errorf("sample is\n%+v, want\n%+v", c, want)
		}
	})
	t.Run("names every field", func(t *testing.T) {
		keys := regexp.MustCompile(`(?m)^[# -]*([a-zA-Z]+):`).FindAllSubmatch(config.Sample(), -1)
		named := map[string]bool{}
		for _, k := range keys {
			named[strings.ToLower(string(k[1]))] = true
		}
		for _, f := range fieldNames(reflect.TypeFor[config.Config]()) {
			if !named[strings.ToLower(f)] {
				t.Errorf("sample.yaml does not name %s", f)
			}
		}
	})
	t.Run("the commented upstream parses once it is uncommented", func(t *testing.T) {
		c, err := config.Parse("sample.yaml", uncommentUpstream(config.Sample()))
		if err != nil {
			t.Fatal(err)
		}
		want := []config.Upstream{{Prefix: "quay.io", URL: "https://quay.io", CA: "/etc/pki/tls/certs/ca-bundle.crt",
			AuthFile: "/var/lib/appliance/quay-config/pull-secret.json", Freshness: 5 * time.Minute},
			{Hosts: []string{"registry.redhat.io", "docker.io"}, CertDir: "/etc/containers/certs.d/upstreams", Proxy: "http://proxy.example.com:3128",
				Freshness: 5 * time.Minute, Mode: config.ModeCache, Concurrency: 32, Rate: 50 << 20, Allow: []string{"redhat/*", "ubi9/*"}, Deny: []string{"redhat/redhat-operator-index"}, Platforms: []string{"linux/amd64"}}}
		if !reflect.DeepEqual(c.Upstreams, want) {
			t.Errorf("upstreams are %+v, want %+v", c.Upstreams, want)
		}
	})
	t.Run("so does the commented image set", func(t *testing.T) {
		c, err := config.Parse("sample.yaml", uncommentUpstream(config.Sample()))
		if err != nil {
			t.Fatal(err)
		}
		want := []config.Sync{{ImageSet: "/var/lib/appliance/sync/base.yaml", Workspace: "/var/lib/appliance/sync/base", Interval: 24 * time.Hour,
			AuthFile: "/var/lib/appliance/quay-config/pull-secret.json", Prefix: "mirrors"}}
		if !reflect.DeepEqual(c.Sync, want) {
			t.Errorf("image sets are %+v, want %+v", c.Sync, want)
		}
	})
	t.Run("is what Marshal writes for the defaults", func(t *testing.T) {
		out, err := sampleConfig().Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out, config.Sample()) {
			t.Errorf("Marshal wrote\n%s", out)
		}
	})
}

func fieldNames(t reflect.Type) []string {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var all []string
	for f := range t.Fields() {
		if !f.IsExported() { // made of the value of another key
			continue
		}
		all = append(all, f.Name)
		if f.Name != "Packages" { // documented with image sets
			all = append(all, fieldNames(f.Type)...)
		}
	}
	return all
}

func uncommentUpstream(sample []byte) []byte {
	var out []string
	for _, line := range strings.Split(string(sample), "\n") {
		if line == "upstreams: []" || line == "sync: []" || line == "catalogs: []" {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "#   "); ok {
			line = rest
		}
		out = append(out, line)
	}
	return []byte(strings.Join(out, "\n"))
}

func TestConfig_Marshal(t *testing.T) {
	t.Run("what is written reads back, and is written the same again", func(t *testing.T) {
		c := sampleConfig()
		c.Port, c.Listen = 443, "192.0.2.1:443"
		c.Storage = "/srv/# odd: place/quay storage"
		c.TLS.CAKey, c.TLS.State = "", ""
		c.GC = config.GC{Interval: 0, GracePeriod: 90 * time.Minute}
		c.Upstreams = []config.Upstream{
			{Prefix: "quay.io", URL: "https://quay.io", Freshness: 5 * time.Minute},
			{Prefix: "a/b", URL: "http://localhost:5000/x/y", CA: "/odd\nname.pem", AuthFile: "/auth.json", Freshness: 0},
			{Prefix: "a/b/c", URL: "http://localhost:5001", Proxy: "none", Mode: config.ModeMirroredOnly, Concurrency: 1, Rate: 1500, Allow: []string{"*"}},
			{Hosts: []string{"registry.redhat.io", "docker.io"}, CertDir: "/certs", Mode: config.ModeOff, Deny: []string{"x/*"}},
		}
		c.Sync = []config.Sync{{ImageSet: "/a b.yaml", Workspace: "/ws", Interval: time.Hour}, {ImageSet: "/c", Workspace: "/d", Interval: 24 * time.Hour, Prefix: "m/n"}}
		first, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := config.Parse("config.yaml", first)
		if err != nil {
			t.Fatalf("%v, in\n%s", err, first)
		}
		if !reflect.DeepEqual(back, c) {
			t.Errorf("read back\n%+v, want\n%+v", back, c)
		}
		second, err := back.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("written twice\n%s\nand\n%s", first, second)
		}
		if !bytes.Contains(first, []byte("# How often blobs")) {
			t.Error("the comments are gone")
		}
	})
	t.Run("what the daemon would refuse is not written", func(t *testing.T) {
		c := sampleConfig()
		c.Hostname = "192.0.2.1"
		if _, err := c.Marshal(); err == nil {
			t.Error("an IP as hostname was written")
		}
	})
}

func TestConfig_Address(t *testing.T) {
	c := sampleConfig()
	if got := c.Address(); got != "registry.example.com:8443" || !slices.Equal(c.Addresses(), []string{got}) {
		t.Errorf("address is %s, addresses are %v", got, c.Addresses())
	}
	c.Port = 443 // which neither a browser nor an image reference needs
	if got := c.Address(); got != "registry.example.com" || !slices.Equal(c.Addresses(), []string{got, got + ":443"}) {
		t.Errorf("address is %s, addresses are %v", got, c.Addresses())
	}
}

const least = `hostname: registry.example.com
storage: /q/storage
database: /q/db
controlSocket: /q/sock
tls:
  certificate: /q/cert
  key: /q/key
`

func TestParse(t *testing.T) {
	t.Run("what is left out has its default", func(t *testing.T) {
		c, err := config.Parse("c", []byte(least+"port: 443\nupstreams:\n- prefix: a\n  url: http://h\n"))
		if err != nil {
			t.Fatal(err)
		}
		want := &config.Config{Hostname: "registry.example.com", Port: 443, Listen: ":443", Storage: "/q/storage",
			Database: "/q/db", ControlSocket: "/q/sock", TLS: config.TLS{Certificate: "/q/cert", Key: "/q/key"},
			Upstreams: []config.Upstream{{Prefix: "a", URL: "http://h", Freshness: 5 * time.Minute}},
			GC:        config.GC{Interval: 24 * time.Hour, GracePeriod: time.Hour},
			MinFree:   1 << 30, Scrub: config.Scrub{Interval: 720 * time.Hour, Rate: 20 << 20},
			Updates: config.Updates{Payloads: "upstream"}}
		if !reflect.DeepEqual(c, want) {
			t.Errorf("got\n%+v, want\n%+v", c, want)
		}
	})
	t.Run("sizes and lists read back as they are written", func(t *testing.T) {
		c := sampleConfig()
		c.DeleteReferrers, c.StorageRedirect = true, true
		c.Storage, c.StorageCredentials = "s3://images/a?endpoint=https://s3.example.com", "/s3-credentials"
		c.AnonymousPull = []string{"openshift/*", "*", "true", "7"}
		c.MinFree, c.PullQuota, c.Scrub.Rate = 1536<<20, 1<<40, 123456789
		out, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := config.Parse("c", out)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("got\n%+v, %v, want\n%+v, written as\n%s", back, err, c, out)
		}
	})
	t.Run("an anchor may be used", func(t *testing.T) {
		if _, err := config.Parse("c", []byte(least+"gc: {interval: &h 2h, gracePeriod: *h}\n")); err != nil {
			t.Error(err)
		}
	})
}

// replace puts line in place of the one of least that begins with the same key.
func replace(line string) string {
	key, _, _ := strings.Cut(line, ":")
	return regexp.MustCompile(`(?m)^ *`+key+`:.*$`).ReplaceAllLiteralString(least, line)
}

func TestParse_refused(t *testing.T) {
	upstream := func(lines string) string { return least + "upstreams:\n" + lines }
	tests := map[string]struct{ in, want, hint string }{
		"a size without a unit we know": {least + "minFree: much\n", "c:8: minFree: a number of bytes is wanted here, not \"much\"", "10GiB"},
		"neither true nor false":        {least + "deleteReferrers: yes\n", "c:8: deleteReferrers: true or false is wanted here, not \"yes\"", "write true or false"},
		"a comma in a size":             {least + "minFree: 1,5GiB\n", "c:8: minFree: a number of bytes is wanted here, not \"1,5GiB\"", "10GiB"},
		"a negative size":               {least + "pullQuota: -1\n", "c:8: pullQuota: a number of bytes", "10GiB"},
		"patterns that are no list":     {least + "anonymousPull: all\n", "c:8: anonymousPull: a list is wanted here", "[one, two]"},
		"a pattern for no repository":   {least + "anonymousPull:\n- a/*\n- a..b/*\n", "c:10: anonymousPull[1]: repository pattern \"a..b/*\" matches no repository", "openshift/*"},
		"a pattern with capitals":       {least + "anonymousPull: [A/*]\n", "c:8: anonymousPull[0]: repository pattern \"A/*\" matches no repository", "openshift/*"},
		"an empty pattern":              {least + "anonymousPull:\n- ''\n", "c:9: anonymousPull[0]: it has no value", "after the colon"},
		"a blank pattern":               {least + "anonymousPull: [' ']\n", "c:8: anonymousPull[0]: repository pattern \" \" is empty", "openshift/*"},
		"a star that is not alone":      {least + "anonymousPull: ['a*']\n", "c:8: anonymousPull[0]: repository pattern \"a*\" has a *", "openshift/*"},
		"a scrub that never ends":       {least + "scrub: {rate: 1KiB}\n", "c:8: scrub.rate: with so few bytes", "64KiB"},
		"a byte order mark":             {"\xef\xbb\xbf" + least, "c:1: the file begins with a byte order mark (BOM)", "without"},
		"UTF-16":                        {"\xff\xfeh\x00", "c:1: the file is UTF-16 text", "UTF-8"},
		"unknown key":                   {least + "hostnam: x\n", "c:8: hostnam: unknown key", "known keys here: hostname, port"},
		"unknown nested key":            {least + "gc:\n  intervall: 1h\n", "c:9: gc.intervall: unknown key", "interval, gracePeriod"},
		"unknown upstream key":          {upstream("- prefix: a\n  url: https://b\n  tag: c\n"), "c:11: upstreams[0].tag: unknown key", "freshness"},
		"duplicate key":                 {least + "hostname: b.example\n", "c:8: hostname: given twice, first in line 1", "keep one"},
		"missing key":                   {strings.Replace(least, "storage: /q/storage\n", "", 1), "c:1: storage: missing", "add a line 'storage: …'"},
		"missing nested key":            {strings.Replace(least, "  key: /q/key\n", "", 1), "c:6: tls.key: missing", "add a line 'key: …'"},
		"no value":                      {replace("hostname:"), "c:1: hostname: it has no value", "after the colon"},
		"number for a text":             {replace("hostname: 12"), `c:1: hostname: a text is wanted here, not "12"`, "quotes"},
		"list for a text":               {replace("hostname: [a]"), "c:1: hostname: a text is wanted here, not a list", "one value"},
		"text for a number":             {least + "port: http\n", `c:8: port: a number is wanted here, not "http"`, "digits"},
		"text for a mapping":            {least + "gc: daily\n", `c:8: gc: keys and values are wanted here, not "daily"`, "interval"},
		"mapping for a list":            {least + "upstreams: {a: b}\n", "c:8: upstreams: a list is wanted here, not keys and values", "- prefix"},
		"text for an upstream":          {upstream("- quay.io\n"), `c:9: upstreams[0]: keys and values are wanted here, not "quay.io"`, "prefix"},
		"bad duration":                  {least + "gc: {interval: 1 day}\n", `c:8: gc.interval: a duration is wanted here, not "1 day"`, "24h"},
		"number for a duration":         {least + "gc: {interval: 24}\n", `c:8: gc.interval: a duration is wanted here, not "24"`, "24h"},
		"negative duration":             {upstream("- {prefix: a, url: https://b, freshness: -1m}"), "c:9: upstreams[0].freshness: -1m is negative", "5m"},
		"grace period too short":        {least + "gc: {gracePeriod: 1s}\n", "c:8: gc.gracePeriod: 1s is too short", "at least 1m"},
		"interval too short":            {least + "gc: {interval: 1s}\n", "c:8: gc.interval: 1s is too short", "at least 1m"},
		"IPv4 as hostname":              {replace("hostname: 192.0.2.1"), `c:1: hostname: "192.0.2.1" is an IP address, not a DNS name`, "DNS name"},
		"IPv6 as hostname":              {replace("hostname: '2001:db8::1'"), "is an IP address", "DNS name"},
		"hostname with port":            {replace("hostname: a.example:8443"), `"a.example:8443" is not a DNS name`, "'hostname: a.example', and 'port: 8443'"},
		"number as last part":           {replace("hostname: foo.123"), `"foo.123" is not a DNS name: its last part is a number`, "DNS name"},
		"hostname with slash":           {replace("hostname: a/b"), `"a/b" is not a DNS name`, "DNS name"},
		"port too large":                {least + "port: 65536\n", "c:8: port: 65536 is not a port", "1 to 65535"},
		"bad listen":                    {least + "listen: 8443x\n", `c:8: listen: "8443x" is not an address with a port`, ":8443"},
		"listen without port":           {least + "listen: 'host:'\n", `c:8: listen: "host:" has no valid port`, ":8443"},
		"relative path":                 {replace("storage: quay-storage"), `c:2: storage: "quay-storage" is not an absolute path`, "beginning with /"},
		"a bucket without an endpoint":  {replace("storage: s3://images/a"), "c:2: storage: the address of S3 is wrong: the parameter endpoint", "endpoint=https://HOST:PORT"},
		"a bucket with a password":      {replace("storage: s3://user:geheim@images?endpoint=https://a"), "c:2: storage: the address of S3 is wrong: it has credentials", "s3://BUCKET/PREFIX"},
		"redirect to files":             {least + "storageRedirect: true\n", "c:8: storageRedirect: only blobs in S3", "leave it out"},
		"redirect without TLS":          {replace("storage: s3://images?endpoint=http://s3.example") + "storageRedirect: true\n", "c:8: storageRedirect: the endpoint in `storage:` has no TLS", "endpoint=https://"},
		"redirect to the same host":     {replace("storage: s3://images?endpoint=https://Registry.example.com:9000") + "storageRedirect: true\n", "c:8: storageRedirect: the endpoint Registry.example.com in", "a name of its own"},
		"redirect below the same host":  {replace("storage: s3://images?endpoint=https://s3.registry.example.com") + "storageRedirect: true\n", "c:8: storageRedirect: the endpoint s3.registry.example.com in", "a name of its own"},
		"relative optional path":        {least + "  ca: x\n", `c:8: tls.ca: "x" is not an absolute path`, "beginning with /"},
		"long socket path":              {replace("controlSocket: /" + strings.Repeat("x", 107)), "at most 107 bytes, this one has 108", "shorter"},
		"CA key without CA":             {least + "  caKey: /k\n  state: /s\n", "tls.ca: missing, though caKey is given", "leave out caKey"},
		"ACME without a CA key":         {least + "  acme:\n    directory: https://ca.test/dir\n", "tls.acme.directory: given without caKey", "it signs until"},
		"ACME without a directory":      {least + "  acme:\n    email: a@ca.test\n", "tls.acme.directory: missing", "name the directory"},
		"ACME in clear text":            {least + "  acme:\n    directory: http://ca.test/dir\n", "is not the URL of an ACME directory", "https://"},
		"ACME key without its ID":       {least + "  caKey: /k\n  ca: /c\n  state: /s\n  acme:\n    directory: https://ca.test/dir\n    keyFile: /f\n", "tls.acme.keyFile: keyID and keyFile go together", "or neither"},
		"CA key without state":          {least + "  caKey: /k\n  ca: /s\n", "tls.state: missing, though caKey is given", "directory"},
		"upper case prefix":             {upstream("- prefix: Quay.io\n  url: https://b\n"), `c:9: upstreams[0].prefix: "Quay.io" is not a path of repository names`, "lower-case"},
		"prefix with slash":             {upstream("- prefix: a/\n  url: https://b\n"), `"a/" is not a path of repository names`, "lower-case"},
		"prefix with port":              {upstream("- prefix: a:5000\n  url: https://b\n"), `is not a path of repository names`, "lower-case"},
		"prefix twice":                  {upstream("- {prefix: a, url: https://b}\n- {prefix: a, url: https://c}\n"), `c:10: upstreams[1].prefix: "a" is taken by another upstream`, "of its own"},
		"prefix of a host":              {upstream("- {prefix: a.io, url: https://b}\n- {hosts: [b.io, a.io]}\n"), `c:10: upstreams[1].hosts: "a.io" is taken by another upstream`, "of its own"},
		"neither prefix nor hosts":      {upstream("- {freshness: 5m}\n"), "c:9: upstreams[0].prefix: missing", "hosts"},
		"prefix without url":            {upstream("- {prefix: a}\n"), "c:9: upstreams[0].url: missing", "url: …"},
		"url without prefix":            {upstream("- {url: https://b}\n"), "c:9: upstreams[0].prefix: missing", "prefix: …"},
		"hosts and url":                 {upstream("- {hosts: [a.io], url: https://b}\n"), "c:9: upstreams[0].hosts: an upstream has either", "two entries"},
		"host with port":                {upstream("- {hosts: ['a.io:5000']}\n"), `upstreams[0].hosts[0]: "a.io:5000" is not the name of a host`, "prefix and url"},
		"host with path":                {upstream("- {hosts: [a.io/b]}\n"), `upstreams[0].hosts[0]: "a.io/b" is not the name of a host`, "prefix and url"},
		"host that is a word":           {upstream("- {hosts: [quay]}\n"), `upstreams[0].hosts[0]: "quay" is not the name of a host`, "quay.io"},
		"proxy without scheme":          {upstream("- {prefix: a, url: https://b, proxy: 'p:3128'}\n"), `"p:3128" is not the URL of a proxy`, "http://proxy"},
		"unknown mode":                  {upstream("- {prefix: a, url: https://b, mode: on}\n"), `upstreams[0].mode: "on" is not a mode`, "mirrored-only"},
		"too many at once":              {upstream("- {prefix: a, url: https://b, concurrency: 5000}\n"), `5000 is not from 1 to 1024`, "leave it out"},
		"no platform":                   {upstream("- {prefix: a, url: https://b, platforms: [amd64]}\n"), `"amd64" is not a platform`, "linux/amd64"},
		"pattern that matches nothing":  {upstream("- {prefix: a, url: https://b, deny: ['a/*/b']}\n"), `has a * that is not its last component`, "openshift/*"},
		"url without scheme":            {upstream("- {prefix: a, url: quay.io}\n"), `c:9: upstreams[0].url: "quay.io" is not the URL of a registry`, "https://quay.io"},
		"url of another scheme":         {upstream("- {prefix: a, url: 'docker://quay.io'}\n"), "begins with neither https:// nor http://", "https://quay.io"},
		"url with query":                {upstream("- {prefix: a, url: 'https://quay.io?a=b'}\n"), "must end with its path", "https://quay.io"},
		"url with bad port":             {upstream("- {prefix: a, url: 'https://quay.io:99999'}\n"), "has no valid port", "https://quay.io"},
		"sync without workspace":        {least + "sync:\n- imageSet: /a\n", "c:9: sync[0].workspace: missing", ""},
		"sync too often":                {least + "sync:\n- {imageSet: /a, workspace: /b, interval: 1s}\n", "c:9: sync[0].interval: 1s is too short", "at least 1m"},
		"sync of a relative path":       {least + "sync:\n- {imageSet: a, workspace: /b}\n", `c:9: sync[0].imageSet: "a" is not an absolute path`, "beginning with /"},
		"sync with a cron expression":   {least + "sync:\n- {imageSet: /a, workspace: /b, schedule: daily}\n", "c:9: sync[0].schedule", ""},
		"sync below a bad prefix":       {least + "sync:\n- {imageSet: /a, workspace: /b, prefix: A}\n", `c:9: sync[0].prefix: "A" is not a path`, "lower-case"},
		"one workspace for two":         {least + "sync:\n- {imageSet: /a, workspace: /b}\n- {imageSet: /c, workspace: /b}\n", `c:10: sync[1].workspace: "/b" is that of /a too`, "of its own"},
		"an image set twice":            {least + "sync:\n- {imageSet: /a, workspace: /b}\n- {imageSet: /a, workspace: /c}\n", `c:10: sync[1].imageSet: "/a" is listed twice`, "once"},
		"empty file":                    {"# nothing\n", "c: the file is empty", "appliance install"},
		"not a mapping":                 {"- a\n", "c:1: keys and values are wanted here, not a list", "hostname"},
		"two documents":                 {least + "---\na: b\n", "a second YAML document begins here", "keep one"},
		"not YAML":                      {least + "gc: [\n", "not valid YAML: ", "indentation"},
		"tab":                           {"hostname: a\n\tport: 1\n", "c:2: not valid YAML: ", "tabs"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("c", []byte(test.in))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is\n%v, want\n%s", err, test.want)
			}
			if got := hint.Of(err); !strings.Contains(got, test.hint) {
				t.Errorf("hint is\n%s, want\n%s", got, test.hint)
			}
		})
	}
}

func TestParse_credentialsInURL(t *testing.T) {
	_, err := config.Parse("c", []byte(least+"upstreams:\n- {prefix: a, url: 'https://me:s3cret@quay.io'}\n"))
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error is %v", err)
	}
}

// One install has one name, whatever the case it is written in: what compares it
// does so letter by letter.
func TestParse_Normal(t *testing.T) {
	c, err := config.Parse("c", []byte(strings.NewReplacer("registry.example.com", "Registry.Example.COM", "/quay-storage", "//./quay-storage/").Replace(string(config.Sample()))))
	if err != nil {
		t.Fatal(err)
	}
	if c.Hostname != "registry.example.com" || c.Storage != "/var/lib/appliance/quay-storage" {
		t.Errorf("hostname %s, storage %s", c.Hostname, c.Storage)
	}
}
