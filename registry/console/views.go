package console

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

//go:embed templates
var templates embed.FS

//go:embed text
var texts embed.FS

// views are the templates of the pages, and their texts.
type views struct {
	pages map[string]func() (*template.Template, error)
	texts map[string]string
}

// parseViews reads the texts and templates/*.html, which each page has. With them each file of templates/pages is
// a page, parsed when it is first shown: a copy of what all have for each of them would take longer than all else
// that a daemon does before it answers.
func parseViews(f *files) (*views, error) {
	all, err := readTexts("en")
	if err != nil {
		return nil, err
	}
	v := &views{pages: map[string]func() (*template.Template, error){}, texts: all}
	common, err := template.New("").Funcs(v.functions(f)).ParseFS(templates, "templates/*.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(templates, "templates/pages/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		v.pages[strings.TrimSuffix(path.Base(name), ".html")] = sync.OnceValues(func() (*template.Template, error) {
			t, err := common.Clone()
			if err != nil {
				return nil, err
			}
			return t.ParseFS(templates, name)
		})
	}
	return v, nil
}

// page returns the templates of a page.
func (v *views) page(name string) (*template.Template, error) {
	parsed, ok := v.pages[name]
	if !ok {
		return nil, fmt.Errorf("there is no page %s", name)
	}
	return parsed()
}

// readTexts reads the texts of a language: those of FILE.yaml are called FILE.KEY.
func readTexts(language string) (map[string]string, error) {
	all := map[string]string{}
	names, err := fs.Glob(texts, "text/"+language+"/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		data, err := texts.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var some map[string]string
		if err := yaml.Unmarshal(data, &some); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for key, text := range some {
			all[strings.TrimSuffix(path.Base(name), ".yaml")+"."+key] = text
		}
	}
	return all, nil
}

// functions are those of the templates.
func (v *views) functions(f *files) template.FuncMap {
	return template.FuncMap{
		"t":        v.mustText,
		"n":        v.count,
		"static":   func(name string) string { return f.base + name },
		"bytes":    func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
		"comma":    humanize.Comma,
		"ago":      humanize.Time,
		"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"date":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
		"second":   func(t time.Time) string { return t.UTC().Format(time.DateTime) },
		"host":     hostOf,
		"dict":     dict,
		"short":    short,
		"begin":    begin,
		"digits":   func(name string) string { return hexDigits.ReplaceAllString(name, "$1…") },
		"add":      func(a, b int) int { return a + b },
		"int64":    func(n int) int64 { return int64(n) },
		"number":   func(n int) string { return humanize.Comma(int64(n)) },
		"less":     func(a, b int) int { return a - b },
		"image":    imageAddress,
		"catalog":  catalogAddress,
		"finding":  findingText,
		"deref":    func(n *int) int { return *n },
		"delete":   func(repo, ref string) string { return address("/images/delete", "repository", repo, "image", ref) },
		"signed":   func(repo, ref string) string { return address("/images/signatures", "repository", repo, "image", ref) },
		"needs":    func(repo, ref string) string { return address("/images/needs", "repository", repo, "image", ref) },
		"span":     span,
		"minus":    func(a, b int64) int64 { return a - b },
		"day":      func(t *time.Time) string { return t.Format(time.DateOnly) },
		"fullness": fullness,
		"channel":  func(name string) string { return address(channelPath, "channel", name) },
		"names":    channelNames,
		"always":   always,
		"tips":     tips,
		"judge": func(from, to, channel, arch string) string {
			return address(readyPath, "from", from, "to", to, "channel", channel, "arch", arch)
		},
		"reasons": byCode,
		"curable": curable,
		"wayOf":   wayOf,
		"command": readyCommand,
		"has":     slices.Contains[[]string],
		"first":   first,
		"percent": func(part, whole int64) int64 {
			if whole <= 0 {
				return 0
			}
			return min(100, max(0, part*100/whole))
		},
	}
}

// text returns a text, with args in the places that it has for them.
func (v *views) text(key string, args ...any) string {
	text, err := v.mustText(key, args...)
	if err != nil {
		return key
	}
	return text
}

// textOr returns a text, or key if there is none.
func (v *views) textOr(key string) string {
	if text, ok := v.texts[key]; ok {
		return text
	}
	return key
}

func (v *views) mustText(key string, args ...any) (string, error) {
	text, ok := v.texts[key]
	if !ok {
		return "", fmt.Errorf("there is no text %s", key)
	}
	if len(args) == 0 {
		return text, nil
	}
	return fmt.Sprintf(text, args...), nil
}

// count returns the text key.one or key.many with a number.
func (v *views) count(key string, n any) (string, error) {
	number := fmt.Sprint(n)
	if number == "1" {
		return v.mustText(key + ".one")
	}
	if i, ok := n.(int64); ok {
		number = humanize.Comma(i)
	}
	return v.mustText(key+".many", number)
}

// short returns the beginning of a digest, by which people tell some apart.
func short(d any) string {
	const shown = 12
	whole := fmt.Sprint(d)
	algorithm, encoded, _ := strings.Cut(whole, ":")
	if len(encoded) <= shown {
		return whole
	}
	return algorithm + ":" + encoded[:shown] + "…"
}

// hexDigits are those of a digest in a name, of which people read the first.
var hexDigits = regexp.MustCompile(`([0-9a-f]{12})[0-9a-f]{52,}`)

// blobsShown is how many blobs of a plan a page has.
const blobsShown = 200

func first(all []gc.Blob) []gc.Blob { return all[:min(len(all), blobsShown)] }

// fullness returns the kind of the bar of a file system.
func fullness(s api.Space) string {
	switch {
	case s.Free < s.Kept:
		return "danger"
	case s.Free < s.Total/10:
		return "warning"
	}
	return ""
}

// begin returns the first n characters of a text.
func begin(text string, n int) string {
	if all := []rune(text); len(all) > n {
		return string(all[:n]) + "…"
	}
	return text
}

// dict makes the argument of a template of names and values.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict has %d arguments", len(pairs))
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// findingText returns what was found, with what it is about.
func findingText(f finding.Finding) string {
	if f.Check == "trouble" {
		return f.Text
	}
	return strings.TrimSpace(f.Check+" "+f.Subject) + ": " + f.Text
}

// has reports whether a page has a block of that name.
func (v *views) has(name, block string) bool {
	t, err := v.page(name)
	return err == nil && block != "" && t.Lookup(block) != nil
}

// render writes a block of a page.
func (v *views) render(out io.Writer, name, block string, data any) error {
	t, err := v.page(name)
	if err != nil {
		return err
	}
	return t.ExecuteTemplate(out, block, data)
}
