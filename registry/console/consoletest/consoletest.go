// Package consoletest is what the tests of several packages need to act as a browser of the console.
//
// Use CSRF for the field that each form of a page has to send.
package consoletest

import "strings"

// CSRF returns the value by which forms of a page are of its session, "" if the page has no form.
func CSRF(page string) string {
	_, rest, _ := strings.Cut(page, `name="csrf" value="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
