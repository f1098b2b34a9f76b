package plan

// Type is the kind of an image, in oc-mirror's words.
type Type string

// The types of images that are collected.
const (
	Release        Type = "ocpRelease"
	ReleaseContent Type = "ocpReleaseContent"
	Graph          Type = "cincinnatiGraph"
	Generic        Type = "generic"

	OperatorBundle  Type = "operatorBundle"
	OperatorRelated Type = "operatorRelatedImage"
	OperatorCatalog Type = "operatorCatalog"

	// CatalogView is a view that an appliance makes of a catalog. No run collects it.
	CatalogView Type = "operatorCatalogView"

	Helm Type = "helmImage"
)

// Exit codes of a run, a bit mask as in oc-mirror. The other bits are those of the classes.
const exitGeneric = 1

// Class is what all images of one type have in common.
type Class struct {
	Type  Type
	Label string // in the result lines that scripts search for; types may share one
	Exit  int    // the bit of the exit code that a failure sets
	Asked string // what an image set has, of which images of the type are made; types may share it
	// MirrorSets is the category of the image's entries in the cluster's mirror
	// sets, empty for none.
	MirrorSets string
	// ByBoth reports that clusters ask for the image by digest and by tag, however its reference is
	// written: for its release by digest when they update, and by tag when they are installed.
	ByBoth bool
	// Whole reports that the images of one release are mirrored together or not at all: one that
	// fails, when it is planned or when it is copied, fails the release, and no tag of that is set.
	// Other releases are not concerned.
	Whole bool
	// Last reports that the image is tagged after all others of its release, and not
	// if one of them failed.
	Last bool
}

// Classes returns the classes in the order of the results.
func Classes() []Class {
	return []Class{
		{Type: Release, Label: "release", Exit: 2, Asked: "channels", MirrorSets: "release", ByBoth: true, Whole: true, Last: true},
		{Type: ReleaseContent, Label: "release", Exit: 2, Asked: "channels", MirrorSets: "release", Whole: true},
		{Type: Graph, Label: "release", Exit: 2, Asked: "update graphs"},
		{Type: OperatorBundle, Label: "operator", Exit: 4, Asked: "catalogs and operators", MirrorSets: "operator"},
		{Type: OperatorRelated, Label: "operator", Exit: 4, Asked: "catalogs and operators", MirrorSets: "operator"},
		{Type: OperatorCatalog, Label: "operator", Exit: 4, Asked: "catalogs and operators"},
		{Type: Generic, Label: "additional", Exit: 8, Asked: "additional images", MirrorSets: "generic"},
		{Type: Helm, Label: "helm", Exit: 16, Asked: "charts", MirrorSets: "generic"},
	}
}

// Class returns the class of the images of a type.
func (t Type) Class() Class {
	for _, c := range Classes() {
		if c.Type == t {
			return c
		}
	}
	return Class{Type: t, Label: string(t), Exit: exitGeneric}
}
