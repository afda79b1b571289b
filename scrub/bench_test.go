package scrub

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// Values and a text as they are every day.
var (
	benchValues = []string{
		"Bearer sk-proj-Zq3xV9mTb7WcY2LkP0aRs8NdHfJg4UeQi6TzXo1B",
		"ghp_16C7e42F292c6912E7710c838347Ae178B4a",
	}
	benchText = strings.Repeat(`{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,`+
		`"model":"gpt-4.1-2025-04-14","choices":[{"index":0,"delta":{"content":"Hello! How can I assist you today?\n"},"finish_reason":null}]}`+"\n", 4600)
)

// sizes of a body, and of what a proxy reads at once.
var sizes = []int{1 << 10, 32 << 10, 1 << 20}

func BenchmarkOverwrite(b *testing.B) {
	for _, values := range [][]string{benchValues[:1], benchValues, {"p@ss/w0rd"}} {
		s := New(secrets(values...))
		for _, size := range sizes {
			b.Run(fmt.Sprintf("values=%d/stride=%d/%dKB", len(values), s.stride, size>>10), func(b *testing.B) {
				buf := []byte(benchText[:size])
				st := s.NewStream()
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					st.Overwrite(buf, true)
				}
			})
		}
	}
}

// BenchmarkEvent is what an event of a stream costs, the look at its end included.
func BenchmarkEvent(b *testing.B) {
	s := New(secrets(benchValues...))
	event := []byte("data: " + benchText[:230] + "\n\n")
	st := s.NewStream()
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		if st.Overwrite(event, false) != len(event) {
			b.Fatal("an event was held back")
		}
	}
}

func BenchmarkHeaderValue(b *testing.B) {
	s := New(secrets(benchValues...))
	b.ReportAllocs()
	for b.Loop() {
		s.String("max-age=63072000; includeSubDomains; preload")
	}
}

func BenchmarkNew(b *testing.B) {
	vs := secrets(benchValues...)
	b.ReportAllocs()
	for b.Loop() {
		New(vs)
	}
}

// BenchmarkIndex is the obvious way: bytes.Index for the first 8 bytes of the
// window of each form.
func BenchmarkIndex(b *testing.B) {
	s := New(secrets(benchValues...))
	var needles [][]byte
	for i := range s.forms {
		needles = append(needles, s.forms[i].windowText(nil, 8)[:8])
	}
	buf := []byte(benchText[:32<<10])
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		for _, n := range needles {
			if bytes.Contains(buf, n) {
				b.Fatal("found")
			}
		}
	}
}

func BenchmarkNewBig(b *testing.B) {
	vs := secrets(strings.Repeat("0123456789abcdef", 4<<10))
	for b.Loop() {
		New(vs)
	}
}
