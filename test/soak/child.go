package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// childVariable makes this program the load: what `authsome run` starts. It finds
// the proxy, its token and whom to trust in its environment, as any program does.
const childVariable = "AUTHSOME_SOAK_CHILD"

// order is what a child is told.
type order struct {
	Run     string        `json:"run"`
	Account string        `json:"account"` // "" is whoever is the default
	Streams int           `json:"streams"`
	Seed    uint64        `json:"seed"`
	Pause   time.Duration `json:"pause"` // between two requests of a stream, on average
}

// message is a line of a child's standard output. Its standard input has words: go,
// rest, end.
type message struct {
	Hello   *hello         `json:"hello,omitempty"`
	Rested  bool           `json:"rested,omitempty"`
	Counts  map[string]int `json:"counts,omitempty"`
	Failed  *failure       `json:"failed,omitempty"`
	Broken  string         `json:"broken,omitempty"` // what must not be
	Stopped bool           `json:"stopped,omitempty"`
}

// hello tells where the child was put.
type hello struct {
	PID   int    `json:"pid"`
	Proxy string `json:"proxy"`
	Roots string `json:"roots"` // PEM
}

// child is the load.
type child struct {
	order

	mu      sync.Mutex // of what follows, and of standard output
	enc     *json.Encoder
	counts  map[string]int
	resting bool
	active  map[*stream]bool
	changed chan struct{} // closed when resting changes
	rest    context.Context
	stop    context.CancelFunc // ends rest
}

// playChild runs the load if the environment says so.
func playChild() bool {
	text := os.Getenv(childVariable)
	if text == "" {
		return false
	}
	c := &child{enc: json.NewEncoder(os.Stdout), counts: map[string]int{}, active: map[*stream]bool{}, resting: true, changed: make(chan struct{})}
	if err := json.Unmarshal([]byte(text), &c.order); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	c.play()
	return true
}

func (c *child) play() {
	roots, err := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
	if err != nil {
		c.broken("the child has no roots: %v", err)
	}
	c.say(message{Hello: &hello{os.Getpid(), os.Getenv("HTTPS_PROXY"), string(roots)}})
	shared := newShared()
	var all []*stream
	for n := range c.Streams {
		s := &stream{child: c, n: n, kind: kinds[n%len(kinds)], rng: rand.New(rand.NewPCG(c.Seed, uint64(n)))}
		s.client = shared.client(s)
		all = append(all, s)
		go s.play()
	}
	for words := bufio.NewScanner(os.Stdin); words.Scan(); {
		switch words.Text() {
		case "go":
			c.setResting(false)
		case "rest":
			c.takeRest(all)
		}
	}
	// The end, with everything open as it is.
	os.Exit(0)
}

func (c *child) say(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.enc.Encode(m)
}

func (c *child) broken(format string, args ...any) {
	c.say(message{Broken: fmt.Sprintf(format, args...)})
}

func (c *child) count(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what] += n
}

func (c *child) setResting(resting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resting = resting
	if resting {
		c.stop()
	} else {
		c.rest, c.stop = context.WithCancel(context.Background())
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// takeRest has every stream end what it does, and closes all connections.
func (c *child) takeRest(all []*stream) {
	c.setResting(true)
	for end := time.Now().Add(requestTime + patience); ; time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		n := len(c.active)
		var one *stream
		for s := range c.active {
			one = s
		}
		c.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(end) {
			c.broken("%d streams do not come to rest, among them one of %s", n, one.kind)
			break
		}
	}
	for _, s := range all {
		s.client.CloseIdleConnections()
	}
	c.mu.Lock()
	counts := maps.Clone(c.counts)
	clear(c.counts)
	c.mu.Unlock()
	c.say(message{Rested: true, Counts: counts})
}

// enter waits until there is something to do. The context ends when all are to
// rest.
func (c *child) enter(s *stream) context.Context {
	for {
		c.mu.Lock()
		if !c.resting {
			c.active[s] = true
			rest := c.rest
			c.mu.Unlock()
			return rest
		}
		changed := c.changed
		c.mu.Unlock()
		<-changed
	}
}

func (c *child) leave(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.active, s)
}
