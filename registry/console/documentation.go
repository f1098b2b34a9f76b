package console

import (
	"errors"
	"html/template"
	"io/fs"
	"strings"

	"github.com/mirror-appliance/appliance/docs"
)

func (v *visit) documentation() error {
	return v.show("documentation", "documentation", "documentation.title", docs.Topics())
}

// documentPage is a page of the documentation, as HTML.
type documentPage struct{ HTML template.HTML }

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
	return v.show("document", "documentation", title, documentPage{template.HTML(html)})
}
