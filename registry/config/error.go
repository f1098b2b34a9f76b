package config

import (
	"errors"
	"io/fs"
	"strconv"
)

// Error is a complaint about a configuration file, one at a time: the first in the file.
type Error struct {
	File    string // as it was given to Load or Parse
	Line    int    // 0 if the complaint is not about a line
	Key     string // such as tls.certificate or upstreams[1].prefix; "" if about no key
	Problem string
	hint    string
	err     error
}

func (e *Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where += ":" + strconv.Itoa(e.Line)
	}
	if e.Key != "" {
		where += ": " + e.Key
	}
	return where + ": " + e.Problem
}

// Hint says what to do about it.
func (e *Error) Hint() string { return e.hint }

// Unwrap gives the operating system's error, if there was one.
func (e *Error) Unwrap() error { return e.err }

func unreadable(file string, err error) *Error {
	e := &Error{File: file, Problem: "the configuration cannot be read: " + reason(err), err: err,
		hint: "run as the user that the registry was installed as, or as root"}
	if errors.Is(err, fs.ErrNotExist) {
		e.Problem = "there is no such configuration file"
		e.hint = "name the file with --config or the install directory with --quayRoot; 'appliance install' creates both"
	}
	return e
}

// reason leaves out the operation and the path, which the message has already.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
