package oci

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// usableRange reads a Range header and writes it so that net/http, which serves it, reads the same. "" is all of
// the content: without a header, and for a unit that nobody here knows, as RFC 9110 has it. Of several
// ranges those stay that there are; if there are none, or one that cannot be read, that is an error.
func usableRange(header string, size int64) (string, error) {
	unit, specs, ok := strings.Cut(header, "=")
	if header == "" || ok && !strings.EqualFold(unit, "bytes") {
		return "", nil
	}
	unsatisfiable := &problem{status: http.StatusRequestedRangeNotSatisfiable, code: codeSizeInvalid,
		message: fmt.Sprintf("the blob has %d bytes: no such range: %.200q", size, header),
		header:  map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", size)}}
	var usable []string
	for spec := range strings.SplitSeq(specs, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue // a list may have empty elements
		}
		start, end, ok := readRange(spec, size)
		if !ok {
			return "", unsatisfiable
		}
		if start < size {
			usable = append(usable, fmt.Sprintf("%d-%d", start, end))
		}
	}
	if usable == nil {
		return "", unsatisfiable
	}
	return "bytes=" + strings.Join(usable, ","), nil
}

// readRange is the first and the last byte that one range asks for, of size bytes; not ok if it is no range.
func readRange(spec string, size int64) (start, end int64, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return 0, 0, false
	}
	first, last = strings.Trim(first, " \t"), strings.Trim(last, " \t")
	if first == "" { // the last so many
		n, ok := parseAtMost(last, size)
		return size - n, size - 1, ok
	}
	start, ok1 := parseAtMost(first, size)
	if last == "" {
		return start, size - 1, ok1
	}
	end, ok2 := parseAtMost(last, size)
	return start, min(end, size-1), ok1 && ok2 && start <= end
}

// parseAtMost is parseDecimal for a number of which it is enough to know that it is too large.
func parseAtMost(s string, most int64) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		return most, true
	}
	return min(int64(n), most), err == nil
}

// A span is the part of a blob that a chunk of an upload is.
type span struct{ start, length int64 }

// parseContentRange reads the Content-Range of a chunk. The specification has ^[0-9]+-[0-9]+$; the
// form that HTTP has, bytes 0-9/10, means the same and is accepted as well.
func parseContentRange(header string) (span, error) {
	bad := &problem{status: http.StatusBadRequest, code: codeUploadInvalid, message: fmt.Sprintf("Content-Range %.100q is not of the form 0-1023", header)}
	s, units := strings.CutPrefix(header, "bytes ")
	if units {
		s, _, _ = strings.Cut(s, "/")
	}
	first, last, ok := strings.Cut(s, "-")
	start, ok1 := parseDecimal(first)
	end, ok2 := parseDecimal(last)
	if !ok || !ok1 || !ok2 || start > end || end-start == 1<<63-1 {
		return span{}, bad
	}
	return span{start: start, length: end - start + 1}, nil
}

// parseDecimal accepts digits and nothing else: no sign, no space, no overflow.
func parseDecimal(s string) (int64, bool) {
	if s == "" || strings.ContainsFunc(s, func(c rune) bool { return c < '0' || '9' < c }) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
