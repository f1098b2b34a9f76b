package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocs_namesTestsThatExist keeps the pages true to the tests behind their lines.
func TestDocs_namesTestsThatExist(t *testing.T) {
	const root = "../.."
	defined := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range function.FindAllSubmatch(source, -1) {
			defined[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"docs/security.md", "docs/development.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", page)
		}
		for _, match := range named {
			if name := string(match[1]); !defined[name] {
				t.Errorf("%s names %s, which no test of the project is", page, name)
			}
		}
	}
}

// TestDocs_commandsExist has each command line of the documentation name a command of the program and flags of it.
func TestDocs_commandsExist(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	// In a code span, or a line of a block: the words until something that a shell ends a command with.
	lines := regexp.MustCompile("(?:`|(?m:^\\s*)|sudo |\\$\\(|&& |; )appliance((?: +[^\\s`|;&)#\\\\>]+)+)")
	found := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range lines.FindAllSubmatch(text, -1) {
			if strings.HasPrefix(string(match[1]), " is available at ") {
				continue // what install prints
			}
			found++
			if problem := unknownIn(strings.Fields(string(match[1]))); problem != "" {
				t.Errorf("%s: appliance%s: %s", page, match[1], problem)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d command lines were found", found)
	}
}

// unknownIn returns what of a command line the program does not have.
func unknownIn(words []string) string {
	command := newRootCommand(stdio{})
	command.InitDefaultCompletionCmd()
	for len(words) > 0 && regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(words[0]) {
		next, _, err := command.Find(words[:1])
		if err != nil || next == command {
			if command.HasSubCommands() {
				return "there is no command " + words[0]
			}
			break
		}
		command, words = next, words[1:]
	}
	for _, word := range words {
		name, _, _ := strings.Cut(word, "=")
		name = strings.TrimRight(strings.TrimPrefix(name, "["), "]")
		if flag, ok := strings.CutPrefix(name, "--"); ok && flag != "" && command.Flag(flag) == nil && command.InheritedFlags().Lookup(flag) == nil {
			return "there is no flag --" + flag
		}
	}
	return ""
}
