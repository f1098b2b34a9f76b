package registry

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/limits"
)

// asked is what /health/instance answers.
func asked(t *testing.T, h http.Handler) (int, instance) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health/instance", nil))
	var a instance
	must(t, json.Unmarshal(w.Body.Bytes(), &a))
	return w.Code, a
}

// TestHealth_takenPlaces notes that places are taken, and calls no service dead for it.
func TestHealth_takenPlaces(t *testing.T) {
	h := &health{
		log:    slog.New(slog.DiscardHandler),
		places: func() []error { return []error{limits.Exhaustion("all 4 places for connections are taken")} },
		checks: []check{{service: "auth", run: func(context.Context) error { return nil }, vital: true}},
	}
	code, a := asked(t, h)
	if code != http.StatusOK || !slices.Equal(a.Data.Notes, []string{"all 4 places for connections are taken"}) {
		t.Errorf("health is %d %+v", code, a)
	}
}

// limited is a process of its own, since the limit of descriptors is the process's.
const limited = "APPLIANCE_TEST_LIMITED"

// TestServer_outOfDescriptors takes all descriptors of a registry while it serves, as another
// program in its place or a leak would: what is open goes on, nothing is called dead, and
// connections that came meanwhile are served afterwards.
func TestServer_outOfDescriptors(t *testing.T) {
	if os.Getenv(limited) != "" {
		serveLimited(t)
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServer_outOfDescriptors$")
	child.Env = append(os.Environ(), limited+"=1")
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	must(t, err)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	defer func() {
		must(t, in.Close())
		if err := child.Wait(); err != nil {
			t.Errorf("the registry did not survive: %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	tell := func(what string) string {
		_, err := io.WriteString(in, what+"\n")
		must(t, err)
		for lines.Scan() {
			if answer, ok := strings.CutPrefix(lines.Text(), "limited: "); ok {
				return answer
			}
		}
		t.Fatalf("%q is not answered: %v", what, lines.Err())
		return ""
	}
	address, ca, _ := strings.Cut(tell("where"), " ")
	pem, err := os.ReadFile(ca)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := func() *http.Client {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "registry.test"}}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	ask := func(c *http.Client) (instance, error) {
		resp, err := c.Get("https://" + address + "/health/instance")
		if err != nil {
			return instance{}, err
		}
		defer resp.Body.Close()
		var a instance
		return a, json.NewDecoder(resp.Body).Decode(&a)
	}
	open := client()
	a, err := ask(open)
	must(t, err)
	if a.StatusCode != http.StatusOK || len(a.Data.Notes) != 0 {
		t.Errorf("at first health is %+v", a)
	}

	for end := time.Now().Add(10 * time.Second); ; {
		tell("take")
		a, err = ask(open)
		must(t, err)
		if len(a.Data.Notes) > 0 || time.Now().After(end) {
			break // else something has closed one meanwhile
		}
	}
	if a.StatusCode != http.StatusOK || len(a.Data.Services) != 6 || !slices.Contains(a.Data.Notes, "no file descriptors are left") {
		t.Errorf("without descriptors health is %+v", a)
	}
	came := make(chan error, 1)
	go func() {
		_, err := ask(client())
		came <- err
	}()
	tell("wait") // until accept has failed for it
	tell("free")
	must(t, <-came)
	if a, err = ask(client()); err != nil || a.StatusCode != http.StatusOK || len(a.Data.Notes) != 0 {
		t.Errorf("afterwards health is %+v, %v", a, err)
	}
}

// serveLimited is a registry that does what it is told over stdin.
func serveLimited(t *testing.T) {
	var was syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 256, Max: was.Max}))
	log := &waitFor{text: "ccept", seen: make(chan struct{})}
	d := openDaemon(t, log)
	d.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := serveDaemon(t, d, func(*limits.Limits) {})
	var taken []*os.File
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer := "done"
		switch lines.Text() {
		case "where":
			answer = s.addr + " " + s.cfg.TLS.CA
		case "take":
			for {
				f, err := os.Open(os.DevNull)
				if err != nil {
					if !errors.Is(err, syscall.EMFILE) {
						t.Fatal(err)
					}
					break
				}
				taken = append(taken, f)
			}
		case "wait":
			<-log.seen
		case "free":
			for _, f := range taken {
				must(t, f.Close())
			}
		}
		fmt.Println("limited: " + answer)
	}
}

// waitFor is a log that closes seen with the first line that has the text.
type waitFor struct {
	text string
	seen chan struct{}
	once sync.Once
}

func (w *waitFor) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) && bytes.Contains(p, []byte("too many open files")) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}
