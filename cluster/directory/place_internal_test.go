package directory

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A network share may not exchange two names: then the old directory goes aside for a moment, and comes
// back if the new one cannot have its name.
func TestPlace_withoutAnExchange(t *testing.T) {
	for name, test := range map[string]struct {
		made  bool
		fails error
		want  string
	}{
		"it is replaced":            {true, unix.EINVAL, "new"},
		"it comes back":             {false, unix.ENOSYS, "old"},
		"another error is an error": {true, unix.EACCES, "old"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			tmp, dir := filepath.Join(parent, ".new"), filepath.Join(parent, "dir")
			dirs := map[string]string{dir: "old"}
			if test.made {
				dirs[tmp] = "new"
			}
			for path, text := range dirs {
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(path, "text"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := place(tmp, dir, true, func(string, string) error { return test.fails })
			text, read := os.ReadFile(filepath.Join(dir, "text"))
			if string(text) != test.want || (err == nil) != (test.want == "new") {
				t.Errorf("it is %q after %v, %v", text, err, read)
			}
			if entries, _ := os.ReadDir(parent); test.want == "new" && len(entries) != 1 {
				t.Errorf("there are %v", entries)
			}
		})
	}
}
