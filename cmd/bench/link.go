package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	linkDelay  = 20 * time.Millisecond // each way
	linkRounds = 3
	linkUpload = 200e6 // bytes: enough that TCP's slow start does not count for much
	defaultsOf = "go-defaults"
)

// A delayer puts the link's delay before a server.
type delayer func(context.Context, *server) (addr string, end func() error, err error)

// measureLink measures in a network namespace of its own, whose loopback the kernel delays, where that can be had.
func measureLink(ctx context.Context, b *bench) ([]row, error) {
	rows, why, err := b.withinNamespace(ctx)
	if why == nil || err != nil {
		return rows, err
	}
	return b.linkRows(ctx, proxied, fmt.Sprintf("delayed by a TCP proxy in this process, since the kernel would not (%v)", why))
}

// withinNamespace runs this program again in a namespace. The reason why is for when there can be none.
func (b *bench) withinNamespace(ctx context.Context) (rows []row, why, err error) {
	for _, tool := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, err, nil
		}
	}
	if os.Getuid() != 0 {
		return nil, errors.New("not root"), nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self, "link", b.site.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var l linkResult
	if err := errors.Join(err, json.Unmarshal(out, &l)); err != nil {
		return nil, nil, err
	}
	if l.Unavailable != "" {
		return nil, errors.New(l.Unavailable), nil
	}
	return l.Rows, nil, nil
}

type linkResult struct {
	Rows        []row  `json:"rows"`
	Unavailable string `json:"unavailable"`
}

// newLinkCommand runs in a network namespace of its own and so may do with its loopback what it likes.
func newLinkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "link SITE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openSite(args[0])
			if err != nil {
				return err
			}
			var l linkResult
			if err := delayLoopback(cmd.Context()); err != nil {
				l.Unavailable = err.Error()
			} else {
				b := &bench{site: s, progress: os.Stderr}
				l.Rows, err = b.linkRows(cmd.Context(), undelayed, "delayed by netem on the loopback of a network namespace")
				if err != nil {
					return err
				}
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(l)
		},
	}
}

func delayLoopback(ctx context.Context) error {
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", fmt.Sprintf("%dus", linkDelay.Microseconds()), "limit", "100000"},
	} {
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// undelayed is for when the network has the delay already.
func undelayed(_ context.Context, s *server) (string, func() error, error) {
	return s.addr, func() error { return nil }, nil
}

// linkRows uploads over the link, to the daemon and to the upload probe with Go's own windows.
func (b *bench) linkRows(ctx context.Context, delay delayer, note string) (_ []row, err error) {
	subject, control, err := b.startSubject(ctx, "link")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, subject.stop(), b.site.remove("link")) }()
	control.Close()
	probe, err := b.startProbe(ctx, defaultsOf, "--window", "0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, probe.stop()) }()
	l, err := newLarge(linkUpload)
	if err != nil {
		return nil, err
	}
	speed := series{}
	for range linkRounds {
		for as, s := range map[string]*server{subjectName: subject, probeName: probe} {
			perSecond, err := b.uploadOver(ctx, delay, s, l)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			speed.add(as, perSecond)
		}
		if err := b.clearProbe(); err != nil {
			return nil, err
		}
	}
	r := speed.row(fmt.Sprintf("upload of %d MB over a %d ms link, h2", int(linkUpload/1e6), 2*linkDelay.Milliseconds()), "MB/s").atLeast(5)
	r.Note = note
	return []row{r}, nil
}

// uploadOver uploads once, over a connection of its own, and returns MB/s.
func (b *bench) uploadOver(ctx context.Context, delay delayer, s *server, l *large) (_ float64, err error) {
	addr, end, err := delay(ctx, s)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, end()) }()
	d, body, err := l.next()
	if err != nil {
		return 0, err
	}
	at := *s
	at.addr = addr
	c := newClient(b.site, &at, h2)
	defer c.close()
	began := time.Now()
	if err := c.store(ctx, d, bytes.NewReader(body), int64(len(body))); err != nil {
		return 0, err
	}
	return float64(len(body)) / 1e6 / time.Since(began).Seconds(), nil
}
