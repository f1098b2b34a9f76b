package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/installer/remote"
)

// request has a request carried out, as the process on the other host does it.
func request(t *testing.T, r remote.Request) (out string) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	in, w := io.Pipe()
	defer w.Close() // its end would end the command
	go func() { _, _ = io.WriteString(w, string(text)+"\n"+`{"end":true}`+"\n") }()
	if err := remote.Serve(t.Context(), in, &b, version, carryOutRequest); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A request is checked as a command line is; and only commands of the installer are carried out.
func TestRemoteRun_refuses(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	flag := func(name, value string) []remote.Flag { return []remote.Flag{{Name: name, Value: value}} }
	for want, r := range map[string]remote.Request{
		`\"serve\" is not a command`:                         {Command: "serve"},
		`\"remote-run\" is not a command`:                    {Command: "remote-run"},
		`\"\" is not a command`:                              {},
		`\"nosuch\" is not a flag of install`:                {Command: "install", Flags: flag("nosuch", "")},
		`\"quayRoot=/x\" is not a flag`:                      {Command: "install", Flags: flag("quayRoot=/x", "")},
		`\"quay-root\" is not a flag`:                        {Command: "install", Flags: flag("quay-root", "/x")},
		`\"ssh-key\" is not a flag of install that`:          {Command: "install", Flags: flag("ssh-key", "/x")},
		`\"help\" is not a flag of uninstall`:                {Command: "uninstall", Flags: flag("help", "true")},
		`--dry-run is \"maybe\": true or false`:              {Command: "install", Flags: flag("dry-run", "maybe")},
		`invalid argument \"\" for \"-r, --quayRoot\"`:       {Command: "install", Flags: flag("quayRoot", "")},
		`--quayHostname \"host:port\" is not`:                {Command: "install", Flags: flag("quayHostname", "host:port")},
		`\"more\" is not an argument of appliance uninstall`: {Command: "uninstall", Args: []string{"more"}},
		`\"--autoApprove\" is not an argument`:               {Command: "uninstall", Args: []string{"--autoApprove"}},
		`no password on standard input`:                      {Command: "install", Flags: flag("initPassword", "-")},
		`no-such-user-of-ours`:                               {Command: "uninstall", Flags: flag("quayRoot", "~no-such-user-of-ours/quay")},
	} {
		if out := request(t, r); !strings.Contains(out, want) || !strings.Contains(out, `{"exit":1}`) {
			t.Errorf("%+v does not lead to %s:\n%s", r, want, out)
		}
	}
}

// By the name that the user has for the host clients reach it, unless another is given.
func TestRemoteRun_hostname(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	r := remote.Request{Command: "install", Flags: []remote.Flag{{Name: "targetHostname", Value: "no_name.example.com"}}}
	if out := request(t, r); !strings.Contains(out, "no_name.example.com") {
		t.Errorf("without a name:\n%s", out)
	}
	r.Flags = append(r.Flags, remote.Flag{Name: "quayHostname", Value: "other_name.example.com"})
	if out := request(t, r); strings.Contains(out, "no_name") || !strings.Contains(out, "other_name") {
		t.Errorf("with a name:\n%s", out)
	}
}

// What is sent is what was typed: ~ is the other host's.
func TestOnOtherHosts_sendsWhatWasTyped(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	var o remoteOptions
	var std stdio
	c := newUninstallCommand(std)
	c.ResetFlags()
	var place placeOptions
	place.addFlags(c.Flags())
	onOtherHosts(c, std, &o)
	if err := c.ParseFlags([]string{"-r", "~/quay", "--quayStorage=~no-such-user-of-ours/x", "--dry-run", "-v", "-H", "far", "--become"}); err != nil {
		t.Fatal(err)
	}
	want := []remote.Flag{{Name: "quayRoot", Value: "~/quay"}, {Name: "quayStorage", Value: "~no-such-user-of-ours/x"}, {Name: "dry-run", Value: "true"}, {Name: "verbose", Value: "true"}}
	if !slices.EqualFunc(o.typed.all, want, func(a, b remote.Flag) bool { return a.Name == b.Name && a.Value == b.Value }) {
		t.Errorf("sent: %v", o.typed.all)
	}
	if local, err := o.local(stdio{}); local || err != nil {
		t.Errorf("carried out here: %v, %v", local, err)
	}
	if local, _ := o.local(stdio{far: true}); !local {
		t.Error("a request is passed on to another host")
	}
}

func TestOnOtherHosts_thisHost(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    remoteOptions
		here bool
	}{
		{remoteOptions{}, true},
		{remoteOptions{host: "localhost"}, true},
		{remoteOptions{host: strings.ToUpper(name)}, true},
		{remoteOptions{host: "elsewhere.example.com"}, false},
		{remoteOptions{user: "another-user"}, false},
		{remoteOptions{host: "localhost", user: "another-user"}, false},
		{remoteOptions{host: "localhost", jump: "between"}, false},
		{remoteOptions{host: "localhost:2022"}, false},
	} {
		if here, err := c.o.local(stdio{err: &bytes.Buffer{}}); here != c.here || err != nil {
			t.Errorf("%+v: here %v, %v", c.o, here, err)
		}
	}
}

func TestWithFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	writeText(t, filepath.Join(dir, "my.key"), "secret")
	flags := []remote.Flag{{Name: "sslKey", Value: "~/my.key"}, {Name: "quayRoot", Value: "~/my.key"}, {Name: "initPasswordFile", Value: "-"}}
	sent, err := withFiles(flags)
	if err != nil || string(sent[0].File) != "secret" || sent[1].File != nil || sent[2].File != nil || flags[0].File != nil {
		t.Errorf("sent: %q, %v", sent, err)
	}
	if _, err := withFiles([]remote.Flag{{Name: "sslCert", Value: "absent.pem"}}); err == nil || !strings.Contains(err.Error(), "--sslCert") || !strings.Contains(err.Error(), "absent.pem") {
		t.Errorf("a file that is not there: %v", err)
	}
}
