package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
)

// fields of a header without those that are of no interest.
func fieldsOf(e h2event) []string {
	list := slices.DeleteFunc(slices.Clone(e.fields), func(f string) bool { return strings.HasPrefix(f, "date: ") })
	slices.Sort(list)
	return list
}

// TestH2Ignored: what means nothing is passed over (RFC 9113, sections 4.1, 5.3.2,
// 5.5 and 6.5.2).
func TestH2Ignored(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(p *h2peer){
		"4.1 flags without a meaning":           func(p *h2peer) { p.frame(http2.FramePing, 0xfe, 0, "12345678") },
		"4.1 the reserved bit":                  func(p *h2peer) { p.raw("\x00\x00\x04\x08\x00\x80\x00\x00\x00\x00\x00\x00\x01") },
		"5.1 PRIORITY of an idle stream":        func(p *h2peer) { p.frame(http2.FramePriority, 0, 9, "\x00\x00\x00\x00\x01") },
		"5.1 WINDOW_UPDATE of an ended stream":  func(p *h2peer) { p.fine(1); p.check(p.fr.WriteWindowUpdate(1, 5)) },
		"5.1 RST_STREAM of an ended stream":     func(p *h2peer) { p.fine(1); p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel)) },
		"5.3.1 a stream that depends on itself": func(p *h2peer) { p.frame(http2.FramePriority, 0, 9, "\x80\x00\x00\x09\x01") },
		"5.5 a type that nobody knows":          func(p *h2peer) { p.frame(0xbe, 0xff, 77, "anything") },
		"6.2 a header with priority and padding": func(p *h2peer) {
			p.frame(http2.FrameHeaders, 5|8|0x20, 1, "\x02\x80\x00\x00\x01\x07"+p.block(get()...)+"\x00\x00")
			p.reply(1)
		},
		"6.5.2 a setting that nobody knows": func(p *h2peer) { p.check(p.fr.WriteSettings(http2.Setting{ID: 0xfafa, Val: 7})) },
		"6.7 a PING that is an answer":      func(p *h2peer) { p.check(p.fr.WritePing(true, [8]byte{1})) },
		"6.10 an empty CONTINUATION": func(p *h2peer) {
			p.frame(http2.FrameHeaders, 1, 1, p.block(get()...))
			p.frame(http2.FrameContinuation, 0, 1, "")
			p.frame(http2.FrameContinuation, 4, 1, "")
			p.reply(1)
		},
		"RFC 9218, 7.1 PRIORITY_UPDATE": func(p *h2peer) { p.frame(0x10, 0, 0, "\x00\x00\x00\x01u=1") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := dialH2(t, ok)
				send(p)
				p.fine(11)
			})
		})
	}
}

// TestH2Acknowledges each SETTINGS and PING (sections 6.5.3 and 6.7), and says
// what it allows.
func TestH2Acknowledges(t *testing.T) {
	t.Parallel()
	p := newH2Peer(t, ok)
	e := <-p.events
	if e.kind != http2.FrameSettings || e.flags != 0 {
		t.Errorf("the first frame is %v", e)
	}
	p.raw(http2.ClientPreface)
	for range 3 {
		p.check(p.fr.WriteSettings())
		for e = range p.events {
			if e.kind == http2.FrameSettings {
				break
			}
		}
		if e.flags != http2.FlagSettingsAck {
			t.Errorf("got %v", e)
		}
	}
	p.check(p.fr.WritePing(false, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}))
	if e := p.want(http2.FramePing); e.flags != http2.FlagPingAck || !bytes.Equal(e.data, []byte{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("got %v", e)
	}
}

