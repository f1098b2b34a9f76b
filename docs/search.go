package docs

import (
	"regexp"
	"strings"
	"sync"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

// Section is a heading of a page with what is below it, up to the next.
type Section struct {
	Topic
	ID      string // of the heading, in the HTML of the page
	Heading string
	Level   int // 1: the page's title
	text    string
}

// Found is a section that has what was searched for.
type Found struct {
	Section
	Excerpt string // around the first word
}

// maxFound is how many sections an answer has.
const maxFound = 50

// every has the sections of all pages, which are read once.
var every = sync.OnceValue(func() (all []Section) {
	for _, topic := range Topics() {
		source, err := Page(topic.Name)
		if err != nil {
			continue
		}
		all = append(all, sectionsOf(topic, source)...)
	}
	return all
})

func sectionsOf(topic Topic, source []byte) (all []Section) {
	from := 0
	end := func(to int) {
		if len(all) > 0 {
			all[len(all)-1].text = plain(string(source[from:to]))
		}
	}
	for n := markdown.Parser().Parse(text.NewReader(source)).FirstChild(); n != nil; n = n.NextSibling() {
		h, ok := n.(*ast.Heading)
		if !ok || h.Lines().Len() == 0 {
			continue
		}
		line := h.Lines().At(0)
		end(line.Start)
		from = line.Stop
		id, _ := h.AttributeString("id")
		name, _ := id.([]byte)
		all = append(all, Section{Topic: topic, ID: string(name), Heading: plain(string(line.Value(source))), Level: h.Level})
	}
	end(len(source))
	return all
}

var (
	links  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	marks  = regexp.MustCompile("[`*|#]|-{3,}")
	blanks = regexp.MustCompile(`\s+`)
)

// plain returns Markdown as a reader has it in mind: without marks, in one line.
func plain(text string) string {
	return strings.TrimSpace(blanks.ReplaceAllString(marks.ReplaceAllString(links.ReplaceAllString(text, "$1"), " "), " "))
}

// Sections lists the sections of a page.
func Sections(name string) (all []Section) {
	for _, s := range every() {
		if s.Name == name {
			all = append(all, s)
		}
	}
	return all
}

// Search returns the sections that have all words of a query, those with all of them in the heading first.
func Search(query string) (found []Found) {
	words := strings.Fields(strings.ToLower(query))
	if len(words) == 0 {
		return nil
	}
	var others []Found
	for _, s := range every() {
		heading := strings.ToLower(s.Heading)
		switch body := strings.ToLower(s.text); {
		case hasAll(heading, words):
			found = append(found, Found{s, excerpt(s.text, words[0])})
		case hasAll(heading+" "+body, words):
			others = append(others, Found{s, excerpt(s.text, words[0])})
		}
	}
	found = append(found, others...)
	return found[:min(len(found), maxFound)]
}

func hasAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// excerpt returns the surroundings of a word, or the beginning.
func excerpt(text, word string) string {
	const before, after = 60, 180
	at := max(0, strings.Index(strings.ToLower(text), word))
	from, to := max(0, at-before), min(len(text), at+after)
	for from > 0 && text[from-1] != ' ' {
		from--
	}
	for to < len(text) && text[to] != ' ' {
		to++
	}
	part := strings.ToValidUTF8(text[from:to], "")
	if from > 0 {
		part = "… " + part
	}
	if to < len(text) {
		part += " …"
	}
	return part
}
