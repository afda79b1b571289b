package cli

import (
	"cmp"
	"context"
	"net/url"
	"runtime"
	"strings"

	"github.com/authsome/authsome/api"
	"golang.org/x/term"
	"rsc.io/qr"
)

// device shows the code that the person enters at the service, on any device
// (RFC 8628).
func (g *guide) device(ctx context.Context, l api.Login) (api.Login, error) {
	if !plainHTTPS(l.VerificationURL) || l.UserCode == "" {
		return g.unsafeAddress(l)
	}
	direct := l.VerificationURL
	if complete := l.VerificationURLComplete; plainHTTPS(complete) && sameHost(complete, direct) {
		direct = complete
	}
	g.tell("Visit: %s", l.VerificationURL)
	g.tell("Code:  %s", l.UserCode)
	if code := g.drawn(direct); code != "" {
		_, _ = g.Stderr.WriteString(code)
	}
	if g.o.flow == "" {
		// Who chose this flow has another device in mind.
		g.openFor(direct)
	}
	return g.wait(ctx, l, "Waiting until the code is entered there.")
}

func sameHost(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	return errA == nil && errB == nil && ua.Host == ub.Host
}

// maxQR bounds what is drawn, in bytes: more needs a screen that nobody has.
const maxQR = 512

// drawn is an address as a QR code for a camera, where the terminal can show
// one; "" where it cannot.
func (a *app) drawn(address string) string {
	if a.opt.json || a.opt.quiet || len(address) > maxQR || a.getenv("TERM") == "dumb" || !a.unicode() || !term.IsTerminal(int(a.Stderr.Fd())) {
		return ""
	}
	code, err := qr.Encode(address, qr.L)
	if err != nil {
		return ""
	}
	text := drawQR(code, a.colours(a.Stderr))
	width, height, err := term.GetSize(int(a.Stderr.Fd()))
	if err != nil || width < code.Size+2*quietZone || height <= strings.Count(text, "\n") {
		return ""
	}
	return text
}

// unicode reports whether the terminal shows block elements.
func (a *app) unicode() bool {
	if runtime.GOOS == "windows" {
		return true
	}
	locale := strings.ToLower(cmp.Or(a.getenv("LC_ALL"), a.getenv("LC_CTYPE"), a.getenv("LANG")))
	return strings.HasSuffix(locale, "utf-8") || strings.HasSuffix(locale, "utf8")
}

// quietZone is the light border that a QR code needs, in modules (ISO/IEC 18004,
// section 6.3.8).
const quietZone = 4

// drawQR draws a code with two modules to a character, one above the other. With
// colours it is black on white whatever the terminal's own; without, light
// modules are drawn in the foreground's colour, which is the lighter one on most.
func drawQR(code *qr.Code, colours bool) string {
	// By lower and upper module, dark or not.
	blocks, begin, end := []string{" ", "▀", "▄", "█"}, "\x1b[30;47m", "\x1b[0m"
	if !colours {
		blocks, begin, end = []string{"█", "▄", "▀", " "}, "", ""
	}
	var b strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		b.WriteString(begin)
		for x := -quietZone; x < code.Size+quietZone; x++ {
			i := 0
			if code.Black(x, y) {
				i = 1
			}
			if code.Black(x, y+1) {
				i |= 2
			}
			b.WriteString(blocks[i])
		}
		b.WriteString(end + "\n")
	}
	return b.String()
}
