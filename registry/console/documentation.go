package console

import (
	"errors"
	"html/template"
	"io/fs"
	"strings"

	"github.com/mirror-appliance/appliance/docs"
)

// documentationPage lists the pages, or what a search has found in them.
type documentationPage struct {
	Topics []docs.Topic
	Query  string
	Found  []docs.Found
}

// maxQuery is how much of a query is searched for.
const maxQuery = 200

func (v *visit) documentation() error {
	query := strings.TrimSpace(v.r.URL.Query().Get("q"))
	query = strings.ToValidUTF8(query[:min(len(query), maxQuery)], "")
	return v.show("documentation", "documentation", "documentation.title", documentationPage{docs.Topics(), query, docs.Search(query)})
}

// documentPage is a page of the documentation, as HTML, with its sections.
type documentPage struct {
	HTML     template.HTML
	Sections []docs.Section
}

func (v *visit) document() error {
	name := strings.TrimSuffix(v.r.PathValue("file"), ".md")
	html, title, err := docs.HTML(name)
	if errors.Is(err, fs.ErrNotExist) {
		return v.notFound()
	}
	if err != nil {
		return err
	}
	// It is made of the program's own pages, without HTML that they may have.
	// What scrolls by itself has to be reached by the keyboard.
	html = strings.ReplaceAll(html, "<pre>", `<pre tabindex="0">`)
	html = strings.ReplaceAll(html, "<table>", `<table tabindex="0">`)
	return v.show("document", "documentation", title, documentPage{template.HTML(html), docs.Sections(name)})
}
