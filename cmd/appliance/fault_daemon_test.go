package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

const faultPassword = "long-enough"

// patience is how long the tests wait for what must happen; none of them measures time by it.
const patience = 30 * time.Second

// faulty is an install directory with a daemon on it, a process of its own that tests kill. The
// daemon is handed its socket as systemd does, so a client that comes between two daemons is
// answered by the second.
type faulty struct {
	program string
	root    string
	cfg     *config.Config
	as      *syscall.Credential // nil: whoever runs the test
	socket  *os.File
	http    *http.Client
	admin   *client.Client
	process *exec.Cmd       // nil while none runs
	gone    <-chan struct{} // closed when that has ended
	said    *said           // by the one that runs, or ran last
	logged  bool            // with an access log
	objects string          // directory of what the bucket has; "": blobs are files
}

// newFaulty prepares a directory. parent "" is a temporary one.
func newFaulty(t *testing.T, parent string) *faulty {
	t.Helper()
	program, err := exec.LookPath("appliance") // this test's binary, by another name: see TestMain
	must(t, err)
	if parent == "" {
		parent, err = os.MkdirTemp("", "fault") // shorter than t.TempDir, since a socket will be in it
		must(t, err)
		t.Cleanup(func() { must(t, os.RemoveAll(parent)) })
	}
	f := &faulty{program: program, root: filepath.Join(parent, "root")}
	if out, err := f.command("prepare", "--quayHostname", "localhost:8443").CombinedOutput(); err != nil {
		t.Fatalf("prepare: %v\n%s", err, out)
	}
	text, err := os.ReadFile(config.Path(f.root))
	must(t, err)
	f.cfg, err = config.Parse("config.yaml", text)
	must(t, err)
	f.cfg.Listen = "127.0.0.1:0" // for a daemon that should have been refused
	f.cfg.MinFree = 0            // what the default keeps free is more than small disks have
	text, err = f.cfg.Marshal()
	must(t, err)
	must(t, os.WriteFile(config.Path(f.root), text, 0o644))
	f.listen(t)
	f.http = f.client(t, f.socket.Name())
	f.admin = client.NewUnix(f.cfg.ControlSocket)
	t.Cleanup(func() {
		f.http.CloseIdleConnections()
		f.admin.Close()
		f.kill()
	})
	return f
}

// client returns a client that reaches an address under every name, and trusts the CA.
func (f *faulty) client(t *testing.T, address string) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(f.cfg.TLS.CA)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 64,
	}}
}

// listen makes the socket that each daemon is handed.
func (f *faulty) listen(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	must(t, err)
	defer file.Close()
	fd, err := syscall.Dup(int(file.Fd())) // under a name that says the address
	must(t, err)
	syscall.CloseOnExec(fd)
	f.socket = os.NewFile(uintptr(fd), l.Addr().String())
	t.Cleanup(func() { f.socket.Close() })
}

// command is one of the program's, on this directory.
func (f *faulty) command(args ...string) *exec.Cmd {
	if f.root != "" {
		args = append(args, "--quayRoot", f.root)
	}
	c := exec.Command(f.program, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: f.as}
	c.WaitDelay = patience
	return c
}

