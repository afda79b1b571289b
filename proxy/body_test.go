package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// TestBodyStartsOver: an attempt that begins while another one reads misses nothing of what
// that one gets.
func TestBodyStartsOver(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789abcdef", 256)
	for range 300 {
		b := &childBody{src: io.NopCloser(iotest.OneByteReader(strings.NewReader(text))), request: &http.Request{}, keeping: true}
		var others sync.WaitGroup
		for range 100 {
			if a, err := b.attempt(); err == nil {
				others.Go(func() { _, _ = io.Copy(io.Discard, a) })
			}
		}
		last, err := b.attempt()
		for err != nil {
			last, err = b.attempt()
		}
		got, err := io.ReadAll(last)
		others.Wait()
		if err != nil || string(got) != text {
			t.Fatalf("the last attempt sent %d bytes of %d, %v", len(got), len(text), err)
		}
	}
}
