// Package finding is one thing that was looked at, and whether it is as it should be: what the
// commands that examine an appliance print, a line each, and write as JSON.
package finding

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
