// Package finding is one thing that was looked at, and whether it is as it should be: what the
// commands that examine an appliance print, a line each, and write as JSON.
package finding

import "fmt"

// Level is how a Finding matters.
type Level string

// The levels. What has Failed does not work, or soon will not.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Failed  Level = "failed"
)

// Finding is one thing that was looked at.
type Finding struct {
	Check   string `json:"check"`   // kind of thing, such as name or certificate
	Subject string `json:"subject"` // the thing: a registry, a release, a file
	Level   Level  `json:"level"`
	Text    string `json:"text"`
	Hint    string `json:"hint,omitempty"` // what to do
}

// Line returns the thing and what there is to tell of it.
func (f Finding) Line() string {
	if f.Subject == "" {
		return f.Text
	}
	return f.Subject + ": " + f.Text
}

// Teller is what takes findings, one by one.
type Teller func(Finding)

// OK tells of a thing that is as it should be.
func (t Teller) OK(check, subject, format string, args ...any) {
	t(Finding{Check: check, Subject: subject, Level: OK, Text: fmt.Sprintf(format, args...)})
}

// Warn tells of a thing that works and is not as it should be, with what to do.
func (t Teller) Warn(check, subject, text, next string) {
	t(Finding{Check: check, Subject: subject, Level: Warning, Text: text, Hint: next})
}

// Fail tells of a thing that does not work, with what to do.
func (t Teller) Fail(check, subject, text, next string) {
	t(Finding{Check: check, Subject: subject, Level: Failed, Text: text, Hint: next})
}
