package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenseName is what a file with a license, or a notice that a license wants to be passed on, is called.
var licenseName = regexp.MustCompile(`(?i)^((?:un)?licen[sc]e|copying|copyright|notice|patents)([-.].*)?$`)

// licenses writes the licenses of the modules in the programs, and that of Go, which most of them want to
// go with the program.
func (d *dist) licenses(ctx context.Context) error {
	c := exec.CommandContext(ctx, "go", "list", "-deps", "-f",
		`{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}	{{.Dir}}{{end}}{{end}}`, "./cmd/appliance", "./cmd/appliance-helm")
	c.Dir, c.Env = d.root, append(os.Environ(), (&build{arch: "amd64"}).environment()...)
	modules, err := c.Output()
	if err != nil {
		return fmt.Errorf("list the modules: %w", err)
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	lines := append(strings.Fields(strings.ReplaceAll(string(modules), " ", "@")), "Go", strings.TrimSpace(string(root)))
	text, err := licensesOf(lines)
	return errors.Join(err, os.WriteFile(d.licenseFile(), []byte(text), 0o600))
}

func (d *dist) licenseFile() string { return filepath.Join(d.tmp, "LICENSES") }

// licensesOf joins the licenses of modules, given as names and directories in turn, each text once.
func licensesOf(modules []string) (string, error) {
	users := map[string][]string{} // of a text
	for pair := range slices.Chunk(modules, 2) {
		names, err := filepath.Glob(filepath.Join(pair[1], "*"))
		found := false
		for _, name := range names {
			if info, serr := os.Stat(name); serr != nil || !info.Mode().IsRegular() || !licenseName.MatchString(filepath.Base(name)) || filepath.Ext(name) == ".go" {
				continue
			}
			content, rerr := os.ReadFile(name)
			err, found = errors.Join(err, rerr), true
			if text := strings.TrimSpace(string(content)); !slices.Contains(users[text], pair[0]) {
				users[text] = append(users[text], pair[0])
			}
		}
		if err != nil || !found {
			return "", cmp.Or(err, fmt.Errorf("%s has no license file in %s: see whether we may use it", pair[0], pair[1]))
		}
	}
	var texts []string
	for text, of := range users {
		slices.Sort(of)
		texts = append(texts, strings.Join(of, "\n")+"\n\n"+text+"\n")
	}
	slices.Sort(texts)
	return strings.Join(texts, "\n"+strings.Repeat("-", 80)+"\n"), nil
}
