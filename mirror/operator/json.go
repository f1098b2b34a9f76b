package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

func checkJSON(b []byte) error {
	if !json.Valid(b) {
		var v json.RawMessage
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		return errors.New("it is malformed")
	}
	if b[0] != '{' {
		return errors.New("it is not an object")
	}
	return nil
}

// skipSpace, skipValue, eachKey and eachElement walk valid JSON, without a copy and without a
// second check: most of a catalog is skipped.
func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

// skipValue returns the place after the value that begins at i.
func skipValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i, _, _ = stringEnd(b, i+1, false)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}

// span is a part of a value: from its first byte to the one after its last.
type span struct{ from, to int }

// eachKey calls f with each key of the object that b is, and with the place of its value in b.
func eachKey(b []byte, f func(key string, at span)) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return
	}
	for i++; i < len(b); {
		i = skipSpace(b, i)
		if i >= len(b) || b[i] == '}' {
			return
		}
		if b[i] == ',' {
			i++
			continue
		}
		end := skipValue(b, i)
		key := text(b[i:end])
		i = skipSpace(b, end)
		i = skipSpace(b, i+1) // the colon
		end = skipValue(b, i)
		f(key, span{i, end})
		i = end
	}
}

// eachElement calls f with the place in b of each element of the array that b is.
func eachElement(b []byte, f func(at span)) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '[' {
		return
	}
	for i++; i < len(b); {
		i = skipSpace(b, i)
		if i >= len(b) || b[i] == ']' {
			return
		}
		if b[i] == ',' {
			i++
			continue
		}
		end := skipValue(b, i)
		f(span{i, end})
		i = end
	}
}

// text returns the string that b is, "" if it is none.
func text(b []byte) string {
	if len(b) < 2 || b[0] != '"' {
		return ""
	}
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b[1 : len(b)-1])
	}
	var s string
	_ = json.Unmarshal(b, &s)
	return s
}

// stringOf returns the string that b is; null is "".
func stringOf(key string, b []byte) (string, error) {
	if len(b) > 0 && b[0] == '"' || bytes.Equal(b, []byte("null")) {
		return text(b), nil
	}
	return "", fmt.Errorf("%s is not a string", key)
}
