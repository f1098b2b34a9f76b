package installer

import (
	"context"
	"errors"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/systemd"
)

// fakeSELinux stands in for the programs that label files, and for the kernel that keeps labels: a
// file has the type of its directory unless it has one of its own.
type fakeSELinux struct {
	types  map[string]string // by path
	policy map[string]string // the same, where restorecon has them from
	ran    []string
}

// labelled gives the box an SELinux with the programs in /usr/sbin.
func (b *box) labelled(mode string, programs ...string) *fakeSELinux {
	b.write("sys/fs/selinux/enforce", mode)
	for _, p := range programs {
		b.write("usr/sbin/"+p, "")
	}
	policy := map[string]string{"/": "default_t", "/root": "admin_home_t", "/opt": "usr_t", "/srv": "var_t", "/usr/local/bin": "bin_t",
		"/etc/systemd/system": "systemd_unit_file_t"}
	b.selinux = &fakeSELinux{types: map[string]string{}, policy: policy}
	for p, t := range policy {
		b.selinux.types[p] = t
	}
	b.deps.Label = func(file string) string {
		return "system_u:object_r:" + nearest(b.selinux.types, strings.TrimPrefix(file, b.root)) + ":s0"
	}
	return b.selinux
}

func nearest(types map[string]string, file string) string {
	for types[file] == "" && file != "/" {
		file = path.Dir(file)
	}
	return types[file]
}

func (f *fakeSELinux) run(name string, args []string) error {
	f.ran = append(f.ran, name+" "+strings.Join(args, " "))
	file := args[len(args)-1]
	rule := strings.TrimSuffix(file, "(/.*)?")
	switch {
	case name == "semanage" && args[1] == "-a" && f.policy[rule] != "":
		return errors.New("already defined")
	case name == "semanage" && args[1] == "-d":
		delete(f.policy, rule)
	case name == "semanage":
		f.policy[rule] = args[3]
	case name == "chcon":
		f.types[file] = args[2]
	default:
		f.types[file] = nearest(f.policy, file)
	}
	return nil
}

func TestInstall_selinux(t *testing.T) {
	t.Parallel()
	const root = "/root/quay-install"
	t.Run("chcon", func(t *testing.T) {
		b := newBox(t, false)
		f := b.labelled("1\n", "restorecon", "chcon")
		f.types["/usr/local/bin"] = "user_home_t" // the program was moved here once
		b.install()
		want := []string{"restorecon -v /usr/local/bin/appliance", "chcon -R -t var_lib_t " + root}
		if !slices.Equal(f.ran, want) || nearest(f.types, root+"/quay-storage") != "var_lib_t" || nearest(f.types, "/usr/local/bin/appliance") != "bin_t" {
			t.Errorf("ran %q", f.ran)
		}
		f.ran = nil
		if b.install().Changed || len(f.ran) > 0 {
			t.Errorf("a second install ran %q", f.ran)
		}
		b.uninstall(false)
		if len(f.ran) > 0 {
			t.Errorf("an uninstall that keeps the content ran %q", f.ran)
		}
		b.uninstall(true)
		if want := []string{"chcon -R -t admin_home_t " + root}; !slices.Equal(f.ran, want) {
			t.Errorf("an uninstall ran %q", f.ran)
		}
	})
	t.Run("semanage", func(t *testing.T) {
		b := newBox(t, false)
		f := b.labelled("1\n", "restorecon", "chcon", "semanage")
		r := b.request()
		r.QuayRoot, r.QuayStorage, r.SqliteStorage = "/opt/my.quay", "/data/blobs", "/srv/db"
		f.policy["/data/blobs"] = "default_t" // of a killed run
		if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		want := []string{`semanage fcontext -a -t var_lib_t /opt/my\.quay(/.*)?`, "restorecon -R /opt/my.quay",
			"semanage fcontext -a -t var_lib_t /data/blobs(/.*)?", "semanage fcontext -m -t var_lib_t /data/blobs(/.*)?", "restorecon -R /data/blobs"}
		if !slices.Equal(f.ran, want) {
			t.Errorf("ran %q", f.ran)
		}
		if !regexp.MustCompile("^" + `/opt/my\.quay(/.*)?` + "$").MatchString("/opt/my.quay/quay-config") {
			t.Error("the rule is not about what the directory has")
		}
		f.ran = nil
		b.uninstall(true)
		if !slices.Contains(f.ran, "semanage fcontext -d /data/blobs(/.*)?") || f.policy["/data/blobs"] != "" {
			t.Errorf("an uninstall ran %q", f.ran)
		}
	})
	t.Run("an install that fails takes the label back", func(t *testing.T) {
		b := newBox(t, false)
		f := b.labelled("0\n", "restorecon", "chcon")
		b.deps.Seed = func(context.Context, Installation) (seeding, error) { return seeding{}, errors.New("made to fail") }
		if _, err := b.plan(b.request()).Apply(t.Context(), nil); err == nil {
			t.Fatal("it did not fail")
		}
		if want := "chcon -R -t admin_home_t " + root; len(f.ran) != 2 || f.ran[1] != want {
			t.Errorf("ran %q", f.ran)
		}
	})
	t.Run("without programs", func(t *testing.T) {
		b := newBox(t, false)
		f := b.labelled("1\n")
		if w := b.plan(b.request()).Warnings; len(w) != 1 || !strings.Contains(w[0].What, "SELinux is enforcing") || !strings.Contains(w[0].Remedy, "policycoreutils") {
			t.Errorf("warnings %v", w)
		}
		if b.install(); len(f.ran) > 0 {
			t.Errorf("ran %q", f.ran)
		}
	})
	t.Run("of a user", func(t *testing.T) {
		b := newBox(t, true)
		f := b.labelled("1\n", "restorecon", "chcon", "semanage")
		if b.install(); len(f.ran) > 0 {
			t.Errorf("ran %q", f.ran)
		}
	})
}

// The commands that doctor names are those that an install runs.
func TestCheckLabels(t *testing.T) {
	t.Parallel()
	for mode, warns := range map[string]bool{"1\n": false, "0\n": true} {
		b := newBox(t, false)
		f := b.labelled(mode, "restorecon", "chcon")
		b.install()
		f.types["/root/quay-install"], f.types["/etc/systemd/system/"+systemd.Service] = "user_home_t", "tmp_t"
		s, err := newSite(b.request(), b.deps)
		if err != nil {
			t.Fatal(err)
		}
		if !s.look() {
			t.Fatal(s.problems)
		}
		s.wantConfig()
		s.lookAtSELinux()
		s.checkLabels()
		if len(s.problems) != 2 || s.problems[0].Warning != warns ||
			!strings.HasPrefix(s.problems[0].Remedy, "sudo restorecon -v /etc/systemd/system/appliance.service; or appliance install") ||
			!strings.HasPrefix(s.problems[1].Remedy, "sudo chcon -R -t var_lib_t /root/quay-install; or") {
			t.Errorf("%q: %v", mode, s.problems)
		}
	}
}

// A real label is read from a real file, where this user may write one.
func TestLabelOf(t *testing.T) {
	file := t.TempDir() + "/f"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := typeOf(labelOf(file)); got == "" {
		t.Errorf("a file has the type %q", got)
	}
	if got := labelOf(file + "none"); got != "" {
		t.Errorf("no file has the label %q", got)
	}
}
