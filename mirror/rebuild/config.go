package rebuild

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// config is the configuration of an image, see image-spec's config.md. Keys that are not known here
// stay.
type config struct {
	all, run map[string]json.RawMessage
	labels   map[string]string
	rootfs   ocispec.RootFS
	history  []json.RawMessage
}

func parseConfig(data []byte) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(data, &c.all); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		name string
		to   any
	}{{"config", &c.run}, {"rootfs", &c.rootfs}, {"history", &c.history}} {
		if err := decode(c.all, part.name, part.to); err != nil {
			return nil, err
		}
	}
	if c.all == nil {
		return nil, errors.New("it is null")
	}
	if err := decode(c.run, "Labels", &c.labels); err != nil {
		return nil, err
	}
	if c.run == nil {
		c.run = map[string]json.RawMessage{}
	}
	return c, nil
}

func decode(of map[string]json.RawMessage, name string, to any) error {
	if len(of[name]) == 0 {
		return nil
	}
	if err := json.Unmarshal(of[name], to); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// without removes layers, by their numbers, and the steps of history that made them. A history that
// is not in step with the layers goes as a whole: it is for people.
func (c *config) without(gone map[int]bool, layers int) error {
	if len(c.rootfs.DiffIDs) != layers {
		return fmt.Errorf("the configuration has %d diff IDs for %d layers", len(c.rootfs.DiffIDs), layers)
	}
	n, history := 0, []json.RawMessage{}
	for _, raw := range c.history {
		var step ocispec.History
		if err := json.Unmarshal(raw, &step); err != nil {
			return fmt.Errorf("history: %w", err)
		}
		if step.EmptyLayer || !gone[n] {
			history = append(history, raw)
		}
		if !step.EmptyLayer {
			n++
		}
	}
	if c.history != nil && n != layers {
		c.history = nil
		delete(c.all, "history")
	} else if c.history != nil {
		c.history = history
	}
	n = -1
	c.rootfs.DiffIDs = slices.DeleteFunc(c.rootfs.DiffIDs, func(digest.Digest) bool { n++; return gone[n] })
	return nil
}

// change adds a layer, changes the command and the labels, and returns the configuration.
func (c *config) change(to Change, diffID digest.Digest) ([]byte, error) {
	if to.Labels != nil {
		merged := maps.Clone(c.labels)
		if merged == nil {
			merged = map[string]string{}
		}
		maps.Copy(merged, to.Labels)
		c.labels = merged
	}
	c.rootfs.DiffIDs = append(c.rootfs.DiffIDs, diffID)
	if c.history != nil { // one that is there names each layer
		entry, err := json.Marshal(ocispec.History{CreatedBy: "appliance", Comment: to.Reason})
		if err != nil {
			return nil, err
		}
		c.history = append(c.history, entry)
	}
	return c.encode(to.Cmd)
}

func (c *config) encode(cmd []string) ([]byte, error) {
	set := func(in map[string]json.RawMessage, name string, value any) error {
		raw, err := json.Marshal(value)
		in[name] = raw
		return err
	}
	if cmd != nil {
		if err := set(c.run, "Cmd", cmd); err != nil {
			return nil, err
		}
		delete(c.run, "ArgsEscaped")
	}
	if c.labels != nil {
		if err := set(c.run, "Labels", c.labels); err != nil {
			return nil, err
		}
	}
	if c.history != nil {
		if err := set(c.all, "history", c.history); err != nil {
			return nil, err
		}
	}
	if err := set(c.all, "rootfs", c.rootfs); err != nil {
		return nil, err
	}
	if err := set(c.all, "config", c.run); err != nil {
		return nil, err
	}
	return json.Marshal(c.all)
}
