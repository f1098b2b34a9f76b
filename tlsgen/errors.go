package tlsgen

// Error is a problem that the person who set up the certificates can solve.
type Error struct {
	File    string // the file it is about; "" when none
	Problem string
	Remedy  string
	Err     error // the cause; nil when Problem says it all
}

func (e *Error) Error() string {
	text := e.Problem
	if e.File != "" {
		text = e.File + ": " + text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *Error) Hint() string { return e.Remedy }
