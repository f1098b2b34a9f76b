package support

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// variable reports whether the value of a variable is shown. Those of others are not: their names do
// not tell whether they are secrets.
func variable(name string) bool {
	return slices.Contains([]string{"PATH", "HOME", "LANG", "USER", "LOGNAME", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "HTTP_PROXY",
		"HTTPS_PROXY", "NO_PROXY", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "SSL_CERT_FILE", "SSL_CERT_DIR", "UPDATE_URL_OVERRIDE",
		"TZ"}, strings.ToUpper(name))
}

// variables returns an environment, a line each.
func variables(environ string) string {
	var b strings.Builder
	for one := range strings.SplitSeq(environ, "\x00") {
		name, value, ok := strings.Cut(one, "=")
		if !ok {
			continue
		}
		if !variable(name) {
			value = removed
		}
		fmt.Fprintf(&b, "%s=%s\n", name, value)
	}
	return b.String()
}

var (
	// word is one of a setting of systemd: quotes may begin anywhere in it.
	word = regexp.MustCompile(`(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\\.|[^\s"'\\])+`)
	// setting is Environment= of a unit or of systemctl show.
	setting = regexp.MustCompile(`^\s*Environment\s*=`)
)

// unitVariables returns a unit, or what systemctl shows of it, with the values of the variables that are shown.
func unitVariables(unit string) string {
	var b strings.Builder
	goesOn := false
	for line := range strings.Lines(unit) {
		begin := setting.FindString(line)
		if begin == "" && !goesOn {
			b.WriteString(line)
			continue
		}
		rest := strings.TrimRight(line[len(begin):], "\r\n")
		rest, goesOn = strings.CutSuffix(rest, "\\")
		b.WriteString(begin + assignments(rest))
		if goesOn {
			b.WriteString("\\")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// assignments returns a list of NAME=VALUE with the values that are shown. One whose quotes have no end
// is left out, with all after it.
func assignments(list string) string {
	if strings.Trim(word.ReplaceAllString(list, ""), " \t") != "" {
		return removed
	}
	return word.ReplaceAllStringFunc(list, func(w string) string {
		name, _, ok := strings.Cut(w, "=")
		bare := strings.TrimLeft(name, `"'`)
		if !ok || variable(bare) {
			return w
		}
		return name + "=" + removed + strings.TrimSuffix(name, bare)
	})
}
