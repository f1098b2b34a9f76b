package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// ownCommand is a command of ours as messages write it.
var ownCommand = regexp.MustCompile("(^|[\\s(:;\"'`])" + `((?:sudo )?)appliance (install|uninstall|user|status|gc|verify|scrub|backup|restore|mirror|serve|prepare)\b`)

// typed makes the commands in a message work when they are typed: where this program is not found by its name, as with
// sudo's secure_path of RHEL, which lacks /usr/local/bin, they name its whole path.
func typed(text string) string {
	path := wholePathOf()
	if path == "" {
		return text
	}
	return ownCommand.ReplaceAllString(text, "${1}${2}"+path+" $3")
}

// wholePathOf is wholePath, but in tests.
var wholePathOf = wholePath

// wholePath is where this program lies, empty if its name alone is enough.
func wholePath() string {
	self, err := os.Executable()
	if err != nil || filepath.Base(self) != "appliance" || filepath.Dir(self) == "/proc/self" {
		return ""
	}
	if found, err := exec.LookPath("appliance"); err == nil && sameFile(found, self) {
		return ""
	}
	return self
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
