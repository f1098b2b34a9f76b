package imageset

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a document with its aliases written out. A few lines of aliases of aliases can mean billions.
const maxNodes = 1 << 20

// expansion counts the nodes of a document with its aliases written out.
type expansion struct {
	sizes map[*yaml.Node]int // of those that were counted; 0 while one is being counted
}

// checkAliases refuses a document that contains itself, or that is many times its text.
func checkAliases(root *yaml.Node) error {
	e := &expansion{sizes: map[*yaml.Node]int{}}
	_, err := e.size(root)
	return err
}

func (e *expansion) size(n *yaml.Node) (int, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if size, seen := e.sizes[n]; seen {
		if size == 0 {
			return 0, fmt.Errorf("line %d: what is called &%s there contains itself", n.Line, n.Anchor)
		}
		return size, nil
	}
	e.sizes[n] = 0
	total := 1
	for _, child := range n.Content {
		size, err := e.size(child)
		if err != nil {
			return 0, err
		}
		if total += size; total > maxNodes {
			return 0, errors.New("its aliases (*name) make it too large")
		}
	}
	e.sizes[n] = total
	return total, nil
}
