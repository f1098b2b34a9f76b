package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// deleteItem is an image of a list of images to delete, in oc-mirror's form.
type deleteItem struct {
	ImageName      string    `json:"imageName"`
	ImageReference string    `json:"imageReference"` // docker://, where it was mirrored to
	Type           plan.Type `json:"type"`
}

// deleteList is the file of such a list. Fields that oc-mirror may have besides are ignored.
type deleteList struct {
	APIVersion string       `json:"apiVersion"`
	Items      []deleteItem `json:"items"`
	Kind       string       `json:"kind"`
}

// deleteListKind is the kind of that file.
const deleteListKind = "DeleteImageList"

// deleteID is the form of what is added to the name of a list.
var deleteID = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)

// writeList writes a list to the workspace, and the configuration that it comes from, under
// oc-mirror's names, and returns the list's path.
func (e *engine) writeList(items []deleteItem, id string) (string, error) {
	if !deleteID.MatchString(id) {
		return "", hint.New(fmt.Errorf("--delete-id %q cannot be a part of a file's name", id),
			"letters, digits, . _ and -")
	}
	if id != "" {
		id = "-" + id
	}
	data, err := yaml.Marshal(deleteList{APIVersion: "mirror.openshift.io/v2alpha1", Items: items,
		Kind: deleteListKind})
	if err != nil {
		return "", err
	}
	if err := e.workspace.Write("delete/delete-imageset-config"+id+".yaml", e.o.Config.Text); err != nil {
		return "", err
	}
	name := "delete/delete-images" + id + ".yaml"
	return e.workspace.path(name), e.workspace.Write(name, data)
}

// maxList bounds a list.
const maxList = 64 << 20

// CheckDeleteList returns an error unless a file can be a list of images to delete.
func CheckDeleteList(path string) error {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return hint.New(fmt.Errorf("file not found %s", path), "name the file that delete --generate wrote")
	case err != nil:
		return fmt.Errorf("read %s: %w", path, err)
	case !info.Mode().IsRegular() || info.Size() > maxList:
		return fmt.Errorf("%s is not a list of images to delete", path)
	}
	return nil
}

// readList reads a list, ours or oc-mirror's.
func readList(path string) ([]deleteItem, error) {
	if err := CheckDeleteList(path); err != nil {
		return nil, err
	}
	var list deleteList
	data, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(data, &list)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case list.Kind != deleteListKind:
		return nil, hint.New(fmt.Errorf("%s: kind is %q, not %s", path, list.Kind, deleteListKind),
			"name the file that delete --generate wrote")
	}
	return list.Items, nil
}

// place returns where an item is, by its tag or, if it has none, by its digest, checked against the destination of the command.
func (e *engine) place(item deleteItem) (repository, tag string, err error) {
	ref, err := imageset.ParseReference(item.ImageReference)
	if err == nil && (ref.Tag+ref.Digest.String() == "" || ref.Domain != e.o.Registry) {
		err = fmt.Errorf("it is not a tag of %s", e.o.Registry)
	}
	if err == nil && e.o.Prefix != "" && e.o.MaxNestedPaths == 0 && !hasPrefix(ref.Path, e.o.Prefix) {
		err = fmt.Errorf("it is not below %s", e.o.Prefix)
	}
	if err != nil {
		return "", "", hint.New(fmt.Errorf("delete destination %s does not match values found in the delete-images yaml file (%s): %w",
			e.o.Registry, item.ImageReference, err),
			"give the destination that the images were mirrored to; nothing was deleted")
	}
	return ref.Path, cmp.Or(ref.Tag, ref.Digest.String()), nil
}

func hasPrefix(path, prefix string) bool {
	return path == prefix || len(path) > len(prefix) && path[:len(prefix)+1] == prefix+"/"
}
