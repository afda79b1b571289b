package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// holder is the process that has a port. Its zero fields could not be told.
type holder struct {
	PID     int
	Program string // base name of the executable
	UID     int    // -1 when unknown
	// Version is set when the holder answers as an authsome does, this one or
	// the Python one.
	Version string
}

// String says who it is, for people.
func (h holder) String() string {
	who := "another process"
	switch {
	case h.PID != 0 && h.Program != "":
		who = fmt.Sprintf("process %d (%s)", h.PID, h.Program)
	case h.PID != 0:
		who = fmt.Sprintf("process %d", h.PID)
	case h.UID >= 0:
		who = fmt.Sprintf("a process of user %d", h.UID)
	}
	if h.Version != "" {
		who += ", the daemon of another authsome"
	}
	return who
}

// browserPort is the listener for browsers.
type browserPort struct {
	ln *net.TCPListener
	// note says why it is not on the port that was asked for; "" when it is.
	note string
}

func (b *browserPort) port() int { return b.ln.Addr().(*net.TCPAddr).Port }

func (b *browserPort) host() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port())) }

// listenBrowser listens on the port for browsers, or, when that is taken, on
// the one that this home had last (a form may be open there), or on any. The
// callbacks of OAuth need the port that was asked for; forms do not.
func listenBrowser(ctx context.Context, port, last int) (*browserPort, error) {
	ln, err := listenLoopback(port)
	if err == nil {
		return &browserPort{ln: ln}, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
		return nil, authsome.E(authsome.Internal, "listen on 127.0.0.1:%d for the browser: %w", port, err)
	}
	why := "may not be used by this user"
	if errors.Is(err, syscall.EADDRINUSE) {
		why = "is held by " + findHolder(ctx, port).String()
	}
	ln, err = listenLoopback(last)
	if err != nil {
		ln, err = listenLoopback(0)
	}
	if err != nil {
		return nil, authsome.E(authsome.Internal, "listen on 127.0.0.1 for the browser: %w", err)
	}
	b := &browserPort{ln: ln}
	b.note = fmt.Sprintf("port %d %s; this home's pages are on port %d", port, why, b.port())
	return b, nil
}

func listenLoopback(port int) (*net.TCPListener, error) {
	return net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
}

// findHolder finds out who listens on a port of 127.0.0.1.
func findHolder(ctx context.Context, port int) holder {
	h := portHolder(ctx, port)
	if h.PID != 0 && h.Program == "" {
		h.Program = programOf(h.PID)
	}
	h.Version = askVersion(ctx, port)
	return h
}

// askVersion asks whoever listens there whether it is an authsome. Nothing is
// believed but the wording of a note.
func askVersion(ctx context.Context, port int) string {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/health", port), nil)
	if err != nil {
		return ""
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	var health api.Health
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil || json.Unmarshal(data, &health) != nil || health.Status != "ok" {
		return ""
	}
	return health.Version
}
