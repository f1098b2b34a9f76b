package main_test

import (
	"bufio"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestDocsCommand(t *testing.T) {
	program, err := exec.LookPath("appliance")
	must(t, err)
	code, stdout, stderr := outcome(t, exec.Command(program, "docs"))
	if code != 0 || !strings.Contains(stdout, "operate      Operate\n") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if _, stdout, _ = outcome(t, exec.Command(program, "docs", "operate")); !strings.HasPrefix(stdout, "# Operate\n") {
		t.Errorf("it prints %.200s", stdout)
	}
	for want, args := range map[string][]string{
		`there is no page "nothing"`:        {"docs", "nothing"},
		`there is no page "../go"`:          {"docs", "../go"},
		"is not an address of this host al": {"docs", "--serve", "0.0.0.0:0"},
		"is not an address with a port":     {"docs", "--serve", ""},
		"leave the topic out":               {"docs", "operate", "--serve", "localhost:0"},
	} {
		if code, _, stderr := outcome(t, exec.Command(program, args...)); code != 1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "hint: ") {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}

	c := exec.Command(program, "docs", "--serve", "127.0.0.1:0")
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	resp, err := http.Get(regexp.MustCompile(`http://\S+/`).FindString(line) + "install.md")
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	if !strings.Contains(string(text), "<title>Install and uninstall</title>") {
		t.Errorf("%s serves %.300s", line, text)
	}
	must(t, c.Process.Signal(syscall.SIGTERM))
	if err := c.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}
