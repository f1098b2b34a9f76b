package main

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/docs"
)

// flagWords are the words that a shell offers as values of flags. The usage of each flag has them too.
var flagWords = map[string][]string{
	"arch": {"x86_64", "aarch64", "ppc64le", "s390x"}, "filter-by-archs": {"amd64", "arm64", "s390x", "ppc64le", "multi"},
	"log-format": {"text", "json"}, "log-level": {"info", "debug", "trace", "error"}, "mode": {"cache", "mirrored-only", "off"},
	"output": {"json", "yaml"}, "role": {"pull", "push", "admin"}, "signature-verification": {"best-effort", "strict"},
}

// flagDirs are the flags that take a directory, flagFiles those of another type than paths that take a file.
var (
	flagDirs  = []string{"quayRoot", "quayStorage", "sqliteStorage", "dir", "cert-dir", "src-cert-dir", "dest-cert-dir", "registries.d"}
	flagFiles = []string{"ssh-key", "sslCert", "sslKey", "initPasswordFile", "output"}
)

// isCompletion reports whether a shell asks what it may offer. Only then is completes called: for all flags of
// all commands it takes longer than a short command.
func isCompletion(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// completes has a shell offer words, directories or files where these make sense, for all commands below
// one, and nothing else: cobra would offer files everywhere.
func completes(c *cobra.Command) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		// An error is that there is one already, from a flag that two commands share.
		_ = c.RegisterFlagCompletionFunc(f.Name, flagCompletion(f))
	})
	if c.ValidArgsFunction == nil && (!c.HasSubCommands() || strings.Contains(c.Use, "://")) {
		c.ValidArgsFunction = argumentCompletion(c.Name(), c.Use)
	}
	for _, sub := range c.Commands() {
		completes(sub)
	}
}

func flagCompletion(f *pflag.Flag) cobra.CompletionFunc {
	words := slices.DeleteFunc(slices.Clone(flagWords[f.Name]), func(word string) bool { return !strings.Contains(f.Usage, word) })
	_, path := f.Value.(pathValue)
	_, paths := f.Value.(pathsValue)
	_, once := f.Value.(*onceValue)
	switch {
	case strings.Contains(f.Usage, "file://DIR"):
		return urlCompletion("file://")
	case slices.Contains(flagDirs, f.Name):
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case len(words) > 0:
		return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	case path || paths || once || slices.Contains(flagFiles, f.Name):
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	}
	return cobra.NoFileCompletions
}

var (
	// flagInUse are the flags in a line of usage, with their values.
	flagInUse = regexp.MustCompile(`--?[a-zA-Z]\S*( [^-\s\]}|]+)?`)
	scheme    = regexp.MustCompile(`(docker|file)://`)
)

func argumentCompletion(name, use string) cobra.CompletionFunc {
	switch name {
	case "docs":
		var names []string
		for _, topic := range docs.Topics() {
			names = append(names, topic.Name)
		}
		return first(1, names...)
	case "offline":
		return first(1, "on", "off")
	case "role":
		return first(2, flagWords["role"]...)
	}
	use = flagInUse.ReplaceAllString(use, "")
	if schemes := scheme.FindAllString(use, -1); schemes != nil {
		return urlCompletion(schemes...)
	}
	if strings.Contains(use, "DIR") || strings.Contains(use, "FILE") {
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	}
	return cobra.NoFileCompletions
}

// first offers words as the nth argument alone.
func first(n int, words ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) != n-1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// urlCompletion offers schemes, and after file:// the directories.
func urlCompletion(schemes ...string) cobra.CompletionFunc {
	const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		path, ok := strings.CutPrefix(word, "file://")
		if !ok {
			return schemes, directive
		}
		dir, base := filepath.Split(path)
		entries, _ := os.ReadDir(cmp.Or(dir, ".")) // a shell is not told of errors
		var all []string
		for _, e := range entries {
			if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.IsDir() && strings.HasPrefix(e.Name(), base) {
				all = append(all, "file://"+dir+e.Name()+"/")
			}
		}
		return all, directive
	}
}
