package console

import (
	"fmt"
	"unicode/utf8"
)

// Lengths of a drawing, in units of its own.
const (
	boxWidth, boxHeight   = 176, 46
	betweenX, betweenY    = 96, 22
	headHeight, edgeSpace = 36, 56
	shownText             = 24 // characters of a box
)

// drawing is a graph as SVG has it. It has no text that a table beside it has not.
type drawing struct {
	Width, Height int
	Heads         []drawnText
	Arrows        []drawnArrow
	Boxes         []drawnBox
}

type drawnText struct {
	X, Y int
	Text string
}

type drawnArrow struct {
	Path string
	Way  bool
	Tip  string // of tips
}

// tips are those of arrows, which SVG takes apart from their lines.
func tips() []string { return []string{"plain", "risk", "way"} }

type drawnBox struct {
	X, Y          int
	Class         string // held, absent, some, or way
	Text, Subtext string
	Link          string // "": it leads nowhere
	Press         string // the value of a button in its place, in a form
}

// Inner positions of a box.
func (b drawnBox) Center() int   { return b.X + boxWidth/2 }
func (b drawnBox) Baseline() int { return b.Y + boxHeight/2 - 2 }
func (b drawnBox) Alone() int    { return b.Y + boxHeight/2 + 5 }
func (b drawnBox) Below() int    { return b.Y + boxHeight - 8 }
func (b drawnBox) W() int        { return boxWidth }
func (b drawnBox) H() int        { return boxHeight }

func (p spot) left() int   { return edgeSpace + p.column*(boxWidth+betweenX) }
func (p spot) top() int    { return headHeight + p.box*(boxHeight+betweenY) }
func (p spot) middle() int { return p.top() + boxHeight/2 }

// draw places a graph. describe returns the second line of a box, and where it leads or which button it is.
func (g graph) draw(describe func(column, box) drawnBox, way map[string]bool) (d drawing) {
	for i, c := range g.columns {
		d.Heads = append(d.Heads, drawnText{spot{column: i}.left() + boxWidth/2, headHeight / 2, c.minor})
		for j, b := range c.boxes {
			at := spot{i, j}
			drawn := describe(c, b)
			drawn.X, drawn.Y, drawn.Class, drawn.Text = at.left(), at.top(), b.class(way), b.text()
			d.Boxes = append(d.Boxes, drawn)
			d.Height = max(d.Height, at.top()+boxHeight+betweenY)
		}
		d.Width = spot{column: i}.left() + boxWidth + edgeSpace
	}
	for _, passes := range []bool{false, true} { // the way is over the others
		for _, a := range g.arrows {
			if a.way == passes {
				d.Arrows = append(d.Arrows, drawnArrow{a.path(), a.way, a.tip()})
			}
		}
	}
	return d
}

func (b box) class(way map[string]bool) string {
	switch {
	case len(b.versions) == 1 && way[b.versions[0]]:
		return "way"
	case b.held == 0:
		return "absent"
	case len(b.versions) > 1:
		return "some"
	}
	return "held"
}

func (b box) text() string {
	text := b.versions[0]
	if last := b.versions[len(b.versions)-1]; last != text {
		text += " – " + last
	}
	if utf8.RuneCountInString(text) > shownText {
		text = begin(text, shownText-1)
	}
	return text
}

func (a arrow) tip() string {
	switch {
	case a.risky:
		return "risk"
	case a.way:
		return "way"
	}
	return "plain"
}

// path returns the line of an arrow: straight to the box below, in a bow past others, and from side to side
// between columns.
func (a arrow) path() string {
	x, y := a.from.left(), a.from.middle()
	tox, toy := a.to.left(), a.to.middle()
	switch {
	case a.from.column == a.to.column && a.to.box == a.from.box+1:
		return fmt.Sprintf("M%d %dV%d", x+boxWidth/2, a.from.top()+boxHeight, a.to.top()-2)
	case a.from.column == a.to.column && a.from.box < a.to.box:
		bow := min(edgeSpace-8, 14+7*(a.to.box-a.from.box))
		return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x, y, x-bow, y, x-bow, toy, tox-2, toy)
	case a.from.column == a.to.column: // to an older one
		return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x+boxWidth, y, x+boxWidth+edgeSpace-8, y, x+boxWidth+edgeSpace-8, toy, tox+boxWidth+2, toy)
	case a.from.column > a.to.column:
		return fmt.Sprintf("M%d %dL%d %d", x, y, tox+boxWidth+2, toy)
	}
	middle := (x + boxWidth + tox) / 2
	return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x+boxWidth, y, middle, y, middle, toy, tox-2, toy)
}
