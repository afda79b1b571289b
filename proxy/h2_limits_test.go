package proxy

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// until sends until the connection is given up, and gives the code and how often
// that was.
func (p *h2peer) until(send func(i int) error) (http2.ErrCode, int) {
	p.t.Helper()
	for i := range 1 << 20 {
		p.check(send(i))
		synctest.Wait()
		for len(p.events) > 0 {
			if e := <-p.events; e.kind == http2.FrameGoAway {
				return e.code, i
			}
		}
	}
	p.t.Fatal("all was taken")
	return 0, 0
}

// TestH2Floods end the connection: what costs the child little and us much, and
// what makes us remember ever more.
func TestH2Floods(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		most int // that may be taken
		send func(p *h2peer, i int) error
	}{
		"resets at once (CVE-2023-44487)": {h2MaxPending + 2*h2MaxStreams, func(p *h2peer, i int) error {
			id := uint32(2*i + 1)
			return errors.Join(p.fr.WriteRawFrame(http2.FrameHeaders, 5, id, []byte(p.block(get()...))), p.fr.WriteRSTStream(id, http2.ErrCodeCancel))
		}},
		"malformed requests": {h2Burst, func(p *h2peer, i int) error {
			return p.fr.WriteRawFrame(http2.FrameHeaders, 5, uint32(2*i+1), []byte(p.block("x", "y")))
		}},
		"errors that reset streams (CVE-2025-8671)": {h2Burst, func(p *h2peer, i int) error {
			id := uint32(2*i + 1)
			return errors.Join(p.fr.WriteRawFrame(http2.FrameHeaders, 4, id, []byte(p.block(post()...))), p.fr.WriteWindowUpdate(id, 0))
		}},
		"settings (CVE-2019-9515)": {h2Burst, func(p *h2peer, i int) error { return p.fr.WriteSettings() }},
		"empty DATA (CVE-2019-9518)": {h2Burst + 1, func(p *h2peer, i int) error {
			if i == 0 {
				return p.fr.WriteRawFrame(http2.FrameHeaders, 4, 1, []byte(p.block(post()...)))
			}
			return p.fr.WriteData(1, false, nil)
		}},
		"empty CONTINUATION (CVE-2024-27316)": {h2MaxContinuations + 1, func(p *h2peer, i int) error {
			if i == 0 {
				return p.fr.WriteRawFrame(http2.FrameHeaders, 0, 1, []byte(p.block(get()...)))
			}
			return p.fr.WriteContinuation(1, false, nil)
		}},
		"long CONTINUATION (CVE-2024-27316)": {2*h2MaxHeaders/16000 + 1, func(p *h2peer, i int) error {
			b := []byte("\x00\x01x\x7f\x81\x7c" + strings.Repeat("x", 16000)) // a literal of 127+1+124*128 bytes
			if i == 0 {
				return p.fr.WriteRawFrame(http2.FrameHeaders, 0, 1, b)
			}
			return p.fr.WriteContinuation(1, false, b)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := dialH2(t, func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					time.Sleep(time.Second) // it takes handlers a while to notice
				})
				code, n := p.until(func(i int) error { return tt.send(p, i) })
				if code != http2.ErrCodeEnhanceYourCalm || n < tt.most/2 || n > tt.most+1 {
					t.Errorf("the connection ended with %v after %d", code, n)
				}
				p.c.mu.Lock()
				if p.c.running > h2MaxStreams || len(p.c.pending) > h2MaxPending+1 {
					t.Errorf("%d handlers run and %d wait", p.c.running, len(p.c.pending))
				}
				p.c.mu.Unlock()
				<-p.stopped
			})
		})
	}
}

// TestH2PingsOfOneThatDoesNotRead (CVE-2019-9512): the answers are not kept for
// ever.
func TestH2PingsOfOneThatDoesNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newMuteH2Peer(t, ok)
		for range 2 * h2MaxControl {
			if p.fr.WritePing(false, [8]byte{}) != nil {
				break
			}
		}
		<-p.stopped
		if n := cap(p.c.out); n > h2Big {
			t.Errorf("%d bytes were kept", n)
		}
	})
}

