package docs

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
)

// Topic is a page of the documentation.
type Topic struct {
	Name  string `json:"name"`  // of its file, without .md
	Title string `json:"title"` // its first heading
}

// Topics lists the pages, by name.
func Topics() (all []Topic) {
	files, _ := fs.ReadDir(Files, ".") // of what is in the program
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".md")
		text, err := Page(name)
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(text), "\n")
		all = append(all, Topic{name, strings.TrimPrefix(first, "# ")})
	}
	return all
}

// Page returns the text of a page, in Markdown.
func Page(name string) ([]byte, error) { return Files.ReadFile(name + ".md") }

// Handler serves the pages as HTML, under the names of their files: links between them work as they
// are written.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		var list strings.Builder
		for _, t := range Topics() {
			fmt.Fprintf(&list, "<li><a href=\"%s.md\">%s</a></li>\n", t.Name, html.EscapeString(t.Title))
		}
		write(w, "Documentation", "<h1>Documentation</h1>\n<ul>\n"+list.String()+"</ul>\n")
	})
	mux.HandleFunc("GET /{file}", func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimSuffix(r.PathValue("file"), ".md")
		body, title, err := HTML(name)
		if errors.Is(err, fs.ErrNotExist) {
			http.NotFound(w, r)
			return
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		write(w, title, "<p><a href=\"/\">All pages</a></p>\n"+body)
	})
	return mux
}

// HTML returns a page as HTML, and its title. What of it is HTML already is left out. The error of a page that
// there is not is fs.ErrNotExist.
func HTML(name string) (body, title string, err error) {
	i := slices.IndexFunc(Topics(), func(t Topic) bool { return t.Name == name })
	if i < 0 {
		return "", "", fs.ErrNotExist
	}
	body, err = render(name)
	return body, Topics()[i].Title, err
}

// markdown reads the pages. Sections are found by the same, so that links lead to their headings.
var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))

// render returns a page as HTML. The library leaves out HTML unless it is told otherwise.
func render(name string) (string, error) {
	text, err := Page(name)
	if err != nil {
		return "", err
	}
	var body bytes.Buffer
	err = markdown.Convert(text, &body)
	return body.String(), err
}

const style = `body { max-width: 60em; margin: 2em auto; padding: 0 1em; font: 16px/1.5 sans-serif; }
pre, code { background: #f3f3f3; font-size: 14px; } pre { padding: .7em; overflow-x: auto; }
table { border-collapse: collapse; } td, th { border: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top; }`

func write(w http.ResponseWriter, title, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	fmt.Fprintf(w, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s</title>\n<style>%s</style></head>\n<body>\n%s</body></html>\n",
		html.EscapeString(title), style, body)
}
