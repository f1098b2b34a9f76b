package support

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// removed stands in the place of a secret.
const removed = "[removed]"

// redactor removes secrets from text: values that it was told, wherever they are, and what looks
// like one. It removes too much rather than too little.
type redactor struct {
	known map[string]bool
}

// newRedactor returns one that knows no values.
func newRedactor() *redactor { return &redactor{known: map[string]bool{}} }

// shortest is how long a value must be to be removed wherever it is: a shorter one is in ordinary
// words, too.
const shortest = 4

// learn has a value removed, in the forms in which requests and files have it.
func (r *redactor) learn(secret string) {
	if secret = strings.TrimSpace(secret); len(secret) < shortest {
		return
	}
	quoted, _ := json.Marshal(secret) // a string can be marshalled
	for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret),
		strings.Trim(string(quoted), `"`), base64.StdEncoding.EncodeToString([]byte(secret))} {
		r.known[form] = true
	}
}

// learnFile has removed what is secret in a file: the logins of one that podman login has written, or
// of a pull secret, and otherwise all of it.
func (r *redactor) learnFile(text []byte) {
	var v any
	if json.Unmarshal(text, &v) != nil {
		r.learn(string(text))
		return
	}
	r.learnValues("", v)
}

func (r *redactor) learnValues(key string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, value := range v {
			r.learnValues(k, value)
		}
	case []any:
		for _, value := range v {
			r.learnValues(key, value)
		}
	case string:
		switch strings.ToLower(key) {
		case "auth":
			r.learn(v)
			if login, err := base64.StdEncoding.DecodeString(v); err == nil {
				_, password, _ := strings.Cut(string(login), ":")
				r.learn(password)
			}
		case "password", "identitytoken", "registrytoken", "secret", "token":
			r.learn(v)
		}
	}
}

// learnFrom has the passwords removed that a text has in URLs and as values of variables, wherever
// else they are.
func (r *redactor) learnFrom(text string) {
	for _, m := range inURL.FindAllStringSubmatch(text, -1) {
		_, password, _ := strings.Cut(m[2], ":")
		r.learn(password)
		if plain, err := url.PathUnescape(password); err == nil {
			r.learn(plain)
		}
	}
	for _, re := range []*regexp.Regexp{quotedPair, pair} {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			value, _, _ := strings.Cut(strings.Trim(m[2], `"'`), "&") // of a URL, other parameters follow
			if isSecret(m[1], value) && len(value) >= 8 && strings.ContainsAny(value, "0123456789!#$%&*+/=?@^_~") {
				r.learn(value)
			}
		}
	}
}

// names are parts of the names of variables, keys, flags and headers whose values are secrets.
const names = `(?:passw(?:or)?d|passphrase|pwd|secret|token|api_?-?key|access_?-?key|private_?-?key|credential|creds|session|signature)`

var (
	privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)`)
	// inURL is the login of a URL, which may have @ in it.
	inURL = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^/\s"'<>\\]*)@`)
	// inDatabase is the login of an address of PostgreSQL, also of a mistyped one: without //, or with a / in the password.
	inDatabase = regexp.MustCompile(`(postgres(?:ql)?:/*)([^\s"'<>\\]*)@`)
	// query is a parameter of a URL, in JSON and HTML too.
	query  = regexp.MustCompile(`((?:[?&]|\\u0026|&amp;)([^=&\s"'<>\\]+)=)([^&\s"'<>\\]+)`)
	header = regexp.MustCompile(`(?i)\b((?:set-)?cookie|(?:proxy-)?authorization|x-registry-auth)("?\s*[:=]\s*"?)[^\r\n"]+`)
	scheme = regexp.MustCompile(`(?i)\b(basic|bearer|negotiate)(\s+)([A-Za-z0-9+/_.~=-]{6,})`)
	jwt    = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]+){1,4}`)
	hash   = regexp.MustCompile(`\$(?:2[abxy]?|1|5|6|7|y|gy|argon2\w*)\$[^\s"',:]{8,}`)
	shown  = regexp.MustCompile(`(credentials \([^,()]*, )[^\r\n]*(\))`)
	// quotedPair is NAME=value in quotes, as units have it: the value may have blanks.
	quotedPair = regexp.MustCompile(`(?i)["']([\w.-]*` + names + `[\w.-]*)=([^"'\r\n]+)`)
	pair       = regexp.MustCompile(`(?i)([\w.-]*(?:` + names + `|\bauth)[\w.-]*)["']?\s*[:=]\s*("(?:[^"\\\r\n]|\\.)*"|'[^'\r\n]*'|[^\s,;{}"']+)`)
	flag       = regexp.MustCompile(`(?i)((?:^|[\s"'=])--?[\w-]*(?:` + names + `)[\w-]*)[ =]+("(?:[^"\\\r\n]|\\.)*"|'[^'\r\n]*'|[^\s"']+)`)
	generated  = regexp.MustCompile(`\b[A-Z2-7]{26,}\b`)
	encoded    = regexp.MustCompile(`[A-Za-z0-9+/_-]{40,}={0,2}`)
)