// TestH2AnswersOfOneThatDoesNotRead: handlers wait, and hold what they have.
func TestH2AnswersOfOneThatDoesNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var wrote atomic.Int64
		p := newMuteH2Peer(t, func(w http.ResponseWriter, _ *http.Request) {
			for {
				n, err := w.Write(make([]byte, 1000))
				if err != nil {
					return
				}
				wrote.Add(int64(n))
			}
		})
		p.check(p.fr.WriteWindowUpdate(0, 1<<30))
		for i := range uint32(100) {
			p.headers(2*i+1, true, get()...)
			p.check(p.fr.WriteWindowUpdate(2*i+1, 1<<30))
		}
		synctest.Wait()
		if n := wrote.Load(); n == 0 || n > 3*h2Big {
			t.Errorf("%d bytes were taken", n)
		}
		// PINGs are taken all the same, so the goroutine that reads goes on.
		p.check(p.fr.WritePing(false, [8]byte{}))
		_ = p.conn.Close()
		<-p.stopped
		synctest.Wait()
	})
}

// newMuteH2Peer has sent its preface and reads nothing.
func newMuteH2Peer(t testing.TB, h http.HandlerFunc) *h2peer {
	p := newH2PeerThat(t, h, false)
	p.raw(http2.ClientPreface)
	p.check(p.fr.WriteSettings())
	return p
}

// TestH2HeaderTooLong: it is answered, and the connection goes on, since the table
// of HPACK has been kept.
func TestH2HeaderTooLong(t *testing.T) {
	t.Parallel()
	p := dialH2(t, ok)
	fields := get("x-new", "in the table")
	for range 70 {
		fields = append(fields, "x-long", strings.Repeat("~", 15<<10)) // no Huffman code is shorter
	}
	block := p.block(fields...)
	flags := http2.FlagHeadersEndStream
	kind := http2.FrameHeaders
	for len(block) > h2FrameSize {
		p.frame(kind, flags, 1, block[:h2FrameSize])
		block, kind, flags = block[h2FrameSize:], http2.FrameContinuation, 0
	}
	p.frame(http2.FrameContinuation, 4, 1, block)
	r := p.reply(1)
	if r.header.status() != "431" || !strings.Contains(string(r.body), `"header_too_large"`) {
		t.Errorf("%+v %s", r.header, r.body)
	}
	p.headers(3, true, get("x-new", "in the table")...)
	if r := p.reply(3); r.header.status() != "200" {
		t.Errorf("%+v", r)
	}
}

// TestH2ManyCookies: a cookie costs a byte on the wire, so that thousands of them must not
// be put together one by one (section 8.2.3).
func TestH2ManyCookies(t *testing.T) {
	const n = 10000
	b := h2block{hold: func(int) {}, full: func() bool { return false }}
	for fields := get(); len(fields) > 0; fields = fields[2:] {
		b.add(hpack.HeaderField{Name: fields[0], Value: fields[1]})
	}
	for range n {
		b.add(hpack.HeaderField{Name: "cookie", Value: "a=b"})
	}
	if r, _, ok := b.request(); !ok || r.Header.Get("Cookie") != "a=b"+strings.Repeat("; a=b", n-1) {
		t.Errorf("%d cookies are %v, %.40v", n, ok, r.Header)
	}
	if allocs := testing.AllocsPerRun(1, func() { b.request() }); allocs > n/10 {
		t.Errorf("%v allocations for %d cookies", allocs, n)
	}
}

// TestH2SendWindows: no more is sent than the windows allow, and what they allow is
// (sections 5.2, 6.9.1 and 6.9.2), also when they become negative.
func TestH2SendWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := strings.Repeat("0123456789", 1000)
		p := dialH2(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		got := ""
		read := func(want int) {
			t.Helper()
			synctest.Wait()
			for done := false; !done; {
				select {
				case e := <-p.events:
					if e.kind == http2.FrameData {
						got += string(e.data)
					}
					if e.kind == http2.FrameRSTStream || e.kind == http2.FrameGoAway {
						t.Fatal(e)
					}
				default:
					done = true
				}
			}
			if got != body[:want] {
				t.Errorf("%d bytes came, want %d", len(got), want)
			}
		}
		p.headers(1, true, get()...)
		read(10)
		p.check(p.fr.WriteWindowUpdate(1, 1))
		read(11)
		p.check(p.fr.WriteWindowUpdate(0, 1000)) // is not the stream's
		read(11)
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 15}))
		read(16)
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
		p.check(p.fr.WriteWindowUpdate(1, 15)) // from -15 to 0
		read(16)
		p.check(p.fr.WriteWindowUpdate(1, 4))
		read(20)
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
		read(len(body))
		// The connection's window is what is left of it.
		got = ""
		left := h2Window + 1000 - len(body)
		body = strings.Repeat("x", 1<<20)
		p.headers(3, true, get()...)
		read(left)
		p.check(p.fr.WriteWindowUpdate(0, 7))
		read(left + 7)
		p.check(p.fr.WriteWindowUpdate(0, 1<<20))
		read(len(body))
	})
}

