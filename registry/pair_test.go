package registry_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

// one of a pair listens at the address that its configuration has.
type one struct {
	*running
	cfg   *config.Config
	roots *x509.CertPool
}

// newOne starts an appliance with users of its own.
func newOne(t *testing.T, change ...func(*config.Config)) *one {
	t.Helper()
	cfg, roots := configure(t)
	for _, c := range change {
		c(cfg)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	cfg.Hostname, cfg.Port = "localhost", l.Addr().(*net.TCPAddr).Port
	o := &one{cfg: cfg, roots: roots}
	o.running = runOn(t, cfg, roots, l)
	o.users(t)
	return o
}

// again starts it after its end.
func (o *one) again(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(o.cfg.Port))
	must(t, err)
	o.running = runOn(t, o.cfg, o.roots, l)
}

func (o *one) address() string { return o.cfg.Address() }

// asks is what follows o.
func (o *one) asks(t *testing.T) api.FollowRequest {
	t.Helper()
	ca, err := os.ReadFile(o.cfg.TLS.CA)
	must(t, err)
	return api.FollowRequest{Address: o.address(), User: "admin", Password: password, CA: string(ca)}
}

func (o *one) follows(t *testing.T, first *one) {
	t.Helper()
	_, err := o.admin.Follow(t.Context(), first.asks(t))
	must(t, err)
	o.await(t, func(s api.Status) bool { return s.Following != nil && s.Following.CaughtUp })
	first.seesEqual(t, o)
}

// seesEqual returns once o takes a follower for equal, which tells it when it asks for more.
func (o *one) seesEqual(t *testing.T, follower *one) {
	t.Helper()
	o.await(t, func(api.Status) bool {
		all, err := o.admin.Followers(t.Context())
		must(t, err)
		i := slices.IndexFunc(all, func(f api.Follower) bool { return f.Address == follower.address() })
		return i >= 0 && all[i].Changes == 0 && !all[i].Listing && !all[i].Relist
	})
}

// await polls the status.
func (o *one) await(t *testing.T, ok func(api.Status) bool) api.Status {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s, err := o.admin.Status(t.Context())
		must(t, err)
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("the status stays: family %+v, following %+v\n%s", s.Family, s.Following, o.log)
		}
	}
}

func (o *one) ref(t *testing.T, s string) name.Tag {
	t.Helper()
	ref, err := name.NewTag(o.address() + "/" + s)
	must(t, err)
	return ref
}

func (o *one) push(t *testing.T, at string) error {
	img, err := random.Image(256, 1)
	must(t, err)
	return remote.Write(o.ref(t, at), img, o.remote(t, "push", password)...)
}

