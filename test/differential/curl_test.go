package differential

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// answersHost says whatever the path has it say.
const answersHost = "answers.example.com"

// gzipped are two members of gzip, as RFC 1952, section 2.2 allows: "hello " and "world".
const gzipped = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xcb\x48\xcd\xc9\xc9\x57\x00\x00\xed\x81\xd6\xed\x06\x00\x00\x00" +
	"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x2b\xcf\x2f\xca\x49\x01\x00\x43\x11\x77\x3a\x05\x00\x00\x00"

// answered is a case of what a service says to curl.
type answered struct {
	name string
	send string
	hang bool // and it hangs up then
	args []string
	// less and more are headers that authsome takes off over HTTP/2, and puts on.
	less, more string
}

func answers() []answered {
	const ok, chunked = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	const usual = ok + "Content-Length: 5\r\n\r\nhello"
	long := strings.Repeat("x", 60<<10)
	return []answered{
		{name: "usual", send: usual},
		{name: "nothing", send: ok + "Content-Length: 0\r\n\r\n"},
		{name: "leading zeros", send: ok + "Content-Length: 0005\r\n\r\nhello"},
		{name: "the same length twice", send: ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "no length, until the end", send: ok + "\r\nhello", hang: true},
		{name: "Connection: close with a length", send: ok + "Connection: close\r\nContent-Length: 5\r\n\r\nhello", hang: true},
		{name: "Connection: close with a length, and open", send: ok + "Connection: close\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "Connection names a header", send: ok + "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "less than the length", send: ok + "Content-Length: 9\r\n\r\nhello", hang: true},
		{name: "more than the length", send: usual + "more", hang: true},
		{name: "HTTP/1.0", send: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", hang: true},
		{name: "HTTP/1.0 without a length", send: "HTTP/1.0 200 OK\r\nX: a\r\n\r\nhello", hang: true},
		{name: "HTTP/1.0 that stays", send: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "an empty reason", send: "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"},
		{name: "no reason", send: "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "a long reason", send: "HTTP/1.1 200 It is, all in all: \xe9 OK!\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "a status that nobody knows", send: "HTTP/1.1 599 x\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "299", send: "HTTP/1.1 299 x\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "redirect", send: "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere?a=b#c\r\nContent-Length: 0\r\n\r\n"},
		{name: "401", send: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"a, b\"\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "407 of a service", send: "HTTP/1.1 407 x\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "chunks", send: chunked + "\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"},
		{name: "chunks with extensions and zeros", send: chunked + "\r\n0003;a=b;c=\"d;e\"\r\nhel\r\n2;x\r\nlo\r\n00;y\r\n\r\n"},
		{name: "capital digits, many chunks", send: chunked + "\r\nA\r\n0123456789\r\n" + strings.Repeat("1\r\nx\r\n", 500) + "0\r\n\r\n"},
		{name: "no chunk", send: chunked + "\r\n0\r\n\r\n", more: "content-length: 0\n"},
		{name: "no last chunk", send: chunked + "\r\n5\r\nhello\r\n", hang: true},
		{name: "half a chunk", send: chunked + "\r\n9\r\nhello", hang: true},
		{name: "trailers", send: chunked + "Trailer: X-Sum, X-Two\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n"},
		{name: "trailers that were not announced", send: chunked + "\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{name: "trailers alone", send: chunked + "Trailer: X-Sum\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{name: "100", send: "HTTP/1.1 100 Continue\r\n\r\n" + usual, args: []string{"-H", "Expect: 100-continue", "--data", "a body"}},
		{name: "102", send: "HTTP/1.1 102 Processing\r\n\r\n" + usual},
		{name: "103", send: "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n" + usual},
		{name: "103 twice and 102", send: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n" + usual},
		{name: "a 1xx that nobody knows", send: "HTTP/1.1 170 x\r\nX: a\r\n\r\n" + usual},
		{name: "204", send: "HTTP/1.1 204 No Content\r\nX: a\r\n\r\n"},
		{name: "205 with length 0", send: "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"},
		{name: "304", send: "HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\n\r\n"},
		{name: "304 with a length", send: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: \"a\"\r\n\r\n", less: "content-length: 5\n"},
		{name: "HEAD", send: ok + "Content-Length: 5\r\nX: a\r\n\r\n", args: []string{"-I"}},
		{name: "HEAD with chunks", send: chunked + "X: a\r\n\r\n", args: []string{"-I"}},
		{name: "HEAD of a 404", send: "HTTP/1.1 404 x\r\nContent-Length: 5\r\n\r\n", args: []string{"-I"}},
		{name: "bare LF", send: "HTTP/1.1 200 OK\nContent-Length: 5\nX: a\n\nhello"},
		{name: "folded", send: ok + "X: a\r\n b\r\n\tc\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "obs-text", send: ok + "X: \xe9\xff\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "space around values", send: ok + "X:\t  a \t\r\nY:b\r\nContent-Length:5\r\n\r\nhello"},
		{name: "an empty value", send: ok + "X:\r\nY: \r\nContent-Length: 5\r\n\r\nhello"},
		{name: "mixed case", send: "HTTP/1.1 200 OK\r\ncOnTeNt-lEnGtH: 5\r\nx-REQUEST-id: a\r\n\r\nhello"},
		{name: "odd names", send: ok + "X!#$%&'*+-.^_`|~1: a\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "the same header often", send: ok + "Set-Cookie: a=b; Path=/\r\nSet-Cookie: c=d, e\r\nVary: a\r\nVary: b\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "a long header", send: ok + "X: " + long + "\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "many headers", send: ok + strings.Repeat("X: a\r\n", 400) + "Content-Length: 5\r\n\r\nhello"},
		{name: "no Date, no Content-Type", send: usual},
		{name: "gzip in two members", send: ok + "Content-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(gzipped)) + "\r\n\r\n" + gzipped},
		{name: "gzip that is decoded", send: ok + "Content-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(gzipped[:26])) + "\r\n\r\n" + gzipped[:26], args: []string{"--compressed"}},
		{name: "gzip that is none", send: ok + "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "a coding that nobody knows", send: ok + "Content-Encoding: x-none\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "a long body", send: ok + "Content-Length: " + strconv.Itoa(len(long)) + "\r\n\r\n" + long},
		{name: "a range", send: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-3/9\r\nContent-Length: 3\r\n\r\nell", args: []string{"-r", "1-3"}},
		{name: "an early answer", send: "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", args: []string{"-H", "Expect:", "--data", long}, hang: true},
		{name: "a POST", send: usual, args: []string{"--data", "a body"}},
		{name: "not HTTP", send: "SSH-2.0-x\r\n", hang: true},
	}
}

// told is what curl makes of an answer.
type told struct {
	blocks []string // the headers of each 1xx, of the answer, and the trailers
	body   string
	failed bool
}

func (c told) String() string {
	return fmt.Sprintf("failed: %v, body %.100q, headers %.1500q", c.failed, c.body, c.blocks)
}

// TestCurl: real curl sees through authsome what it sees without, over HTTP/1.1 and
// HTTP/2: status, headers, body, trailers, and whether it was whole.
func TestCurl(t *testing.T) {
	curl := tool(t, "curl")
	w := newWorld(t)
	connect(t, w, answersHost)
	r := startRun(t, w)
	list := answers()
	w.Internet.HandleRaw(answersHost, func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			i, err := strconv.Atoi(filepath.Base(req.URL.Path))
			if err != nil || i >= len(list) {
				return
			}
			early := list[i].name == "an early answer"
			if !early {
				_, _ = io.Copy(io.Discard, req.Body)
			}
			if _, err := io.WriteString(c, list[i].send); err != nil {
				return
			}
			if early { // closing with unread input would take the answer away
				_, _ = io.Copy(io.Discard, req.Body)
			}
			if list[i].hang {
				return
			}
		}
	})
	for i, tt := range list {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := fmt.Sprintf("https://%s/v1/allowed/%d", answersHost, i)
			direct := ask(t, curl, w.Internet.Proxy(), w.Root(), append(slices.Clone(tt.args), "--http1.1", url))
			for _, proto := range []string{"--http1.1", "--http2"} {
				through := ask(t, curl, r.proxy.String(), r.file, append(slices.Clone(tt.args), proto, url))
				want := direct
				if through.failed && want.failed {
					continue // how much of what was not whole has arrived is chance
				}
				if tt.name == "not HTTP" {
					// curl takes it for HTTP/0.9 and refuses; ours is a refusal in HTTP.
					if !strings.HasPrefix(through.blocks[0], "502\n") {
						t.Errorf("%s: %v", proto, through)
					}
					continue
				}
				want.blocks = slices.Clone(want.blocks)
				want.blocks[len(want.blocks)-1] += tt.more
				if proto == "--http2" {
					want.blocks[0] = strings.ReplaceAll(want.blocks[0], tt.less, "")
				}
				if through.failed != want.failed || through.body != want.body || !slices.Equal(through.blocks, want.blocks) {
					t.Errorf("%s: curl sees\n%v, and directly\n%v", proto, through, want)
				}
			}
		})
	}
}

// ask runs curl.
func ask(t *testing.T, curl, proxy, roots string, args []string) told {
	t.Helper()
	dir := t.TempDir()
	head, body := filepath.Join(dir, "head"), filepath.Join(dir, "body")
	args = append([]string{"-q", "-sS", "-m", "30", "--suppress-connect-headers", "-x", proxy, "--proxy-cacert", roots, "--cacert", roots, "-D", head, "-o", body}, args...)
	cmd := exec.Command(curl, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil {
		var ok bool
		if exit, ok = err.(*exec.ExitError); !ok || exit.ExitCode() == 28 {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
	}
	h, _ := os.ReadFile(head)
	b, _ := os.ReadFile(body)
	if slices.Contains(args, "-I") {
		b = nil // curl writes the header there
	}
	return told{blocksOf(string(h)), string(b), err != nil}
}

// blocksOf are the headers that curl has written, in one form: the status without version
// and reason, which HTTP/2 does not have; names in small letters; in order of the names,
// since only that among those of one name says anything (RFC 9110, section 5.3). What
// concerns one connection is left out, as authsome does (docs/proxy.md).
func blocksOf(text string) (blocks []string) {
	for block := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		var lines []string
		status := ""
		for line := range strings.SplitSeq(block, "\n") {
			if rest, ok := strings.CutPrefix(line, "HTTP/"); ok {
				status = strings.Fields(rest)[1] + "\n"
				continue
			}
			if len(lines) > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
				lines[len(lines)-1] += " " + strings.TrimSpace(line)
				continue
			}
			name, value, ok := strings.Cut(line, ":")
			name = strings.ToLower(name)
			if !ok || slices.Contains([]string{"connection", "keep-alive", "transfer-encoding", "trailer"}, name) {
				continue
			}
			value = strings.TrimSpace(value)
			if name == "content-length" {
				value = strings.TrimLeft(value[:len(value)-1], "0") + value[len(value)-1:]
				if slices.Contains(lines, name+": "+value) {
					continue // the same twice
				}
			}
			lines = append(lines, name+": "+value)
		}
		slices.SortStableFunc(lines, func(a, b string) int {
			a, _, _ = strings.Cut(a, ":")
			b, _, _ = strings.Cut(b, ":")
			return strings.Compare(a, b)
		})
		for i := range lines {
			lines[i] += "\n"
		}
		// A 100 is between two neighbours.
		if s := status + strings.Join(lines, ""); s != "" && status != "100\n" {
			blocks = append(blocks, s)
		}
	}
	return blocks
}

// TestUnaskedAnswers: what a service says on an idle connection becomes nobody's answer,
// and does not get into the log, where it would be word by word: it may be the key.
func TestUnaskedAnswers(t *testing.T) {
	curl := tool(t, "curl")
	w := newWorld(t)
	connect(t, w, answersHost)
	r := startRun(t, w)
	dropped := make(chan struct{}, 4)
	w.Internet.HandleRaw(answersHost, func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				dropped <- struct{}{}
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			answer := "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(req.URL.Path)) + "\r\n\r\n" + req.URL.Path
			_, _ = io.WriteString(c, answer)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Echo: "+req.Header.Get("X-Key")+"\r\nContent-Length: 6\r\n\r\nforged")
		}
	})
	for _, args := range [][]string{{"--data", "x"}, {"-G"}} { // by http.Transport, and by authsome itself
		for _, path := range []string{"/v1/allowed/1", "/v1/allowed/2"} {
			got := ask(t, curl, r.proxy.String(), r.file, append(slices.Clone(args), "https://"+answersHost+path))
			if got.failed || got.body != path {
				t.Errorf("%s: %v", path, got)
			}
			if args[0] == "--data" {
				<-dropped // and so whoever would have said so has
			}
		}
	}
	log, err := os.ReadFile(filepath.Join(w.AuthsomeHome(), "daemon.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{allowedKey, "forged", "Unsolicited"} {
		if strings.Contains(string(log)+w.Output(), word) {
			t.Errorf("%q is in the log or was printed", word)
		}
	}
}