// TestH2Answers: how answers of every kind are framed.
func TestH2Answers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef", 4<<10)
	reset := func(c http2.ErrCode) *http2.ErrCode { return &c }
	for name, tt := range map[string]struct {
		handler  http.HandlerFunc
		request  []string
		open     bool // the request does not end
		header   []string
		body     string
		trailers []string
		reset    *http2.ErrCode
		frames   int // of DATA; 0 does not count
	}{
		"nothing": {handler: func(http.ResponseWriter, *http.Request) {}, header: []string{":status: 200", "content-length: 0"}},
		"length": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			_, _ = io.WriteString(w, "abc")
		}, header: []string{":status: 200", "content-length: 3"}, body: "abc", frames: 1},
		"unknown length": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			_, _ = io.WriteString(w, "bc")
		}, header: []string{":status: 200"}, body: "abc"},
		"long":    {handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, long) }, header: []string{":status: 200"}, body: long},
		"flushed": {handler: func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() }, header: []string{":status: 200"}},
		"HEAD": {
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "3")
				_, _ = io.WriteString(w, "abc")
			},
			request: []string{":method", "HEAD", ":scheme", "https", ":path", "/"}, header: []string{":status: 200", "content-length: 3"},
		},
		"204": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(204)
			_, _ = io.WriteString(w, "abc")
		}, header: []string{":status: 204"}},
		"304": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			w.WriteHeader(304)
		}, header: []string{":status: 304", "content-length: 3"}},
		"an unusual status": {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(799) }, header: []string{":status: 799", "content-length: 0"}},
		"a length that is none": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "x")
			_, _ = io.WriteString(w, "abc")
		}, header: []string{":status: 200"}, body: "abc"},
		"8.1 trailers": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "abc")
			w.Header()[http.TrailerPrefix+"X-Sum"] = []string{"1", "2"}
			w.Header()[http.TrailerPrefix+"Content-Length"] = []string{"7"} // is no trailer
		}, header: []string{":status: 200"}, body: "abc", trailers: []string{"x-sum: 1", "x-sum: 2"}},
		"8.1 trailers alone": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()[http.TrailerPrefix+"Grpc-Status"] = []string{"0"}
		}, header: []string{":status: 200"}, trailers: []string{"grpc-status: 0"}},
		"8.2 names and values": {handler: func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			for name, value := range map[string]string{"X-Odd_Name.": " a\t", "x y": "b", "X-Cr": "a\r\nb: c", "": "d", "X-Latin": "\xe9"} {
				h[name] = []string{value}
			}
			w.WriteHeader(204)
		}, header: []string{":status: 204", "x-latin: \xe9", "x-odd_name.: a"}},
		"8.2.2 fields of a connection": {handler: func(w http.ResponseWriter, _ *http.Request) {
			for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
				w.Header().Set(name, "x")
			}
			w.WriteHeader(204)
		}, header: []string{":status: 204"}},
		"8.6 no 101":                         {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(101); w.WriteHeader(204) }, header: []string{":status: 204"}},
		"8.1 before the request has ended":   {open: true, handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(413); _, _ = io.WriteString(w, "no") }, header: []string{":status: 413"}, body: "no", reset: reset(http2.ErrCodeNo)},
		"8.1 an early answer without a body": {open: true, handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, header: []string{":status: 204"}, reset: reset(http2.ErrCodeNo)},
		"broken off": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "ab")
			panic(http.ErrAbortHandler)
		}, header: []string{":status: 200"}, body: "ab", reset: reset(http2.ErrCodeInternal)},
		"broken off at the start": {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, reset: reset(http2.ErrCodeInternal)},
		"a panic":                 {handler: func(http.ResponseWriter, *http.Request) { panic("oh") }, reset: reset(http2.ErrCodeInternal)},
		"shorter than announced": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			_, _ = io.WriteString(w, "ab")
		}, header: []string{":status: 200", "content-length: 3"}, body: "ab", reset: reset(http2.ErrCodeInternal)},
		"longer than announced": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			_, _ = io.WriteString(w, "abc")
			if _, err := io.WriteString(w, "d"); !errors.Is(err, errTooLong) {
				panic(err)
			}
		}, header: []string{":status: 200", "content-length: 3"}, body: "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := dialH2(t, tt.handler)
				if tt.request == nil {
					tt.request = get()
				}
				p.headers(1, !tt.open, tt.request...)
				r := p.reply(1)
				if tt.open && r.whole {
					e := p.next()
					r.reset = &e.code
				}
				if d := cmp.Diff(tt.header, fieldsOf(r.header)); d != "" {
					t.Error(d)
				}
				if string(r.body) != tt.body || !slices.Equal(r.trailers, tt.trailers) {
					t.Errorf("%d bytes of body, trailers %q", len(r.body), r.trailers)
				}
				if (r.reset == nil) != (tt.reset == nil) || r.reset != nil && *r.reset != *tt.reset {
					t.Errorf("reset %v, want %v", r.reset, tt.reset)
				}
				// The stream has ended with the last frame that it needs.
				synctest.Wait()
				select {
				case e := <-p.events:
					if e.kind != http2.FrameWindowUpdate {
						t.Errorf("and then %v", e)
					}
				default:
				}
			})
		})
	}
}

// TestH2SmallAnswersLeaveAsOne: header and body of a short answer end the stream
// without a frame of their own for the end.
func TestH2SmallAnswersLeaveAsOne(t *testing.T) {
	t.Parallel()
	p := dialH2(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "abc") })
	p.headers(1, true, get()...)
	if e := p.next(); e.kind != http2.FrameHeaders || e.ended {
		t.Errorf("first %v", e)
	}
	if e := p.next(); e.kind != http2.FrameData || !e.ended || string(e.data) != "abc" {
		t.Errorf("then %v", e)
	}
}

// TestH2Interim: 1xx answers leave at once, before the final one (RFC 9110,
// section 15.2).
func TestH2Interim(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := dialH2(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(103)
		clear(w.Header())
		<-release
		w.WriteHeader(204)
		w.WriteHeader(103) // too late
	})
	p.headers(1, true, get()...)
	if e := p.next(); !slices.Equal(e.fields, []string{":status: 103", "link: </a>"}) || e.ended {
		t.Errorf("first %v", e)
	}
	close(release)
	if r := p.reply(1); r.header.status() != "204" || !r.whole || r.interim != nil {
		t.Errorf("then %+v", r)
	}
}

