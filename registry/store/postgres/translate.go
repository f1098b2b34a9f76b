package postgres

import (
	"database/sql/driver"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// statements are the translated texts. The store has some hundred.
type statements struct{ known sync.Map }

// maxKept bounds the length of a text that is kept: what is made of data is not.
const maxKept = 16 << 10

// statement is a translated text. PostgreSQL refuses parameters without a use: used are the numbers
// of those that have one.
type statement struct {
	text string
	used []int
}

// arguments returns those that the text uses.
func (s *statement) arguments(all []driver.NamedValue) []driver.NamedValue {
	some := make([]driver.NamedValue, 0, len(s.used))
	for i, n := range s.used {
		if n <= len(all) {
			some = append(some, driver.NamedValue{Ordinal: i + 1, Value: all[n-1].Value})
		}
	}
	return some
}

// translate returns the text of the store as PostgreSQL understands it.
func (s *statements) translate(text string) *statement {
	if known, ok := s.known.Load(text); ok {
		return known.(*statement)
	}
	translated := translate(text)
	if len(text) <= maxKept {
		s.known.Store(text, translated)
	}
	return translated
}

var (
	// SQLite joins in the order that CROSS JOIN has, also with a condition. Here join_collapse_limit
	// does that for all joins.
	crossOn = regexp.MustCompile(`CROSS JOIN (\w+(?: \w+)?) ON `)
	indexed = regexp.MustCompile(` (?:NOT INDEXED|INDEXED BY \w+)`)
	// Each subquery needs a name before version 16. One that SQLite's plan is to show without is in a comment.
	named = regexp.MustCompile(`/\* (AS \w+) \*/`)
	globs = regexp.MustCompile(`([\w.?]+) GLOB (\?\d*|'[^']*')`)
)

func translate(text string) *statement {
	text = crossOn.ReplaceAllString(text, "JOIN $1 ON ")
	text = indexed.ReplaceAllString(text, "")
	text = globs.ReplaceAllString(text, "glob($2, $1)")
	text = named.ReplaceAllString(text, "$1")
	text = strings.ReplaceAll(text, "x''", "''::bytea")
	// The values of json_each are texts, and rows of which a statement takes fields.
	if strings.Contains(text, "value ->> ") {
		text = strings.ReplaceAll(text, "json_each(", "json_rows(")
	} else {
		text = strings.ReplaceAll(text, "json_each(", "json_texts(")
	}
	return parameters(text)
}

// parameters writes ? and ?1 as $1, and numbers those that are used.
func parameters(text string) *statement {
	var out strings.Builder
	quote, next := byte(0), 0
	places := map[int]int{} // of the numbers in the text
	var used []int
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '?':
			end := i + 1
			for end < len(text) && text[end] >= '0' && text[end] <= '9' {
				end++
			}
			n, err := strconv.Atoi(text[i+1 : end])
			if err != nil { // a bare one
				next++
				n = next
			}
			if places[n] == 0 {
				used = append(used, n)
				places[n] = len(used)
			}
			out.WriteByte('$')
			out.WriteString(strconv.Itoa(places[n]))
			i = end - 1
			continue
		}
		out.WriteByte(c)
	}
	return &statement{out.String(), used}
}
