package installer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/systemd"
)

// contentType is the type of SELinux for files of services.
const contentType = "var_lib_t"

// unfit are the types of files that the policy keeps from services: those of home directories, of
// what no rule of the policy is about, and of what was copied from elsewhere.
var unfit = []string{"default_t", "unlabeled_t", "file_t", "root_t", "mnt_t", "usr_t", "tmp_t", "user_tmp_t",
	"home_root_t", "admin_home_t", "user_home_t", "user_home_dir_t"}

// labelOf returns the label of a file, "" where that cannot be read.
func labelOf(path string) string {
	label := make([]byte, 256)
	n, err := unix.Getxattr(path, "security.selinux", label)
	if errors.Is(err, unix.ENODATA) {
		return "system_u:object_r:unlabeled_t:s0"
	}
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(label[:n]), "\x00")
}

// typeOf returns the type in a label, such as bin_t in system_u:object_r:bin_t:s0.
func typeOf(label string) string {
	if parts := strings.Split(label, ":"); len(parts) > 2 {
		return parts[2]
	}
	return ""
}

// lookAtSELinux finds out whether SELinux is on, and with what files are labelled.
func (s *site) lookAtSELinux() {
	mode, err := s.Host.ReadFile("/sys/fs/selinux/enforce")
	if err != nil {
		return
	}
	s.selinux = map[string]string{"1": "enforcing"}[strings.TrimSpace(string(mode))]
	if s.selinux == "" {
		s.selinux = "permissive"
	}
	s.labels = hasProgram(s.Host, "restorecon") && hasProgram(s.Host, "chcon")
}

func hasProgram(h *host.Host, name string) bool {
	return slices.ContainsFunc([]string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}, func(dir string) bool {
		_, err := h.StatTarget(filepath.Join(dir, name))
		return err == nil
	})
}

// checkSELinux checks that what is installed can be labelled where SELinux is enforcing.
func (s *site) checkSELinux() {
	if s.selinux == "enforcing" && !s.User && !s.labels {
		s.warn("SELinux is enforcing, and there are no restorecon and chcon to label files with",
			"if the service is kept from starting: sudo dnf install policycoreutils coreutils, then appliance install")
	}
}

// labelSteps are about what systemd starts and reads, and about the directories of the service.
func (s *site) labelSteps() (steps []host.Step) {
	if s.selinux == "" || s.User || !s.labels {
		return nil
	}
	for _, path := range s.startedFiles() {
		steps = append(steps, &relabel{host: s.Host, read: s.Label, path: path})
	}
	dirs := []string{s.QuayRoot}
	for _, path := range contentDirs(s.cfg) {
		if !within(s.Host.Real(path), s.Host.Real(s.QuayRoot)) {
			dirs = append(dirs, path)
		}
	}
	for _, path := range dirs {
		steps = append(steps, &label{host: s.Host, read: s.Label, Path: s.Host.Real(path)})
	}
	return steps
}

// startedFiles are the program and the units.
func (s *site) startedFiles() []string {
	return []string{s.binary, s.unitFile(systemd.Service), s.unitFile(systemd.Socket)}
}

// relabel gives a file that systemd starts or reads the label that the policy has for its place.
type relabel struct {
	host *host.Host
	read func(path string) string
	path string
}

func (s *relabel) String() string { return "label " + s.path + " for SELinux" }

// wrong returns the type of the file where systemd may not use it.
func (s *relabel) wrong() string {
	if t := typeOf(s.read(s.host.Path(s.path))); slices.Contains(unfit, t) {
		return t
	}
	return ""
}

func (s *relabel) command() []string { return []string{"restorecon", "-v", s.path} }

func (s *relabel) Check(context.Context) (*host.Before, error) {
	if s.wrong() == "" {
		return nil, nil
	}
	return &host.Before{}, nil
}

func (s *relabel) Apply(ctx context.Context) (bool, error) {
	return true, runAll(ctx, s.host, s.command())
}

