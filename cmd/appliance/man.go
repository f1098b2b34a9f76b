package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// newManCommand is for packages: cmd/dist runs it. The date of the pages is that of SOURCE_DATE_EPOCH
// (https://reproducible-builds.org/specs/source-date-epoch), so that a second build makes the same.
//
// The pages are not made by cobra, which takes the texts for Markdown: "HOST[:PORT] (…)" became a link.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write a manual page for each command",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			date := time.Now()
			if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
				seconds, err := strconv.ParseInt(epoch, 10, 64)
				if err != nil {
					return hint.New(fmt.Errorf("SOURCE_DATE_EPOCH: %w", err), "set it to seconds since 1970, or unset it")
				}
				date = time.Unix(seconds, 0)
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writePages(c.Root(), args[0], date.UTC())
		},
	}
}

// writePages writes the page of a command and those of the commands below it.
func writePages(c *cobra.Command, dir string, date time.Time) error {
	if !c.IsAvailableCommand() && c.HasParent() {
		return nil
	}
	page := manPage{}
	page.write(c, date)
	err := os.WriteFile(filepath.Join(dir, pageName(c)+".1"), []byte(page.String()), 0o644)
	for _, sub := range c.Commands() {
		err = errors.Join(err, writePages(sub, dir, date))
	}
	return err
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is a page in the language of man(7).
type manPage struct{ strings.Builder }

func (p *manPage) write(c *cobra.Command, date time.Time) {
	p.line(`.TH "%s" 1 %s "appliance %s" "Appliance"`, strings.ToUpper(roff(pageName(c))), date.Format(time.DateOnly), roff(version))
	p.line(".nh\n.ad l") // neither hyphens nor wider blanks, which are not to be typed
	p.section("NAME")
	p.line(`%s \- %s`, roff(pageName(c)), roff(c.Short))
	p.section("SYNOPSIS")
	c.InitDefaultHelpFlag()
	p.line(`\fB%s\fP`, roff(c.UseLine()))
	p.section("DESCRIPTION")
	p.text(cmp.Or(c.Long, c.Short+"."))
	p.flags("OPTIONS", c.NonInheritedFlags())
	p.flags("OPTIONS OF THE COMMANDS ABOVE", c.InheritedFlags())
	if c.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(strings.Split(strings.Trim(c.Example, "\n"), "\n"))
	}
	p.seeAlso(c)
}

func (p *manPage) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *manPage) section(name string) { p.line(".SH %s", name) }

// text writes paragraphs; lines that begin with a blank stay as they are.
func (p *manPage) text(text string) {
	var kept []string
	flush := func() {
		p.verbatim(kept)
		kept = nil
	}
	for _, line := range strings.Split(strings.Trim(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			kept = append(kept, line)
			continue
		case line == "" && kept == nil:
			p.line(".PP")
			continue
		}
		flush()
		if line != "" {
			p.line("%s", roff(line))
		}
	}
	flush()
}

// verbatim writes lines as they are.
func (p *manPage) verbatim(lines []string) {
	if len(lines) == 0 {
		return
	}
	p.line(".nf")
	for _, line := range lines {
		p.line("%s", roff(line))
	}
	p.line(".fi")
}

func (p *manPage) flags(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.section(title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		p.line(".TP")
		if f.Shorthand != "" && f.ShorthandDeprecated == "" {
			fmt.Fprintf(p, `\fB\-%s\fP, `, f.Shorthand)
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind != "" {
			kind = ` \fI` + roff(kind) + `\fP`
		}
		p.line(`\fB\-\-%s\fP%s`, roff(f.Name), kind)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && !strings.Contains(usage, "default") {
			usage += " (default " + f.DefValue + ")"
		}
		p.line("%s", roff(usage))
	})
}

// seeAlso names the commands above and below.
func (p *manPage) seeAlso(c *cobra.Command) {
	var others []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			others = append(others, pageName(sub))
		}
	}
	slices.Sort(others)
	if c.HasParent() {
		others = append([]string{pageName(c.Parent())}, others...)
	}
	if len(others) == 0 {
		return
	}
	for i, name := range others {
		others[i] = `\fB` + roff(name) + `\fP(1)`
	}
	p.section("SEE ALSO")
	p.line("%s", strings.Join(others, ",\n"))
}

// roff returns text that troff takes for nothing but text.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\t", "        ").Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
