package oci

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// checkRange refuses a Range header that asks for nothing that there is, or that nobody understands.
// Of several ranges one that there is suffices, as RFC 9110 has it. Serving them is net/http's business.
func checkRange(header string, size int64) error {
	if header == "" {
		return nil
	}
	unsatisfiable := &problem{status: http.StatusRequestedRangeNotSatisfiable, code: codeSizeInvalid,
		message: fmt.Sprintf("the blob has %d bytes: no such range: %.200q", size, header),
		header:  map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", size)}}
	specs, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return unsatisfiable
	}
	some := false
	for spec := range strings.SplitSeq(specs, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue // a list may have empty elements
		}
		start, ok := rangeStart(spec, size)
		if !ok {
			return unsatisfiable
		}
		some = some || start < size
	}
	if !some {
		return unsatisfiable
	}
	return nil
}

// rangeStart is the first byte that one range asks for, of size bytes; not ok if it is no range.
func rangeStart(spec string, size int64) (int64, bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return 0, false
	}
	first, last = strings.Trim(first, " \t"), strings.Trim(last, " \t")
	if first == "" { // the last so many
		n, ok := parseDecimal(last)
		return max(size-n, 0), ok && n > 0
	}
	start, ok := parseDecimal(first)
	if !ok || last == "" {
		return start, ok
	}
	end, ok := parseDecimal(last)
	return start, ok && start <= end
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