// daemon is the command of a daemon.
func (f *faulty) daemon() *exec.Cmd {
	serve := f.command("serve", fmt.Sprintf("--no-access-log=%t", !f.logged))
	// Only the process itself knows the number that LISTEN_PID must have.
	c := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`}, serve.Args...)...)
	c.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=https")
	c.ExtraFiles = []*os.File{f.socket}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: f.as, Pdeathsig: syscall.SIGKILL}
	f.said = &said{}
	c.Stdout, c.Stderr = f.said, f.said
	return c
}

// serve starts a daemon.
func (f *faulty) serve(t *testing.T) {
	t.Helper()
	c := f.daemon()
	must(t, c.Start())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = c.Wait() // its state is in c
	}()
	f.process, f.gone = c, gone
}

// start starts a daemon, waits until it answers, and says how long that took.
func (f *faulty) start(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	f.serve(t)
	f.awaitsAnswer(t)
	return time.Since(began)
}

// awaitsAnswer waits until the daemon answers.
func (f *faulty) awaitsAnswer(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	gone := f.gone
	go func() { // one that has ended will never answer
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	if a, err := f.ask(ctx, http.MethodGet, "/v2/", nil); err != nil || a.status != http.StatusOK && a.status != http.StatusUnauthorized {
		t.Fatalf("the daemon answers %d, %v; it said:\n%s", a.status, err, f.said)
	}
}

// quickHash returns the hash of faultPassword that a computer makes and checks fastest.
func quickHash(t *testing.T) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(faultPassword), bcrypt.MinCost)
	must(t, err)
	return string(hash)
}

// begin starts the first daemon, and makes the user that the tests are.
func (f *faulty) begin(t *testing.T) {
	t.Helper()
	f.start(t)
	_, err := f.admin.CreateUser(t.Context(), api.NewUser{Name: "init", Role: "admin", PasswordHash: quickHash(t)})
	must(t, err)
}

// kill ends the daemon, if one runs, as a power cut would.
func (f *faulty) kill() {
	if f.process == nil {
		return
	}
	_ = f.process.Process.Kill()
	f.wait()
}

// stop lets the daemon end, and expects it to end well.
func (f *faulty) stop(t *testing.T) {
	t.Helper()
	f.http.CloseIdleConnections()
	f.admin.Close()
	must(t, f.process.Process.Signal(syscall.SIGTERM))
	process := f.process
	f.wait()
	if !process.ProcessState.Success() {
		t.Errorf("the daemon ended with %s; it said:\n%s", process.ProcessState, f.said)
	}
}

func (f *faulty) wait() {
	<-f.gone
	f.process = nil
	f.http.CloseIdleConnections()
}

// refuses runs a command that must fail with one message that has all of texts in it.
func (f *faulty) refuses(t *testing.T, args []string, texts ...string) {
	t.Helper()
	c := f.command(args...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	must(t, c.Start())
	defer context.AfterFunc(ctx, func() { _ = c.Process.Kill() })()
	err := c.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v ended with %v:\n%s%s", args, err, &stdout, &stderr)
	}
	out := stderr.String()
	if strings.Count(out, "error: ") != 1 || strings.Count(out, "hint: ") != 1 || strings.Contains(out, "goroutine ") {
		t.Errorf("%v does not say one error with one hint:\n%s", args, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%v does not say %q:\n%s", args, text, out)
		}
	}
}

// open opens the store, which no daemon may have.
func (f *faulty) open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Database: f.cfg.Database, Storage: f.cfg.Storage, Credentials: f.cfg.StorageCredentials})
	must(t, err)
	return s
}

// verify opens the store, which no daemon may have, and verifies all of it.
func (f *faulty) verify(t *testing.T) {
	t.Helper()
	s := f.open(t)
	defer func() { must(t, s.Close()) }()
	report, err := s.Integrity().Verify(t.Context(), store.VerifyOptions{Content: true})
	must(t, err)
	for _, p := range report.Problems {
		t.Errorf("verify: %s", p)
	}
}

// answer is what the daemon answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// refusal is an answer that was not hoped for.
type refusal struct {
	what string
	answer
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %d %.600s", r.what, r.status, r.body) }

// ask sends one request. path may be a Location.
func (f *faulty) ask(ctx context.Context, method, path string, body io.Reader, header ...string) (answer, error) {
	target, err := (&url.URL{Scheme: "https", Host: "localhost:8443"}).Parse(path)
	if err != nil {
		return answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return answer{}, err
	}
	r.SetBasicAuth("init", faultPassword)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := f.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, content}, err
}

// demand is ask for one status; any other is a *refusal.
func (f *faulty) demand(ctx context.Context, want int, method, path string, body io.Reader, header ...string) (answer, error) {
	a, err := f.ask(ctx, method, path, body, header...)
	if err == nil && a.status != want {
		err = &refusal{fmt.Sprintf("%s %s", method, path), a}
	}
	return a, err
}

// pushBlob pushes a blob in two chunks, as podman sends them, unless it is there.
func (f *faulty) pushBlob(ctx context.Context, repo string, content []byte) error {
	d := digest.FromBytes(content)
	if a, err := f.ask(ctx, http.MethodHead, "/v2/"+repo+"/blobs/"+d.String(), nil); err != nil || a.status == http.StatusOK {
		return err
	}
	a, err := f.demand(ctx, http.StatusAccepted, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	half := len(content) / 2
	for _, chunk := range [][]byte{content[:half], content[half:]} {
		// Of no announced length, which makes it Transfer-Encoding: chunked.
		a, err = f.demand(ctx, http.StatusAccepted, http.MethodPatch, a.header.Get("Location"), struct{ io.Reader }{bytes.NewReader(chunk)})
		if err != nil {
			return err
		}
	}
	_, err = f.demand(ctx, http.StatusCreated, http.MethodPut, withDigest(a.header.Get("Location"), d), nil)
	return err
}

func withDigest(location string, d digest.Digest) string {
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	return location + separator + "digest=" + url.QueryEscape(d.String())
}

// testImage is an image with all of its bytes.
type testImage struct {
	repo, tag string
	digest    digest.Digest
	body      []byte
	blobs     map[digest.Digest]int // sizes
	contents  [][]byte
}

const imageType = "application/vnd.oci.image.manifest.v1+json"

func newTestImage(repo, tag string, layers ...[]byte) *testImage {
	configuration := fmt.Appendf(nil, `{"image":%q}`, repo+":"+tag)
	m := &testImage{repo: repo, tag: tag, blobs: map[digest.Digest]int{}, contents: append(slices.Clip(layers), configuration)}
	descriptor := func(mediaType string, content []byte) string {
		d := digest.FromBytes(content)
		m.blobs[d] = len(content)
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, d, len(content))
	}
	var list []string
	for _, l := range layers {
		list = append(list, descriptor("application/vnd.oci.image.layer.v1.tar+gzip", l))
	}
	m.body = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`,
		imageType, descriptor("application/vnd.oci.image.config.v1+json", configuration), strings.Join(list, ","))
	m.digest = digest.FromBytes(m.body)
	return m
}