// TestH2Continue: a child that waits for a 100 gets it when its body is wanted,
// and only then; the handler does not see that it waits.
func TestH2Continue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := dialH2(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header["Expect"] != nil {
				panic("Expect is shown")
			}
			if r.URL.Path != "/refuse" {
				ok(w, r)
				return
			}
			w.WriteHeader(417)
			_ = http.NewResponseController(w).Flush()
			_, _ = r.Body.Read(make([]byte, 1)) // must not ask any more
		})
		p.headers(1, false, post("expect", "100-continue")...)
		if e := p.next(); !slices.Equal(e.fields, []string{":status: 100"}) {
			t.Errorf("first %v", e)
		}
		p.data(1, true, "abc")
		if r := p.reply(1); string(r.body) != "3" {
			t.Errorf("then %+v", r)
		}
		p.headers(3, false, ":method", "POST", ":scheme", "https", ":path", "/refuse", "expect", "100-Continue")
		if e := p.next(); e.status() != "417" {
			t.Errorf("first %v", e)
		}
		p.data(3, true, "abc")
		if e := p.next(); !e.ended {
			t.Errorf("then %v", e)
		}
	})
}

// TestH2RequestTrailers: those that were announced come with the end of the body.
func TestH2RequestTrailers(t *testing.T) {
	t.Parallel()
	p := dialH2(t, func(w http.ResponseWriter, r *http.Request) {
		before := fmt.Sprint(r.Trailer, r.Header["Trailer"])
		body, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %v %v", before, body, err, r.Trailer)
	})
	p.headers(1, false, post("trailer", "x-sum, x-other,content-length")...)
	p.data(1, false, "abc")
	p.headers(1, true, "x-sum", "7", "x-unannounced", "8")
	if r := p.reply(1); string(r.body) != "map[X-Other:[] X-Sum:[]] [] abc <nil> map[X-Other:[] X-Sum:[7]]" {
		t.Errorf("%s", r.body)
	}
}

// TestH2ContextEnds with the stream, or the connection, and reading and writing
// with it.
func TestH2ContextEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *h2peer){
		"6.4 RST_STREAM": func(p *h2peer) { p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel)) },
		"the connection": func(p *h2peer) { _ = p.conn.Close() },
		"its own error":  func(p *h2peer) { p.frame(http2.FramePing, 0, 0, "") },
		"the stream's":   func(p *h2peer) { p.check(p.fr.WriteWindowUpdate(1, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan error, 3)
				p := dialH2(t, func(w http.ResponseWriter, r *http.Request) {
					go func() {
						_, err := io.Copy(io.Discard, r.Body)
						ended <- err
					}()
					for {
						if _, err := w.Write(make([]byte, 1000)); err != nil {
							ended <- err
							break
						}
					}
					<-r.Context().Done()
					ended <- r.Context().Err()
				})
				p.headers(1, false, post()...)
				p.data(1, false, "abc")
				synctest.Wait() // both wait, the writer for its window
				end(p)
				for range 3 {
					if err := <-ended; err == nil {
						t.Error("it ended well")
					}
				}
				synctest.Wait()
				if name == "6.4 RST_STREAM" {
					p.fine2(3)
				}
			})
		})
	}
}

// fine2 sends a request that is reset as soon as its answer begins.
func (p *h2peer) fine2(id uint32) {
	p.t.Helper()
	p.headers(id, false, post()...)
	for e := p.want(http2.FrameHeaders); e.id != id; {
		e = p.want(http2.FrameHeaders)
	}
	p.check(p.fr.WriteRSTStream(id, http2.ErrCodeCancel))
}

// TestH2ManyStreams: as many as are allowed run at once, one more is refused so
// that it can be sent again (sections 5.1.2 and 8.7), and those that are reset
// make place.
func TestH2ManyStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := dialH2(t, func(w http.ResponseWriter, _ *http.Request) { <-release })
		for i := range uint32(h2MaxStreams) {
			p.headers(2*i+1, true, get()...)
		}
		synctest.Wait()
		p.headers(2*h2MaxStreams+1, true, get()...)
		if e := p.next(); e.kind != http2.FrameRSTStream || e.id != 2*h2MaxStreams+1 || e.code != http2.ErrCodeRefusedStream {
			t.Errorf("got %v", e)
		}
		// The handler of one that is reset still runs, so the next waits.
		p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel))
		p.headers(2*h2MaxStreams+3, true, get()...)
		synctest.Wait()
		p.c.mu.Lock()
		if p.c.running != h2MaxStreams || len(p.c.pending) != 1 {
			t.Errorf("%d run and %d wait", p.c.running, len(p.c.pending))
		}
		p.c.mu.Unlock()
		close(release)
		for range h2MaxStreams {
			if e := p.want(http2.FrameHeaders); e.status() != "200" {
				t.Errorf("got %v", e)
			}
		}
		synctest.Wait()
		if p.c.running != 0 || len(p.c.streams) != 0 {
			t.Errorf("%d handlers and %d streams are left", p.c.running, len(p.c.streams))
		}
	})
}
