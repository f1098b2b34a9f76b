package tlsgen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// settle is the time without changes after which the files are read: a certificate and its key are
// replaced one after the other.
const settle = 300 * time.Millisecond

// watched serves the user's own certificate and follows its files.
type watched struct {
	o      Options
	log    *slog.Logger
	serve  atomic.Pointer[tls.Certificate]
	cancel context.CancelFunc
	done   chan struct{}

	// Only the goroutine that loads uses these.
	seen    keyPair // the last content that was read as a whole
	problem string  // the last one that was logged, so that it is logged once
}

func startWatched(ctx context.Context, o Options) (*watched, error) {
	pair, cert, err := readPair(OwnFile(o.CertFile, o.KeyFile), o.KeyFile)
	if err != nil {
		return nil, err
	}
	w := &watched{o: o, log: o.Log.With("file", o.CertFile), seen: pair, done: make(chan struct{})}
	// An expired certificate is served, too: some clients do not check.
	w.warn(cert)
	w.serve.Store(cert)

	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go w.follow(ctx, w.notify())
	return w, nil
}

func (w *watched) current() (*tls.Certificate, error) { return w.serve.Load(), nil }

// renew is for the user to do.
func (w *watched) renew(context.Context) error {
	return fault(w.o.CertFile, "the certificate is your own, and only its CA can renew it",
		"get a new one, then: appliance cert replace --sslCert FILE --sslKey FILE", nil)
}

func (w *watched) close() {
	w.cancel()
	<-w.done
}

// notify watches the directories, since a replaced file is another file. Without notifications (a
// busy machine reaches the limits of inotify) polling finds the changes.
func (w *watched) notify() *fsnotify.Watcher {
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = errors.Join(watcher.Add(filepath.Dir(w.o.CertFile)), watcher.Add(filepath.Dir(w.o.KeyFile)))
	}
	if err != nil {
		w.log.Warn("polling finds changes of the certificate", "every", w.o.pollEvery, "error", err)
	}
	return watcher
}

// follow reads the files again after a notification, and at intervals: the target of a link, or a
// network file system, changes without one.
func (w *watched) follow(ctx context.Context, watcher *fsnotify.Watcher) {
	defer close(w.done)
	var events chan fsnotify.Event
	var errs chan error
	if watcher != nil {
		defer watcher.Close()
		events, errs = watcher.Events, watcher.Errors
	}
	poll := time.NewTicker(w.o.pollEvery)
	defer poll.Stop()
	settled := time.NewTimer(0)
	settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			settled.Reset(settle)
		case err := <-errs:
			w.log.Warn("watching the certificate", "error", err)
			settled.Reset(settle)
		case <-settled.C:
			w.reload()
		case <-poll.C:
			w.reload()
		}
	}
}

func (w *watched) reload() {
	pair, cert, err := readPair(OwnFile(w.o.CertFile, w.o.KeyFile), w.o.KeyFile)
	if err != nil {
		w.complain("the changed certificate cannot be used; the last good one stays in use", err)
		return
	}
	if bytes.Equal(pair.certPEM, w.seen.certPEM) && bytes.Equal(pair.keyPEM, w.seen.keyPEM) {
		w.problem = ""
		return
	}
	err, served := notForServers(w.o.CertFile, cert), w.serve.Load()
	if err != nil && notForServers(w.o.CertFile, served) == nil {
		w.complain("the changed certificate cannot be used; the last good one stays in use", err)
		return
	}
	if now := w.o.Now(); now.After(cert.Leaf.NotAfter) && now.Before(served.Leaf.NotAfter) {
		w.complain("the new certificate has expired; the last good one stays in use",
			fault(w.o.CertFile, "expired at "+cert.Leaf.NotAfter.Format(time.RFC3339), "", nil))
		return
	}
	w.seen, w.problem = pair, ""
	w.warn(cert)
	w.serve.Store(cert)
	w.log.Info("loaded the new certificate", "notAfter", cert.Leaf.NotAfter)
}

func (w *watched) complain(message string, err error) {
	if text := err.Error(); text != w.problem {
		w.problem = text
		w.log.Error(message, "error", err)
	}
}

// warn logs the reasons for which clients may reject a certificate that can be served.
func (w *watched) warn(cert *tls.Certificate) {
	if now := w.o.Now(); now.After(cert.Leaf.NotAfter) {
		w.log.Warn("the certificate has expired", "notAfter", cert.Leaf.NotAfter)
	} else if now.Before(cert.Leaf.NotBefore) {
		w.log.Warn("the certificate is not valid yet", "notBefore", cert.Leaf.NotBefore)
	}
	if err := notForServers(w.o.CertFile, cert); err != nil {
		w.log.Error("clients will refuse the certificate", "error", err)
	}
	if roots, err := rootsWith(w.o.CAFile); err != nil {
		w.log.Warn("the CA of the certificate cannot be read", "error", err)
	} else if err := incomplete(w.o.CertFile, cert, roots); err != nil {
		w.log.Warn("clients may refuse the certificate", "error", err, "hint", hint.Of(err))
	}
	if missing := uncovered(cert.Leaf, w.o.Names); len(missing) > 0 {
		w.log.Warn("the certificate does not cover every name of this registry",
			"missing", missing, "covered", namesOf(cert.Leaf))
	}
}
