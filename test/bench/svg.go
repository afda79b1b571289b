package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// A picture is a row of panels, each with one figure over the sizes of a curve:
// a logarithmic axis below, one from 0 on at the left, the medians joined, and
// the range of the rounds as a thin line.
const (
	panelWidth, panelHeight = 260.0, 200.0
	marginLeft, marginRight = 46.0, 18.0
	marginTop, marginBottom = 34.0, 42.0
)

// style also holds in a dark page.
const style = `text{font:11px system-ui,sans-serif;fill:#57606a}.t{font-weight:600;fill:#1f2328}.g{stroke:#d0d7de;stroke-width:1}` +
	`.r{stroke:#0969da;stroke-width:1;opacity:.5}.l{fill:none;stroke:#0969da;stroke-width:2}.p{fill:#0969da}` +
	`@media(prefers-color-scheme:dark){text{fill:#9198a1}.t{fill:#f0f6fc}.g{stroke:#3d444d}.r,.l{stroke:#4493f8}.p{fill:#4493f8}}`

// panel is one figure.
type panel struct {
	title string
	scale float64 // to its unit
	of    func(sample) float64
}

var panels = []panel{
	{"thousand requests/s", 1e-3, rateOf},
	{"p99, ms", 1e-3, p99Of},
	{"CPU, ms per 1,000 requests", 1e6, costOf},
}

// draw makes a curve's picture.
func draw(c curve, points []*point) []byte {
	var b strings.Builder
	width := panelWidth * float64(len(panels))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" role="img">`+"\n", width, panelHeight, width, panelHeight)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>%s</style>\n", html.EscapeString("Rate, p99 and CPU with 1 to "+thousands(points[len(points)-1].size)+" "+c.what), style)
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%.0f 0)">`+"\n", panelWidth*float64(i))
		p.draw(&b, c, points)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func (p panel) draw(b *strings.Builder, c curve, points []*point) {
	high := 0.0
	for _, at := range points {
		for _, s := range at.samples {
			high = max(high, p.of(s)*p.scale)
		}
	}
	step := niceStep(high)
	top := step * math.Ceil(high/step)
	decades := max(1, math.Log10(float64(points[len(points)-1].size)))
	x := func(size int) float64 {
		return marginLeft + (panelWidth-marginLeft-marginRight)*math.Log10(float64(size))/decades
	}
	y := func(v float64) float64 {
		return panelHeight - marginBottom - (panelHeight-marginTop-marginBottom)*v/top
	}
	text := func(class string, x, y float64, anchor, s string) {
		fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor, html.EscapeString(s))
	}
	text("t", marginLeft, 16, "start", p.title)
	for v := 0.0; v <= top+step/2; v += step {
		fmt.Fprintf(b, `<line class="g" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", marginLeft, y(v), panelWidth-marginRight, y(v))
		text("", marginLeft-6, y(v)+4, "end", strconv.FormatFloat(v, 'g', 4, 64))
	}
	var line []string
	for _, at := range points {
		low, high := math.Inf(1), 0.0
		for _, s := range at.samples {
			low, high = min(low, p.of(s)*p.scale), max(high, p.of(s)*p.scale)
		}
		mid := at.median(p.of) * p.scale
		fmt.Fprintf(b, `<line class="r" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", x(at.size), y(low), x(at.size), y(high))
		fmt.Fprintf(b, `<circle class="p" cx="%.1f" cy="%.1f" r="3"/>`+"\n", x(at.size), y(mid))
		line = append(line, fmt.Sprintf("%.1f,%.1f", x(at.size), y(mid)))
		text("", x(at.size), panelHeight-marginBottom+16, "middle", short(at.size))
	}
	fmt.Fprintf(b, `<polyline class="l" points="%s"/>`+"\n", strings.Join(line, " "))
	text("", (marginLeft+panelWidth-marginRight)/2, panelHeight-8, "middle", c.what)
}

// niceStep divides an axis into 3 to 6 parts of 1, 2 or 5 times a power of ten.
func niceStep(high float64) float64 {
	if high <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(high)))
	for _, f := range []float64{.2, .5, 1} {
		if high/(unit*f) <= 6 {
			return unit * f
		}
	}
	return 2 * unit
}

// short writes a size on an axis.
func short(n int) string {
	switch {
	case n >= 1_000_000:
		return strconv.Itoa(n/1_000_000) + "M"
	case n >= 1000:
		return strconv.Itoa(n/1000) + "k"
	default:
		return strconv.Itoa(n)
	}
}
