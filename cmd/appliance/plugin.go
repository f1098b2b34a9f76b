package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// The levels of oc-mirror's lines.
const (
	info    = "INFO"
	warning = "WARN"
	bad     = "ERROR"
)

// exitVersionFlag is oc-mirror's exit code where --v1 and --v2 are both given, or neither is.
const exitVersionFlag = 255

// isPlugin reports whether this program was started as oc's plugin: oc mirror starts oc-mirror.
func isPlugin(program string) bool {
	name := filepath.Base(program)
	return strings.HasPrefix(name, "oc-mirror") || strings.HasPrefix(name, "kubectl-mirror")
}

// newPluginCommand returns oc-mirror: mirror, and below it what oc-mirror has.
func newPluginCommand(std stdio) *cobra.Command {
	c := newMirrorCommand(std, true)
	c.Use = strings.Replace(c.Use, "mirror", "oc-mirror --v2", 1)
	c.SilenceUsage, c.SilenceErrors, c.DisableAutoGenTag = true, true, true
	c.SetIn(std.in)
	c.SetOut(std.out)
	c.SetErr(std.err)
	c.SetFlagErrorFunc(usageError)
	c.SetHelpCommand(newHelpCommand(c))
	c.AddCommand(newVersionCommand(std))
	c.InitDefaultCompletionCmd() // which is made when a command is run
	addVersionFlags(c)
	c.SetGlobalNormalizationFunc(oneSpelling)
	return c
}

// addVersionFlags adds --v1 and --v2 to the commands below one that do not have them.
func addVersionFlags(to *cobra.Command) {
	for _, c := range to.Commands() {
		for _, name := range []string{"v1", "v2"} {
			if c.Flags().Lookup(name) == nil {
				hide(c.Flags(), name, true)
			}
		}
		addVersionFlags(c)
	}
}

// withoutVersionFlag are the commands of oc-mirror that need neither --v1 nor --v2: those of both
// versions, those that only version 1 has there, and what a shell asks to complete a command line.
var withoutVersionFlag = []string{"version", "help", "--help", "-h", "init", "describe",
	cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}

// checkVersionFlag refuses a command line for oc-mirror that does not say which of its two versions
// is meant.
func checkVersionFlag(args []string) error {
	has := func(word string) bool {
		return slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, word) })
	}
	v1, v2 := has("--v1"), has("--v2")
	switch {
	case v1 && v2:
		return errors.New("the flags --v1 and --v2 are mutually exclusive")
	case v1 || v2 || slices.ContainsFunc(args, func(arg string) bool { return slices.Contains(withoutVersionFlag, arg) }):
		return nil
	}
	return errors.New("the use of the flag --v1 or --v2 is mandatory, please use --v2 for the supported oc-mirror version or --v1 to continue using the deprecated version")
}

// logLine returns a line of oc-mirror's log.
func logLine(at time.Time, level, text string) string {
	return fmt.Sprintf("%s  %-9s: %s", at.Format("2006/01/02 15:04:05"), "["+level+"]", text)
}

// logWriter makes lines of oc-mirror's log of errors and hints.
type logWriter struct{ io.Writer }

func (w logWriter) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		level, text := bad, strings.TrimPrefix(strings.TrimSuffix(string(line), "\n"), "error: ")
		switch {
		case strings.HasPrefix(text, "hint: "), strings.HasPrefix(text, "note: "):
			level = info
		case strings.Contains(text, "level=WARN"): // a retry
			level = warning
		}
		if _, err := fmt.Fprintln(w.Writer, logLine(time.Now(), level, text)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// hello prints the first lines of oc-mirror.
func (p *progress) hello(mode string) {
	if p.plugin {
		p.say("👋 Hello, welcome to oc-mirror")
		p.say("⚙️  environment version: %s", version)
		p.say("🔀 workflow mode: %s ", mode)
		p.say("🕵  going to discover the necessary images...")
	}
}

// verified prints that a registry took the login.
func (p *progress) verified(registry string) {
	if p.plugin {
		p.name("Verified we can authenticate against registry %q", registry)
	}
}

// listed prints oc-mirror's lines about the files of a dry run.
func (p *progress) listed(mapping string, planned int, toDisk bool) {
	if !p.plugin {
		return
	}
	missing := filepath.Join(filepath.Dir(mapping), "missing.txt")
	if text, err := os.ReadFile(missing); err == nil && toDisk {
		p.line(warning, fmt.Sprintf("⚠️  %d/%d images necessary for mirroring are not available in the cache.",
			bytes.Count(text, []byte("\n")), planned))
		p.line(warning, "List of missing images in : "+missing+".\nplease re-run the mirror to disk process")
	}
	p.say("📄 list of all images for mirroring in : %s", mapping)
}

// goodbye prints the last lines of oc-mirror.
func (p *progress) goodbye() {
	if p.plugin {
		p.say("mirror time     : %v", time.Since(p.began))
		p.say("👋 Goodbye, thank you for using oc-mirror")
	}
}

// namespace returns where oc-mirror says that an image went: the host, and the path without the
// last element.
func (p *progress) namespace(repository string) string {
	if p.host == "" { // what goes into an archive goes through a cache there
		return "cache"
	}
	dir, last := path.Split(repository)
	if dir == "" {
		dir = last
	}
	return path.Join(p.host, dir) + "/"
}
