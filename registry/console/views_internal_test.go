package console

import "testing"

// A page is parsed when it is first shown: what is wrong in one is found here, and not by its first reader.
func TestViews_eachPageIsParsed(t *testing.T) {
	f, err := openStatic()
	if err != nil {
		t.Fatal(err)
	}
	v, err := parseViews(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.pages) < 40 {
		t.Errorf("only %d pages", len(v.pages))
	}
	for name := range v.pages {
		if _, err := v.page(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.page("none"); err == nil {
		t.Error("a page that is not there is parsed")
	}
}
