package oci

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// usableRange parses a Range header and returns it in a form that net/http parses alike. "" is all
// of the content: without a header, or in unknown units, as RFC 9110 says. Ranges beyond the
// content are dropped; if none remains, or one is malformed, it returns an error.
func usableRange(header string, size int64) (string, error) {
	unit, specs, ok := strings.Cut(header, "=")
	if header == "" || ok && !strings.EqualFold(unit, "bytes") {
		return "", nil
	}
	unsatisfiable := refuse(http.StatusRequestedRangeNotSatisfiable, codeSizeInvalid,
		"the blob has %d bytes: no such range: %.200q", size, header).
		with("Content-Range", fmt.Sprintf("bytes */%d", size))
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

// readRange returns the first and the last byte of one range of size bytes, and false if it is
// malformed.
func readRange(spec string, size int64) (start, end int64, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return 0, 0, false
	}
	first, last = strings.Trim(first, " \t"), strings.Trim(last, " \t")
	if first == "" { // a suffix
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

// parseAtMost is parseDecimal that returns most for larger numbers.
func parseAtMost(s string, most int64) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		return most, true
	}
	return min(int64(n), most), err == nil
}

// A span is the position of a chunk in a blob.
type span struct{ start, length int64 }

// parseContentRange parses the Content-Range of a chunk. The specification has ^[0-9]+-[0-9]+$;
// HTTP's form, bytes 0-9/10, is accepted too.
func parseContentRange(header string) (span, error) {
	bad := refuse(http.StatusBadRequest, codeUploadInvalid, "Content-Range %.100q is not of the form 0-1023", header)
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

// parseDecimal accepts digits only: no sign, no space, no overflow.
func parseDecimal(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}