// harmless are parameters of requests that help, and that are no secret.
var harmless = []string{"ns", "n", "last", "scope", "service", "digest", "mount", "from", "channel", "arch",
	"version", "id", "tag", "repository", "artifactType", "tab"}

// text returns a text without secrets.
func (r *redactor) text(text string) string {
	text = privateKey.ReplaceAllString(text, removed)
	values := make([]string, 0, len(r.known))
	for v := range r.known {
		values = append(values, v)
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) }) // the longest first, which may have another in it
	for _, v := range values {
		text = strings.ReplaceAll(text, v, removed)
	}
	text = inDatabase.ReplaceAllString(text, "${1}"+removed+"@")
	text = inURL.ReplaceAllString(text, "${1}"+removed+"@")
	text = replace(query, text, func(m []string) string {
		if slices.Contains(harmless, m[2]) {
			return m[0]
		}
		return m[1] + removed
	})
	text = header.ReplaceAllString(text, "${1}${2}"+removed)
	text = replace(scheme, text, func(m []string) string {
		if strings.ToLower(m[3]) == m[3] && !strings.ContainsAny(m[3], "0123456789=") {
			return m[0] // a word
		}
		return m[1] + m[2] + removed
	})
	text = jwt.ReplaceAllString(text, removed)
	text = hash.ReplaceAllString(text, removed)
	text = shown.ReplaceAllString(text, "${1}"+removed+"${2}")
	for _, re := range []*regexp.Regexp{quotedPair, pair, flag} {
		text = replace(re, text, func(m []string) string {
			value := strings.Trim(m[2], `"'`)
			if !isSecret(m[1], value) {
				return m[0]
			}
			return strings.TrimSuffix(m[0], m[2]) + strings.Replace(m[2], value, removed, 1)
		})
	}
	text = replace(generated, text, func(m []string) string { return ifRandom(m[0], "23456789") })
	return replace(encoded, text, func(m []string) string {
		path := strings.HasPrefix(m[0], "/") && strings.Count(m[0], "/") > 2
		if path || strings.ToUpper(m[0]) == m[0] || strings.ToLower(m[0]) == m[0] {
			return m[0] // or a digest, or a name
		}
		return ifRandom(m[0], "0123456789")
	})
}

// ifRandom returns removed for a word with a digit.
func ifRandom(word, digits string) string {
	if strings.ContainsAny(word, digits) {
		return removed
	}
	return word
}

// isSecret reports whether the value of a name is to be removed: not a path, a switch or a number.
func isSecret(name, value string) bool {
	switch {
	case value == "" || value == "[" || value == removed || strings.HasPrefix(value, removed+"&") || value == "true" || value == "false" || value == "null":
		return false
	case strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".yaml"): // the name of a file, before an error
		return false
	case strings.HasPrefix(value, "/"):
		return strings.Count(value, "/") < 2
	}
	return strings.Trim(value, "0123456789") != "" || len(value) > 5
}

func replace(re *regexp.Regexp, text string, with func(match []string) string) string {
	var b strings.Builder
	last := 0
	for _, at := range re.FindAllStringSubmatchIndex(text, -1) {
		match := make([]string, len(at)/2)
		for i := range match {
			if at[2*i] >= 0 {
				match[i] = text[at[2*i]:at[2*i+1]]
			}
		}
		b.WriteString(text[last:at[0]])
		b.WriteString(with(match))
		last = at[1]
	}
	b.WriteString(text[last:])
	return b.String()
}