// Undo does nothing: the file is removed.
func (s *relabel) Undo(context.Context, *host.Before) (bool, error) { return false, nil }

// label gives a directory with all that it holds a type that services may use. With semanage, the
// policy gets a rule, so that it keeps the type when the host is labelled anew.
type label struct {
	host *host.Host
	read func(path string) string
	Path string `json:"path"`
	Was  string `json:"was"`            // its type before
	Rule bool   `json:"rule,omitempty"` // the policy has a rule
}

func (s *label) String() string { return fmt.Sprintf("label %s for SELinux (%s)", s.Path, contentType) }

// Taken is as in lasting.
func (s *label) Taken() string { return "take back the label of " + s.Path + " for SELinux" }

// wrong returns the type of the directory where services may not use it.
func (s *label) wrong() string {
	if t := typeOf(s.read(s.host.Path(s.Path))); slices.Contains(unfit, t) {
		return t
	}
	return ""
}

// pattern is a regular expression of semanage-fcontext(8).
func (s *label) pattern() string { return regexp.QuoteMeta(s.Path) + "(/.*)?" }

func (s *label) commands() [][]string {
	if hasProgram(s.host, "semanage") {
		return [][]string{{"semanage", "fcontext", "-a", "-t", contentType, s.pattern()}, {"restorecon", "-R", s.Path}}
	}
	return [][]string{{"chcon", "-R", "-t", contentType, s.Path}}
}

func (s *label) Check(context.Context) (*host.Before, error) {
	was := s.wrong()
	if was == "" {
		return nil, nil
	}
	s.Was, s.Rule = was, hasProgram(s.host, "semanage")
	return &host.Before{}, nil
}

func (s *label) Apply(ctx context.Context) (bool, error) {
	commands := s.commands()
	if rule := commands[0]; rule[0] == "semanage" {
		if _, err := s.host.Run(ctx, rule[0], rule[1:]...); err != nil {
			rule[2] = "-m" // a killed run has left one
		} else {
			commands = commands[1:]
		}
	}
	return true, runAll(ctx, s.host, commands...)
}

func (s *label) Undo(ctx context.Context, _ *host.Before) (bool, error) {
	if s.Rule {
		// An error says that the rule has gone, or semanage.
		_, _ = s.host.Run(ctx, "semanage", "fcontext", "-d", s.pattern())
	}
	there, err := s.host.Exists(s.Path)
	switch {
	case err != nil || !there:
		return s.Rule, err
	case s.Rule:
		return true, runAll(ctx, s.host, []string{"restorecon", "-R", s.Path})
	case s.Was == "unlabeled_t": // which cannot be given
		return false, nil
	}
	return true, runAll(ctx, s.host, []string{"chcon", "-R", "-t", s.Was, s.Path})
}

func runAll(ctx context.Context, h *host.Host, commands ...[]string) error {
	for _, c := range commands {
		if _, err := h.Run(ctx, c[0], c[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// checkLabels checks that systemd may start the service, and the service use its directories.
func (s *site) checkLabels() {
	for _, step := range s.labelSteps() {
		var path, wrong string
		var commands [][]string
		switch step := step.(type) {
		case *relabel:
			path, wrong, commands = step.path, step.wrong(), [][]string{step.command()}
		case *label:
			path, wrong, commands = step.Path, step.wrong(), step.commands()
		}
		if wrong == "" {
			continue
		}
		var lines []string
		for _, c := range commands {
			lines = append(lines, "sudo "+hint.Words(c...))
		}
		what := fmt.Sprintf("%s has the type %s, which SELinux keeps from services", path, wrong)
		remedy := strings.Join(lines, " && ") + "; or appliance install, which does it"
		if s.selinux == "enforcing" {
			s.problem(what, remedy)
		} else {
			s.warn(what+" when it is enforcing", remedy)
		}
	}
}