func (o *one) has(t *testing.T, at string) bool {
	t.Helper()
	_, err := remote.Image(o.ref(t, at), o.remote(t, "pull", password)...)
	var answer *transport.Error
	if err != nil && (!errors.As(err, &answer) || answer.StatusCode != http.StatusNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// refused asserts that a push is refused as clients show it.
func (o *one) refuses(t *testing.T, text string) {
	t.Helper()
	err := o.push(t, "refused:v1")
	var answer *transport.Error
	if !errors.As(err, &answer) || answer.StatusCode != http.StatusForbidden || !strings.Contains(err.Error(), "DENIED") || !strings.Contains(err.Error(), text) {
		t.Errorf("a push is answered %v", err)
	}
}

func (o *one) mustBe(t *testing.T, role string) api.Status {
	t.Helper()
	s, err := o.admin.Status(t.Context())
	must(t, err)
	if s.Family.Role != role {
		t.Errorf("%s is %s, want %s", o.address(), s.Family.Role, role)
	}
	return s
}

func TestPair_switched(t *testing.T) {
	first, second := newOne(t), newOne(t)
	must(t, first.push(t, "app:v1"))
	second.follows(t, first)
	if !second.has(t, "app:v1") {
		t.Error("the follower lacks what the first has")
	}
	second.refuses(t, "this appliance follows https://"+first.address()+" and is read-only")
	t.Run("the control API of a follower", func(t *testing.T) {
		_, err := second.admin.BeginSync(t.Context(), "x")
		var answer *client.Refused
		if !errors.As(err, &answer) || answer.Status != http.StatusConflict || !strings.Contains(answer.Hint(), "appliance promote") {
			t.Errorf("a run is answered %v", err)
		}
		_, err = second.admin.GC(t.Context(), api.GCRequest{}, nil)
		must(t, err)
		_, err = second.admin.CreateUser(t.Context(), api.NewUser{Name: "local", Role: "pull", Password: password})
		must(t, err)
	})
	t.Run("what it tells of itself", func(t *testing.T) {
		s := second.mustBe(t, "follower")
		var told []string
		s.Examine(time.Now(), func(f finding.Finding) { told = append(told, fmt.Sprint(f)) })
		if all := strings.Join(told, "\n"); !strings.Contains(all, "https://"+first.address()) {
			t.Errorf("doctor tells\n%s", all)
		}
		_, body := second.as(t, "pull", http.MethodGet, "/metrics")
		for _, want := range []string{`appliance_family_role{role="follower"} 1`, "appliance_follow_caught_up 1", "appliance_follow_pending_changes 0"} {
			if !strings.Contains(body, want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
		_, body = first.as(t, "pull", http.MethodGet, "/metrics")
		if want := `appliance_follower_pending_changes{follower="` + second.address() + `"} 0`; !strings.Contains(body, want) {
			t.Errorf("the metrics of the first lack %s", want)
		}
	})
	var mu sync.Mutex
	var acknowledged []string
	var pushers sync.WaitGroup
	going := make(chan struct{}, 2)
	for p := range 2 {
		pushers.Go(func() {
			for i := 0; ; i++ {
				at := fmt.Sprintf("app:p%d-%d", p, i)
				if err := first.push(t, at); err != nil {
					if !strings.Contains(err.Error(), "DENIED") {
						t.Errorf("a push ends with %v", err)
					}
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, at)
				mu.Unlock()
				if i == 2 {
					going <- struct{}{}
				}
			}
		})
	}
	<-going
	<-going
	done, err := second.admin.Promote(t.Context(), api.PromoteRequest{}, nil)
	must(t, err)
	pushers.Wait()
	if done.Family.Generation != 2 || done.Forced != "" {
		t.Errorf("promoted: %+v", done)
	}
	for _, at := range acknowledged {
		if !second.has(t, at) {
			t.Errorf("%s was acknowledged by the first, and is lost", at)
		}
	}
	first.mustBe(t, "superseded")
	first.refuses(t, "https://"+second.address()+" has taken its place")
	must(t, second.push(t, "app:v2"))
	first.follows(t, second)
	if !first.has(t, "app:v2") {
		t.Error("the former first lacks what the new one has had since")
	}
	if left, err := first.admin.Followers(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("the one that is followed is still a follower: %+v, %v", left, err)
	}
	for _, o := range []*one{first, second} {
		if log := o.log.String() + o.access.String(); strings.Contains(log, password) {
			t.Error("a log has the password")
		}
		if s := fmt.Sprintf("%+v", o.mustBe(t, map[*one]string{first: "follower", second: "primary"}[o])); strings.Contains(s, password) {
			t.Error("the status has the password")
		}
	}
	if all := strings.Join(second.audited(t, api.AuditRequest{}), "\n"); !strings.Contains(all, "follows") || !strings.Contains(all, "promoted") || strings.Contains(all, password) {
		t.Errorf("the audit has\n%s", all)
	}
}

// countedUpstream returns the address of an upstream that has nothing, and how often it is asked.
func countedUpstream(t *testing.T) (address string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/v2/" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(upstream.Close)
	return upstream.URL, asked
}

// A follower asks no upstream: the first decides what there is.
func TestPair_pullThrough(t *testing.T) {
	upstream, asked := countedUpstream(t)
	first, second := newOne(t), newOne(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream}} })
	pulls := func(want int) {
		t.Helper()
		if code, body := second.as(t, "pull", http.MethodGet, "/v2/up/app/manifests/v1"); code != want {
			t.Errorf("a pull is answered %d %s", code, body)
		}
	}
	second.follows(t, first)
	pulls(http.StatusForbidden)
	_, err := second.admin.SetOffline(t.Context(), true)
	must(t, err)
	_, err = second.admin.SetOffline(t.Context(), false) // which does not end what the role holds
	must(t, err)
	pulls(http.StatusForbidden)
	if n := asked.Load(); n != 0 {
		t.Errorf("the upstream of a follower is asked %d times", n)
	}
	_, err = second.admin.Promote(t.Context(), api.PromoteRequest{}, nil)
	must(t, err)
	pulls(http.StatusNotFound)
	if asked.Load() == 0 {
		t.Error("the upstream of a primary is not asked")
	}
}

func TestPair_firstIsGone(t *testing.T) {
	first, second := newOne(t), newOne(t)
	must(t, first.push(t, "app:v1"))
	second.follows(t, first)
	second.end(t)
	must(t, first.push(t, "late:v1"))
	first.end(t)
	second.again(t)
	_, err := second.admin.Promote(t.Context(), api.PromoteRequest{}, nil)
	var answer *client.Refused
	if !errors.As(err, &answer) || !strings.Contains(err.Error(), "last equal to it at") || !strings.Contains(answer.Hint(), "appliance promote --force") {
		t.Fatalf("without force: %v", err)
	}
	second.mustBe(t, "follower")
	done, err := second.admin.Promote(t.Context(), api.PromoteRequest{Force: true}, nil)
	must(t, err)
	if len(done.Family.Untold) != 1 || done.Forced == "" {
		t.Errorf("with force: %+v", done)
	}
	must(t, second.push(t, "app:v2"))

	first.again(t)
	first.refuses(t, "https://"+second.address()+" has taken its place")
	first.mustBe(t, "superseded")
	if !first.has(t, "late:v1") {
		t.Error("it does not serve what it has")
	}
	second.await(t, func(s api.Status) bool { return len(s.Family.Untold) == 0 })

	_, err = first.admin.Follow(t.Context(), second.asks(t))
	if err == nil || !strings.Contains(err.Error(), "late:v1") {
		t.Fatalf("without force it follows: %v", err)
	}
	q := second.asks(t)
	q.Force = true
	_, err = first.admin.Follow(t.Context(), q)
	must(t, err)
	first.await(t, func(s api.Status) bool { return s.Following != nil && s.Following.CaughtUp })
	if first.has(t, "late:v1") || !first.has(t, "app:v2") {
		t.Error("it is not equal to the new first")
	}
}
