package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// kind is what a job does, over and over, in each of its clients.
type kind string

const (
	requests kind = "requests" // GET /small on a connection of its own
	fresh    kind = "fresh"    // the same on a new connection each
	streams  kind = "streams"  // the same over HTTP/2, Streams at once
	download kind = "download"
	upload   kind = "upload"
	messages kind = "messages" // WebSocket, said back
	events   kind = "events"   // reads server-sent events; the figure is how late they are
	hold     kind = "hold"     // opens streams that then say nothing, until the next job
)

// job is what the load is told to do.
type job struct {
	Kind    kind
	To      endpoint
	Clients int
	Streams int
	// Hosts are asked once each, one after the other, instead of the endpoint's
	// own for a time.
	Hosts []string
	For   time.Duration
}

// result is what it did. Times of operations are in microseconds.
type result struct {
	N        int64 // operations, or bytes
	Seconds  float64
	P50, P99 float64
	Error    string
}

// Sizes of what is moved. Bulk is large enough for its first byte not to count.
const (
	bulkSize    = 32 << 20
	messageSize = 4 << 10
	warmUps     = 20
	eventsEvery = 2 * time.Millisecond
)

// playLoad does one job after the other. It says that all connections are open
// and warm before it begins, and waits for a word; then it answers with a
// result.
func playLoad(in *json.Decoder, out *json.Encoder) error {
	var hello struct{}
	if err := in.Decode(&hello); err != nil {
		return err
	}
	if err := out.Encode(hello); err != nil {
		return err
	}
	var held []*wire
	for {
		var j job
		if err := in.Decode(&j); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		for _, w := range held {
			w.close()
		}
		held = nil
		c, err := prepare(j)
		if err := out.Encode(resultOf(result{}, err)); err != nil {
			return err
		}
		if err != nil {
			continue
		}
		var word struct{}
		if err := in.Decode(&word); err != nil {
			return err
		}
		r, err := c.run()
		if err := out.Encode(resultOf(r, err)); err != nil {
			return err
		}
		if j.Kind == hold {
			held = c.wires
		} else {
			c.close()
		}
	}
}

