package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// A backup is made by the command, with the rights of who called it: the daemon, a service in a sandbox, sees
// neither a home directory nor a network share. What the daemon does is to make a snapshot of the database and to keep
// the files that it names, for as long as a request lasts: until another says that it is done, or the command is gone,
// however that ended.
//
// The answer is two lines as a job's are, {"progress": {"snapshot": …}} and, when it is all over, {"result": {}}. A
// request whose body ends when the command is done was refused: net/http's client waits for such a body for ever
// when the daemon is killed.

// snapshotAnswer names the file, which is beside the database.
type snapshotAnswer struct {
	Snapshot string `json:"snapshot"`
}

var errElsewhere = &badRequest{"a backup is made on the registry's own host: it is files there that are copied",
	"run `appliance backup PATH` on that host"}

func (h *Handler) backup(w http.ResponseWriter, r *http.Request) {
	if _, overHTTPS := auth.IdentityFrom(r.Context()); overHTTPS {
		h.refuse(w, r, errElsewhere)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.drain, func() { cancel(errStopping) })()
	stopping := func() error {
		if cause := context.Cause(ctx); errors.Is(cause, errStopping) {
			return cause
		}
		return nil
	}
	snapshot, err := h.store.Snapshot(ctx)
	if err != nil {
		h.refuse(w, r, cmp.Or(stopping(), err))
		return
	}
	h.backups.Store(snapshot.Name, func() { cancel(nil) })
	defer h.backups.Delete(snapshot.Name)
	l := &lines{out: w}
	l.send(map[string]any{"progress": snapshotAnswer{snapshot.Name}})
	<-ctx.Done()
	if err = snapshot.Release(); err != nil {
		h.log.Error("could not remove the snapshot of a backup", "name", snapshot.Name, "error", err)
	}
	if err = cmp.Or(err, stopping()); err != nil {
		l.send(errorAnswer{Error: err.Error(), Hint: hintOf(err)})
		return
	}
	l.send(map[string]any{"result": struct{}{}})
}

// endBackup says that a backup is done with its snapshot.
func (h *Handler) endBackup(r *http.Request) (int, any, error) {
	name := r.PathValue("snapshot")
	end, underWay := h.backups.Load(name)
	if !underWay {
		return 0, nil, &store.NotFoundError{Kind: "backup", Name: name}
	}
	end.(func())()
	return http.StatusNoContent, nil, nil
}

// Backup has a snapshot made, and calls copyAll with the name of its file, which is beside the database. Until that
// returns no collection removes the files of blobs that the snapshot names; its context ends when the daemon can
// promise that no longer. It works on the socket only.
func (c *Client) Backup(ctx context.Context, copyAll func(ctx context.Context, snapshot string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, err := c.begin(ctx, "/api/v1/backup", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := json.NewDecoder(io.LimitReader(body, maxJSON))
	var answer snapshotAnswer
	if err := readLine(lines, &answer, nil); err != nil {
		return err
	}
	released := make(chan error, 1)
	go func() {
		err := readLine(lines, nil, &struct{}{})
		if err != nil {
			cancel(err)
		}
		released <- err
	}()
	err = copyAll(ctx, answer.Snapshot)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if end := c.json(ctx, c.http, http.MethodDelete, "/api/v1/backup/"+url.PathEscape(answer.Snapshot), nil, nil); end != nil {
		return errors.Join(err, end)
	}
	return errors.Join(err, <-released)
}

// readLine reads a line that is to have one of the two.
func readLine(lines *json.Decoder, progress, result any) error {
	var line jobLine
	if err := lines.Decode(&line); err != nil {
		return &unreachableError{fmt.Errorf("the daemon stopped before the backup had ended: %w", err), "back up again when it is up"}
	}
	switch {
	case line.Error != "":
		return &Error{Status: http.StatusInternalServerError, Product: Product, Message: line.Error, hint: line.Hint}
	case progress != nil && line.Progress != nil:
		return json.Unmarshal(line.Progress, progress)
	case result != nil && line.Result != nil:
		return json.Unmarshal(line.Result, result)
	}
	return errors.New("the daemon's answer to /api/v1/backup is not that of this version")
}
