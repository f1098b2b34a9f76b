package registry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/systemd"
)

// slowAnswer is from when on an attempt without an answer is told of.
const slowAnswer = time.Second

// startWait tells what the start of a daemon waits for, while it does: on the control socket, and to systemd. A server
// that answers at once is not told of, so that a start which fails for another reason does not seem to wait.
//
// An answer to clients was refused: with systemd's socket those that come wait, and the daemon answers them when its
// start is over. What looks at its health finds no answer meanwhile.
type startWait struct {
	cfg   *config.Config
	given Options
	began time.Time
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	on     store.Wait // zero: nothing is waited for
	since  time.Time
	timer  *time.Timer
	taken  bool // another daemon has the control socket
	server *server
	served chan error // has what the server returned
}

// note is store.Options.Waiting.
func (s *startWait) note(on store.Wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on.Name == "" {
		s.stop()
		return
	}
	if on.Name != s.on.Name {
		s.since = time.Now()
	}
	s.on = on
	if on.Err != nil {
		s.tell()
		return
	}
	s.timer = time.AfterFunc(slowAnswer, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.on.Name != "" {
			s.tell()
		}
	})
}

// end ends the answers, before the daemon listens itself.
func (s *startWait) end() { s.note(store.Wait{}) }

// tell tells of what is waited for. s.mu is held.
func (s *startWait) tell() {
	w := s.waiting()
	s.toSystemd("waiting for the " + w.For + " " + w.Name + ": " + w.Problem())
	if s.server != nil || s.taken {
		return
	}
	socket, err := admin.Listen(context.Background(), s.cfg.ControlSocket)
	if err != nil { // what has the socket is refused, or refuses this daemon, once the store is opened
		s.taken = true
		s.log.Warn("the control socket does not tell what the start waits for", "error", err, "hint", hint.Of(err))
		return
	}
	of := &daemon{cfg: s.cfg, given: s.given}
	s.server, s.served = newServer(admin.NewWaiting(s.status, of.serves, s.log), s.log, socket), make(chan error, 1)
	go func(server *server, served chan<- error) { served <- server.serve() }(s.server, s.served)
}

// stop ends what tell has begun. s.mu is held.
func (s *startWait) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.on = store.Wait{}
	if s.server == nil {
		return
	}
	s.toSystemd("")
	server, served := s.server, s.served
	s.server = nil
	s.mu.Unlock() // for answers under way
	err := server.cut()
	if ended := <-served; err == nil {
		err = ended
	}
	s.mu.Lock()
	if err != nil {
		s.log.Warn("the control socket of the start could not be closed", "error", err)
	}
}

func (s *startWait) toSystemd(text string) {
	if err := systemd.NotifyStatus(text); err != nil {
		s.log.Warn("systemd could not be told", "state", "waiting", "error", err)
	}
}

// waiting describes what is waited for. s.mu is held.
func (s *startWait) waiting() *api.Waiting {
	if s.on.Name == "" {
		return nil
	}
	w := &api.Waiting{For: api.WaitingDatabase, Name: s.on.Name, Since: s.since, Hint: "see whether it runs and can be reached from here"}
	if s.on.Storage {
		w.For = api.WaitingStorage
	}
	if err := s.on.Err; err != nil {
		w.Reason, w.Hint = err.Error(), hint.Of(err)
	}
	return w
}

// status returns the state of a daemon that waits. Its services are those that the running daemon has as well.
func (s *startWait) status() api.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := api.Status{Version: s.given.Version, Address: s.cfg.Address(), Started: s.began, Socket: s.cfg.ControlSocket,
		Database: s.cfg.DatabaseName(), Waiting: s.waiting(), Services: map[string]bool{}, Space: []api.Space{}}
	if w := status.Waiting; w != nil {
		service := map[string]string{api.WaitingDatabase: "database", api.WaitingStorage: "disk_space"}[w.For]
		trouble := api.Trouble{Problem: w.Problem(), Hint: w.Hint}
		status.Services[service], status.Failing, status.Trouble = false, map[string]api.Trouble{service: trouble}, []api.Trouble{trouble}
	}
	return status
}