func resultOf(r result, err error) result {
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// campaign is a job under way.
type campaign struct {
	job
	dialer *dialer
	wires  []*wire
	next   atomic.Int64 // of Hosts
}

// prepare opens the connections and warms them up.
func prepare(j job) (*campaign, error) {
	alpn := "http/1.1"
	if j.Kind == streams {
		alpn = "h2"
	}
	d, err := newDialer(j.To, alpn)
	if err != nil {
		return nil, err
	}
	c := &campaign{job: j, dialer: d, wires: make([]*wire, j.Clients)}
	switch j.Kind {
	case fresh:
		if len(j.Hosts) > 0 {
			return c, nil
		}
		for range warmUps {
			if err := d.get(0, ""); err != nil {
				return nil, err
			}
		}
		return c, nil
	case hold:
		d.buffer = 1 << 10
	}
	err = parallel(j.Clients, 32, func(i int) error {
		w, err := d.dial(i, "")
		if err != nil {
			return err
		}
		c.wires[i] = w
		switch j.Kind {
		case requests:
			text := requestText(http.MethodGet, j.To.Host, "/small", j.To.Bearer)
			for range warmUps {
				if err := w.exchange(text); err != nil {
					return err
				}
			}
		case messages:
			return w.upgradeWebSocket(j.To, j.To.Host)
		case download:
			_, err = c.download(w, 1<<20)
		case upload:
			_, err = c.upload(w, 1<<20)
		case hold:
			err = c.listen(w, "/stream")
		}
		return err
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *campaign) close() {
	for _, w := range c.wires {
		if w != nil {
			w.close()
		}
	}
}

// run does the job.
func (c *campaign) run() (result, error) {
	if c.Kind == hold {
		return result{N: int64(len(c.wires))}, nil
	}
	took := make([][]time.Duration, c.Clients)
	sums := make([]int64, c.Clients)
	began := time.Now()
	end := began.Add(c.For)
	err := parallel(c.Clients, c.Clients, func(i int) error {
		var err error
		took[i], sums[i], err = c.client(i, end)
		return err
	})
	r := result{Seconds: time.Since(began).Seconds()}
	all := slices.Concat(took...)
	slices.Sort(all)
	if len(all) > 0 {
		micro := func(at int) float64 { return float64(all[at]) / float64(time.Microsecond) }
		r.P50, r.P99 = micro(len(all)/2), micro(len(all)*99/100)
	}
	r.N = int64(len(all))
	if c.Kind == download || c.Kind == upload {
		r.N = 0
		for _, n := range sums {
			r.N += n
		}
	}
	return r, err
}

// client is one of the clients: until end, or until nothing is left. It gives
// the time of each operation, and for bulk the bytes.
func (c *campaign) client(i int, end time.Time) (took []time.Duration, sum int64, err error) {
	took = make([]time.Duration, 0, 1<<14)
	loop := func(once func() error) error {
		for now := time.Now(); now.Before(end); {
			if err := once(); err != nil {
				return err
			}
			then := time.Now()
			took = append(took, then.Sub(now))
			now = then
		}
		return nil
	}
	switch c.Kind {
	case requests:
		text := requestText(http.MethodGet, c.To.Host, "/small", c.To.Bearer)
		err = loop(func() error { return c.wires[i].exchange(text) })
	case fresh:
		if len(c.Hosts) == 0 {
			err = loop(func() error { return c.dialer.get(i, "") })
			break
		}
		for {
			at := int(c.next.Add(1)) - 1
			if at >= len(c.Hosts) {
				break
			}
			began := time.Now()
			if err = c.dialer.get(at, c.Hosts[at]); err != nil {
				break
			}
			took = append(took, time.Since(began))
		}
	case streams:
		took, err = c.wires[i].streams(c.To, c.Streams, end)
	case messages:
		payload := []byte(strings.Repeat("m", messageSize))
		frame, buf := appendFrame(nil, payload, true), make([]byte, messageSize)
		err = loop(func() error {
			if _, err := c.wires[i].conn.Write(frame); err != nil {
				return err
			}
			got, err := readFrame(c.wires[i].br, buf)
			if err == nil && len(got) != len(payload) {
				err = errors.New("a message came back with another length")
			}
			return err
		})
	case download, upload:
		move := c.download
		if c.Kind == upload {
			move = c.upload
		}
		err = loop(func() error {
			n, err := move(c.wires[i], bulkSize)
			sum += n
			return err
		})
	case events:
		took, err = c.late(c.wires[i], end)
	default:
		err = fmt.Errorf("an unknown kind of job: %s", c.Kind)
	}
	return took, sum, err
}

func (c *campaign) download(w *wire, size int64) (int64, error) {
	if _, err := w.conn.Write(requestText(http.MethodGet, c.To.Host, "/bytes?n="+strconv.FormatInt(size, 10), c.To.Bearer)); err != nil {
		return 0, err
	}
	n, err := w.readAnswer()
	if err == nil && n != size {
		err = fmt.Errorf("%d of %d bytes came", n, size)
	}
	return n, err
}

// block is what uploads consist of.
var block = []byte(strings.Repeat("0123456789abcdef", 4<<10))

func (c *campaign) upload(w *wire, size int64) (int64, error) {
	if _, err := w.conn.Write(requestText(http.MethodPost, c.To.Host, "/sink", c.To.Bearer,
		"Content-Type: application/octet-stream", "Content-Length: "+strconv.FormatInt(size, 10))); err != nil {
		return 0, err
	}
	for left := size; left > 0; {
		n, err := w.conn.Write(block[:min(left, int64(len(block)))])
		if left -= int64(n); err != nil {
			return 0, err
		}
	}
	_, err := w.readAnswer()
	return size, err
}

// listen asks for events and waits for the first.
func (c *campaign) listen(w *wire, target string) error {
	if _, err := w.conn.Write(requestText(http.MethodGet, c.To.Host, target, c.To.Bearer)); err != nil {
		return err
	}
	status, _, err := w.readHead()
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("status %d", status)
	}
	for {
		line, err := w.br.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "data: ") {
			return err
		}
	}
}

// late reads events and says how long after they were sent each came.
func (c *campaign) late(w *wire, end time.Time) ([]time.Duration, error) {
	if err := c.listen(w, "/stream?every="+eventsEvery.String()); err != nil {
		return nil, err
	}
	var took []time.Duration
	for time.Now().Before(end) {
		// The lines of the chunks around the events are passed over.
		line, err := w.br.ReadString('\n')
		if err != nil {
			return took, err
		}
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok {
			continue
		}
		sent, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return took, err
		}
		took = append(took, time.Duration(time.Now().UnixNano()-sent))
	}
	return took, nil
}

// parallel runs f for 0 to n-1, at most width at once, and returns an error of
// one of them.
func parallel(n, width int, f func(i int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	var mu sync.Mutex
	var first error
	for range min(n, width) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}
