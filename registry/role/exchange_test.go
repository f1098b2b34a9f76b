package role_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/role"
)

// A primary believes that it was replaced only if an appliance of its family tells so, with the token of the two.
func TestFamily_ServeHTTP(t *testing.T) {
	first, second, third := newAppliance(t), newAppliance(t), newAppliance(t)
	second.follows(first)
	third.follows(first)
	first.has(role.Peer{ID: "without a token", Address: "other:8443"})
	s := second.State()
	trust, err := role.Trust(first.ca())
	must(t, err)
	for _, tc := range []struct {
		name, id, token, lineage string
		status                   int // 0: it is answered
		want                     role.Role
	}{
		{"with another token", s.ID, "another", s.Lineage, http.StatusUnauthorized, role.Primary},
		{"with the token of another", third.id, s.First.Token, s.Lineage, http.StatusUnauthorized, role.Primary},
		{"without a token", s.ID, "", s.Lineage, http.StatusUnauthorized, role.Primary},
		{"of which no token is known", "without a token", "", s.Lineage, http.StatusUnauthorized, role.Primary},
		{"of which nothing is known", "unknown", s.First.Token, s.Lineage, http.StatusUnauthorized, role.Primary},
		{"of another family", s.ID, s.First.Token, "another", 0, role.Primary},
		{"of its family", s.ID, s.First.Token, s.Lineage, 0, role.Superseded},
	} {
		c := client.NewHTTPS(first.address(), tc.id, tc.token, trust)
		_, err := c.Exchange(t.Context(), api.Exchange{ID: s.ID, Lineage: tc.lineage, Role: string(role.Primary), Known: api.Term{Generation: 2, ID: s.ID, Address: second.address()}})
		c.Close()
		status := 0
		if refused := new(client.Refused); errors.As(err, &refused) {
			status = refused.Status
		} else if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if now := first.State().Role; status != tc.status || now != tc.want {
			t.Errorf("one %s is answered %d, and the first is %s", tc.name, status, now)
		}
	}
}

// What another appliance answers at the address of the first is not believed.
func TestFamily_Promote_anotherAnswers(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	at, s := first.address(), second.State()
	first.kill()
	first.server.Close()
	l, err := net.Listen("tcp", at)
	must(t, err)
	another := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", api.Product)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(api.Exchange{ID: "another", Lineage: s.Lineage, Role: string(role.Superseded), Known: api.Term{Generation: 1, ID: first.id, Address: at}})
	}))
	must(t, another.Listener.Close())
	another.Listener = l
	another.StartTLS()
	t.Cleanup(another.Close)
	_, err = second.promote(false)
	if err == nil || !strings.Contains(err.Error(), "another appliance answers at "+at) {
		t.Errorf("it is promoted: %v", err)
	}
	second.mustBe(role.Follower)
}