// TestH2OneStreamDoesNotStopOthers: one whose window is used up waits alone.
func TestH2OneStreamDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := dialH2(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
		p.headers(1, true, ":method", "GET", ":scheme", "https", ":path", "/long")
		synctest.Wait()
		p.fine(3)
		p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel))
		p.fine(5)
	})
}

// TestH2ReceiveWindows: a body of any length comes through, whoever reads it, and
// those that nobody reads stop neither others nor take more than the windows.
func TestH2ReceiveWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := dialH2(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/unread" {
				<-r.Context().Done()
				return
			}
			ok(w, r)
		})
		stream, conn := map[uint32]int{}, h2Window
		// send sends n bytes as the windows allow, and gives what it could not.
		send := func(id uint32, n int, ended bool) int {
			t.Helper()
			for {
				synctest.Wait()
				for len(p.events) > 0 {
					e := <-p.events
					switch {
					case e.kind == http2.FrameWindowUpdate && e.id == 0:
						conn += int(e.n)
					case e.kind == http2.FrameWindowUpdate:
						stream[e.id] += int(e.n)
					case e.kind == http2.FrameGoAway, e.kind == http2.FrameRSTStream:
						t.Fatal(e)
					}
				}
				size := min(n, conn, stream[id], h2FrameSize)
				if n == 0 || size <= 0 {
					return n
				}
				n -= size
				conn -= size
				stream[id] -= size
				p.data(id, ended && n == 0, strings.Repeat("x", size))
			}
		}
		open := func(id uint32, path string) {
			stream[id] = h2StreamWindow
			p.headers(id, false, ":method", "POST", ":scheme", "https", ":path", path)
		}
		open(1, "/unread")
		open(3, "/unread")
		if left := send(1, 1<<20, false); left != 1<<20-h2StreamWindow {
			t.Errorf("%d bytes of a body that nobody reads were taken", 1<<20-left)
		}
		send(3, 1<<20, false)
		open(5, "/")
		if left := send(5, 10<<20, true); left != 0 {
			t.Fatalf("a body stopped %d bytes before its end", left)
		}
		for id := range []uint32{1, 3} {
			p.check(p.fr.WriteRSTStream(uint32(2*id+1), http2.ErrCodeCancel))
		}
		synctest.Wait()
		// All of the window is there again, but for what is given back late.
		for id := uint32(7); id < 27; id += 2 {
			open(id, "/unread")
			send(id, 100<<10, false)
			p.check(p.fr.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		synctest.Wait()
		if conn < h2ConnWindow/2-200<<10 {
			t.Errorf("%d bytes are left of the connection's window", conn)
		}
		// The same of those that end before they are read, and of padding.
		for id := uint32(27); id < 127; id += 2 {
			p.headers(id, false, ":method", "BAD METHOD", ":scheme", "https", ":path", "/")
			size := min(conn, 10<<10)
			conn -= size
			p.data(id, true, strings.Repeat("x", size))
			synctest.Wait()
			for len(p.events) > 0 {
				if e := <-p.events; e.kind == http2.FrameWindowUpdate && e.id == 0 {
					conn += int(e.n)
				} else if e.kind == http2.FrameGoAway {
					t.Fatal(e)
				}
			}
		}
		open(127, "/")
		for range 4000 {
			p.check(p.fr.WriteDataPadded(127, false, []byte("x"), make([]byte, 255)))
			for len(p.events) > 0 {
				if e := <-p.events; e.kind == http2.FrameGoAway || e.kind == http2.FrameRSTStream {
					t.Fatal(e)
				}
			}
			synctest.Wait()
		}
	})
}

// TestH2TableSize: the child's size of the table is held to, also when it changes
// (RFC 7541, section 4.2).
func TestH2TableSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := dialH2(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Same", "again and again") })
		id := uint32(1)
		for _, size := range []uint32{4096, 0, 100, 1 << 20, 0, 4096} {
			p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}, http2.Setting{ID: http2.SettingHeaderTableSize + 0x100, Val: 1}))
			p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}))
			for range 3 {
				p.headers(id, true, get()...)
				if r := p.reply(id); r.header.status() != "200" {
					t.Errorf("with %d: %v", size, r.header)
				}
				id += 2
			}
		}
	})
}

