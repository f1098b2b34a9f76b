package docs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/docs"
)

func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// Every page is served, and each link of a page leads to a page and a heading that exist.
func TestHandler_linksLeadSomewhere(t *testing.T) {
	server := httptest.NewServer(docs.Handler())
	defer server.Close()
	_, index := get(t, server.URL+"/")
	for _, topic := range docs.Topics() {
		if !strings.Contains(index, `<a href="`+topic.Name+`.md">`) || topic.Title == "" {
			t.Errorf("the index lacks %+v", topic)
		}
		status, page := get(t, server.URL+"/"+topic.Name+".md")
		if status != http.StatusOK || !strings.Contains(page, "<h1 ") || strings.Contains(page, "raw HTML omitted") {
			t.Errorf("%s: %d\n%.300s", topic.Name, status, page)
		}
		for _, link := range regexp.MustCompile(`<a href="([^":]*)"`).FindAllStringSubmatch(page, -1) {
			file, heading, _ := strings.Cut(link[1], "#")
			target := page
			if file != "" && file != "/" {
				if status, target = get(t, server.URL+"/"+file); status != http.StatusOK {
					t.Errorf("%s links to %s: %d", topic.Name, link[1], status)
					continue
				}
			}
			if heading != "" && !strings.Contains(target, ` id="`+heading+`"`) {
				t.Errorf("%s links to %s, which has no such heading", topic.Name, link[1])
			}
		}
	}
	if _, page := get(t, server.URL+"/operate.md"); !strings.Contains(page, "<table>") {
		t.Error("tables are not tables")
	}
	for _, path := range []string{"/docs.go", "/nothing", "/..%2fsecret"} {
		if status, _ := get(t, server.URL+path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// What is found leads to a heading that the page has.
func TestSearch(t *testing.T) {
	found := docs.Search("upstream  Answer")
	if len(found) < 2 {
		t.Fatalf("found %+v", found)
	}
	for _, f := range found {
		page, _, err := docs.HTML(f.Name)
		if err != nil || !strings.Contains(page, ` id="`+f.ID+`"`) || f.Heading == "" || f.Excerpt == "" || len(f.Excerpt) > 400 {
			t.Errorf("%+v: %v", f, err)
		}
	}
	for _, query := range []string{"", " ", "zyzzyva", "upstream zyzzyva"} {
		if found := docs.Search(query); len(found) > 0 {
			t.Errorf("%q finds %+v", query, found)
		}
	}
	if all := docs.Sections("operate"); len(all) < 5 || all[0].Level != 1 || docs.Sections("none") != nil {
		t.Errorf("the sections are %+v", all)
	}
}
