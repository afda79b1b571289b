package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLinks: which connections to a service are used again.
func TestLinks(t *testing.T) {
	t.Parallel()
	const (
		ok   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	)
	for name, c := range map[string]struct {
		first string // sent as one record for the first request on a connection
		later string // then as another, while the connection is idle
		again string // for every further request on it; "" hangs up
		conns int64  // for three requests
	}{
		"used again":                   {first: ok, again: ok, conns: 1},
		"an answer that nobody wanted": {first: ok + evil, again: ok, conns: 3},
		"one that comes later":         {first: ok, later: evil, again: ok, conns: 3},
		"half of one":                  {first: ok + "HTTP/1.1 2", again: ok, conns: 3},
		"closed when it is used again": {first: ok, conns: 3},
		"asked to be closed":           {first: strings.Replace(ok, "\r\n", "\r\nConnection: close\r\n", 1), again: ok, conns: 3},
		"chunked":                      {first: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", again: ok, conns: 1},
		"interim answers":              {first: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok, again: ok, conns: 1},
	} {
		w := newWorld(t)
		var conns atomic.Int64
		sent := make(chan struct{}, 16)
		w.serveRaw("api.openai.com", func(conn *tls.Conn, br *bufio.Reader) {
			conns.Add(1)
			for i := 0; ; i++ {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				text := c.first
				if i > 0 {
					text = c.again
				}
				_, _ = io.WriteString(conn, text)
				if i == 0 && c.later != "" {
					time.Sleep(20 * time.Millisecond)
					_, _ = io.WriteString(conn, c.later)
				}
				sent <- struct{}{}
				if text == "" {
					return
				}
			}
		})
		client := w.client("h1")
		for i := range 3 {
			if body := text(t, w.get(client, "https://api.openai.com/")); body != "ok" {
				t.Errorf("%s: request %d got %q", name, i, body)
			}
			<-sent
			if name == "closed when it is used again" && i > 0 {
				<-sent // the one that was hung up on
			}
			time.Sleep(25 * time.Millisecond) // what was sent is there
		}
		if n := conns.Load(); n != c.conns {
			t.Errorf("%s: %d connections for three requests, want %d", name, n, c.conns)
		}
	}
}

// TestLinksRepeatNothingThatActs: a request that may have been carried out is
// not sent a second time.
func TestLinksRepeatNothingThatActs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var posts atomic.Int64
	w.serveRaw("api.openai.com", func(conn *tls.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if r.Method == http.MethodPost {
				posts.Add(1)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	client := w.client("h1")
	if body := text(t, w.get(client, "https://api.openai.com/")); body != "ok" {
		t.Fatal(body)
	}
	problem(t, w.do(client, "POST", "https://api.openai.com/", nil), http.StatusBadGateway, "upstream_unreachable")
	if n := posts.Load(); n != 1 {
		t.Errorf("the service got %d POSTs", n)
	}
}