// TestH2LongAnswerHeader goes in several frames (section 6.10).
func TestH2LongAnswerHeader(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("~", 50<<10)
	p := dialH2(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Long", long)
		w.WriteHeader(204)
	})
	p.headers(1, true, get()...)
	if e := p.next(); !e.ended || e.flags&(http2.FlagHeadersEndHeaders<<4) == 0 || len(e.fields) != 3 {
		t.Errorf("%d fields, ended %v, flags %x", len(e.fields), e.ended, e.flags)
	}
	p.fine2(3)
}

// TestH2GoesAway: what is under way ends, and nothing new begins, when the child
// says so and when nothing has been asked for a while (sections 6.8 and 9.1).
func TestH2GoesAway(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(p *h2peer){
		"6.8 GOAWAY":  func(p *h2peer) { p.check(p.fr.WriteGoAway(0, http2.ErrCodeNo, nil)) },
		"on shutdown": func(p *h2peer) { p.c.closeIdle() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				p := dialH2(t, func(w http.ResponseWriter, r *http.Request) { <-release; ok(w, r) })
				p.headers(1, false, post()...)
				synctest.Wait()
				leave(p)
				if e := p.want(http2.FrameGoAway); e.code != http2.ErrCodeNo || e.n != 1 {
					t.Errorf("got %v", e)
				}
				p.headers(3, false, post()...) // is not served, and breaks nothing
				p.data(3, true, "abc")
				p.check(p.fr.WriteWindowUpdate(3, 1))
				p.data(1, true, "abc")
				time.Sleep(time.Minute)
				close(release)
				if r := p.reply(1); string(r.body) != "3" {
					t.Errorf("%+v", r)
				}
				if name == "on shutdown" {
					synctest.Wait()
					p.c.closeIdle()
				}
				<-p.stopped
				if e := p.next(); !e.over {
					t.Errorf("and then %v", e)
				}
			})
		})
	}
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := dialH2(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					time.Sleep(2 * idleTime)
				}
			})
			time.Sleep(idleTime - time.Second)
			p.headers(1, true, ":method", "GET", ":scheme", "https", ":path", "/slow")
			p.reply(1)
			began := time.Now()
			p.check(p.fr.WritePing(false, [8]byte{})) // does not count
			if e := p.want(http2.FrameGoAway); e.code != http2.ErrCodeNo {
				t.Errorf("got %v", e)
			}
			if took := time.Since(began); took < idleTime || took > idleTime+time.Minute {
				t.Errorf("closed after %s", took)
			}
			<-p.stopped
		})
	})
}

// TestH2SlowPeers who never finish what they began are dropped.
func TestH2SlowPeers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		send func(p *h2peer)
		life time.Duration
	}{
		"silent":         {func(*h2peer) {}, prefaceTime},
		"half a preface": {func(p *h2peer) { p.raw(http2.ClientPreface[:10]) }, prefaceTime},
		"no settings":    {func(p *h2peer) { p.raw(http2.ClientPreface) }, prefaceTime},
		"half a header":  {func(p *h2peer) { p.preface(); p.raw("\x00\x00\x20\x01\x05\x00\x00\x00\x01\x82") }, headTime},
		"half a header, with a stream under way": {func(p *h2peer) {
			p.preface()
			p.headers(1, false, post()...)
			p.raw("\x00\x00\x20\x01\x05\x00\x00\x00\x03\x82")
		}, headTime},
		"no CONTINUATION": {func(p *h2peer) { p.preface(); p.frame(http2.FrameHeaders, 1, 1, p.block(get()...)) }, headTime},
		"half a frame":    {func(p *h2peer) { p.preface(); p.raw("\x00\x00\x08\x06") }, idleTime + goAwayTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newH2Peer(t, ok)
				began := time.Now()
				tt.send(p)
				<-p.stopped
				if took := time.Since(began); took != tt.life {
					t.Errorf("dropped after %s, want %s", took, tt.life)
				}
			})
		})
	}
}

// TestH2IdleHoldsLittle: a connection that waits has no buffer and no goroutine
// but the one that reads, after a while.
func TestH2IdleHoldsLittle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := dialH2(t, ok)
		p.fine(1)
		synctest.Wait()
		p.c.mu.Lock()
		if p.c.out != nil || len(p.c.waiting) != 0 || len(p.c.streams) != 0 {
			t.Errorf("%d bytes, %d that wait", cap(p.c.out), len(p.c.waiting))
		}
		p.c.mu.Unlock()
		time.Sleep(3 * idleWorker)
		synctest.Wait()
		p.c.workers.mu.Lock()
		defer p.c.workers.mu.Unlock()
		if len(p.c.workers.idle) > 0 {
			t.Error("a worker is still there")
		}
	})
}
