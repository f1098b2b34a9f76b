package imageset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// apply makes the change in a document, and reports whether there was something to change.
func (e Edit) apply(root *yaml.Node) (bool, error) {
	steps, err := stepsOf(e.At)
	if err != nil {
		return false, err
	}
	switch {
	case e.Remove && e.Set == nil && e.Add == nil:
		return remove(root, steps)
	case e.Set != nil && e.Add == nil && !e.Remove:
		return e.set(root, steps)
	case e.Add != nil && e.Set == nil && !e.Remove:
		return e.add(root, steps)
	}
	return false, hint.New(errors.New("it is not one change"), "give one of set, add and remove")
}

// set gives a key another value.
func (e Edit) set(root *yaml.Node, steps []step) (bool, error) {
	value, err := nodeOf(e.Set)
	if err != nil {
		return false, err
	}
	if isNothing(value) {
		n, err := find(root, steps)
		if n == nil || err != nil || isNothing(n) {
			return false, nil
		}
		return remove(root, steps)
	}
	n, err := made(root, steps, yaml.ScalarNode)
	if err != nil || equal(n, value, false) || n.Kind == yaml.ScalarNode && value.Kind == yaml.ScalarNode && n.Value == value.Value && n.Tag != "" {
		return false, err
	}
	quoted := yaml.Style(0)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == value.Tag && n.Tag != "" {
		quoted = n.Style & (yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle)
	}
	if value.Kind == yaml.SequenceNode && (n.Tag == "" || n.Style&yaml.FlowStyle != 0) {
		quoted = yaml.FlowStyle // as short lists are written
	}
	n.Kind, n.Tag, n.Value, n.Content, n.Style = value.Kind, value.Tag, value.Value, value.Content, quoted
	return true, nil
}

// isNothing reports whether a value means the same as a key that is not there.
func isNothing(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!null" || n.Value == "" || n.ShortTag() == "!!bool" && strings.EqualFold(n.Value, "false"))
}

// add puts an element at the end of a list.
func (e Edit) add(root *yaml.Node, steps []step) (bool, error) {
	value, err := nodeOf(e.Add)
	if err != nil {
		return false, err
	}
	list, err := made(root, steps, yaml.SequenceNode)
	if err != nil {
		return false, err
	}
	value.HeadComment = became(list, yaml.SequenceNode)
	if list.Kind != yaml.SequenceNode {
		return false, fmt.Errorf("line %d is not a list", list.Line)
	}
	list.Content = append(list.Content, value)
	return true, nil
}

// find returns the node at a path, or nil if there is none.
func find(n *yaml.Node, steps []step) (*yaml.Node, error) {
	for _, s := range steps {
		i, err := s.in(n)
		if i < 0 || err != nil {
			return nil, err
		}
		n = n.Content[i]
	}
	return n, nil
}

// in returns the place in the content of a node of what a step leads to, or -1.
func (s step) in(n *yaml.Node) (int, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return -1, nil
	case s.key == "" && n.Kind == yaml.SequenceNode:
		if s.index >= len(n.Content) {
			return -1, fmt.Errorf("the list in line %d has only %d elements", n.Line, len(n.Content))
		}
		return s.index, nil
	case s.key != "" && n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if strings.EqualFold(n.Content[i].Value, s.key) {
				return i + 1, nil
			}
		}
		return -1, nil
	}
	return -1, fmt.Errorf("line %d is written otherwise than it is meant in an image set", n.Line)
}

// made returns the node at a path, and makes what there is not. The new node is of a kind and has no tag.
func made(n *yaml.Node, steps []step, kind yaml.Kind) (*yaml.Node, error) {
	for i, s := range steps {
		at, err := s.in(n)
		switch {
		case err != nil:
			return nil, err
		case at >= 0:
			n = n.Content[at]
		case s.key == "":
			return nil, fmt.Errorf("line %d is not a list", n.Line)
		default:
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s.key, HeadComment: became(n, yaml.MappingNode)}
			value := &yaml.Node{Kind: kind}
			if i+1 < len(steps) {
				value.Kind = yaml.MappingNode
			}
			n.Content = append(n.Content, key, value)
			n = value
		}
	}
	return n, nil
}

// became makes a collection of a node without a value. One that was empty is written in lines from now
// on, and the comment behind it, which it returns, is for its first element.
func became(n *yaml.Node, kind yaml.Kind) (comment string) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		n.Kind, n.Tag, n.Value, n.Style = kind, "", "", 0
	}
	if n.Kind == kind && len(n.Content) == 0 {
		n.Style, n.LineComment, comment = 0, "", n.LineComment
	}
	return comment
}

// remove removes what is at a path, and what is empty then, except for the first key of the path.
func remove(root *yaml.Node, steps []step) (bool, error) {
	n, err := find(root, steps)
	if n == nil || err != nil {
		return false, err
	}
	for len(steps) > 0 {
		above, err := find(root, steps[:len(steps)-1])
		if err != nil {
			return false, err
		}
		i, err := steps[len(steps)-1].in(above)
		if err != nil {
			return false, err
		}
		first := i
		if above.Kind == yaml.MappingNode {
			first--
		}
		above.Content = slices.Delete(above.Content, first, i+1)
		if first == 0 && len(above.Content) > 0 { // a blank line was between the two
			above.Content[0].HeadComment = strings.TrimPrefix(above.Content[0].HeadComment, blankMark+"\n")
		}
		steps = steps[:len(steps)-1]
		if len(above.Content) > 0 || len(steps) < 2 {
			break
		}
		if steps[len(steps)-1].key == "" {
			break // an element of a list stays, so that the places of others are what they were
		}
	}
	return true, nil
}

// nodeOf returns JSON as a node that is written in the style of people, with its keys in their order.
func nodeOf(data json.RawMessage) (*yaml.Node, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	n, err := nodeFrom(dec, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("the value is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the value is more than one of JSON")
	}
	return n, nil
}

func nodeFrom(dec *json.Decoder, depth int) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if depth == 0 {
		return nil, errors.New("it is nested too deep")
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for dec.More() {
			child, err := nodeFrom(dec, depth-1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := dec.Token()
		return n, err
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}, nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: v.String()}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
}