func (m *testImage) path() string { return "/v2/" + m.repo + "/manifests/" }

// push pushes an image whole.
func (f *faulty) push(ctx context.Context, m *testImage) error {
	for _, content := range m.contents {
		if err := f.pushBlob(ctx, m.repo, content); err != nil {
			return err
		}
	}
	_, err := f.demand(ctx, http.StatusCreated, http.MethodPut, m.path()+m.tag, bytes.NewReader(m.body), "Content-Type", imageType)
	return err
}

// pull pulls an image whole. An image that is not there is not whole, and no error.
func (f *faulty) pull(ctx context.Context, m *testImage) (whole bool, err error) {
	a, err := f.ask(ctx, http.MethodGet, m.path()+m.digest.String(), nil)
	if err != nil || a.status == http.StatusNotFound {
		return false, err
	}
	if a.status != http.StatusOK || !bytes.Equal(a.body, m.body) {
		return false, &refusal{"GET manifest " + m.digest.String(), a}
	}
	for d, size := range m.blobs {
		a, err := f.ask(ctx, http.MethodGet, "/v2/"+m.repo+"/blobs/"+d.String(), nil)
		if err != nil {
			return false, err
		}
		if a.status != http.StatusOK || len(a.body) != size || digest.FromBytes(a.body) != d {
			return false, fmt.Errorf("blob %s of %s: %d, %d bytes of %d, hashing to %s", d, m.tag, a.status, len(a.body), size, digest.FromBytes(a.body))
		}
	}
	return true, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// said is what a process said, to be read while it speaks.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
