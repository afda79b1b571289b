package proxy

import (
	"errors"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// frontWriter is the http.ResponseWriter of a front.
type frontWriter struct {
	f      *front
	body   *frontBody // of the request; nil when it has none
	header http.Header
	head   bool // the request was a HEAD
	close  bool // the connection ends with this answer

	status   int   // 0 until WriteHeader
	sent     bool  // the header is in bw
	length   int64 // as announced; -1 when it is not
	written  int64
	chunked  bool
	bodyless bool
	err      error // of writing to the child
}

// errTooLong is an answer that goes beyond its Content-Length.
var errTooLong = errors.New("the answer is longer than its Content-Length")

// Header implements http.ResponseWriter.
func (w *frontWriter) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter. A 1xx leaves at once.
func (w *frontWriter) WriteHeader(status int) {
	switch {
	case w.status != 0:
	case status >= 100 && status < 200:
		delete(w.header, "Content-Length") // a 1xx has no body (RFC 9110, section 8.6)
		w.statusLine(status)
		w.fields()
		w.text("\r\n")
		w.flush()
	default:
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *frontWriter) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, w.err
	}
	w.send(false)
	switch {
	case w.err != nil:
		return 0, w.err
	case w.bodyless:
		return len(b), nil
	case w.length >= 0 && w.written+int64(len(b)) > w.length:
		w.err = errTooLong
		return 0, w.err
	}
	w.written += int64(len(b))
	if w.chunked {
		w.text(strconv.FormatInt(int64(len(b)), 16) + "\r\n")
	}
	n, err := w.f.writer().Write(b)
	w.note(err)
	if w.chunked {
		w.text("\r\n")
	}
	return n, w.err
}

// FlushError is for http.ResponseController.
func (w *frontWriter) FlushError() error {
	w.send(false)
	w.flush()
	return w.err
}

// EnableFullDuplex is for http.ResponseController; it is never otherwise here.
func (w *frontWriter) EnableFullDuplex() error { return nil }

// send puts the header into the buffer, once; all says that no body will come.
func (w *frontWriter) send(all bool) {
	if w.sent {
		return
	}
	w.sent = true
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.bodyless = w.head || w.status == http.StatusNoContent || w.status == http.StatusNotModified
	if v := w.header["Content-Length"]; len(v) > 0 {
		n, err := strconv.ParseUint(textproto.TrimString(v[0]), 10, 63)
		if err != nil || w.status == http.StatusNoContent {
			delete(w.header, "Content-Length")
		} else {
			w.length = int64(n)
		}
	}
	delete(w.header, "Transfer-Encoding")
	delete(w.header, "Connection")
	w.statusLine(w.status)
	if w.length < 0 && !w.bodyless {
		if all {
			w.length = 0
			w.text("Content-Length: 0\r\n")
		} else {
			w.chunked = true
		}
	}
	if _, ok := w.header["Date"]; !ok {
		w.text("Date: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	}
	w.fields()
	if w.chunked {
		w.text("Transfer-Encoding: chunked\r\n")
	}
	if w.body != nil && w.body.left.Load() > maxUnread {
		w.close = true // as net/http does: who knows that sends no next request
	}
	if w.close {
		w.text("Connection: close\r\n")
	}
	w.text("\r\n")
}

// finish ends the answer; false when the child cannot know where it ends.
func (w *frontWriter) finish() bool {
	w.send(true)
	if w.chunked {
		w.text("0\r\n")
		for name, values := range w.header {
			if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
				w.field(name, values)
			}
		}
		w.text("\r\n")
	}
	w.flush()
	return w.err == nil && (w.bodyless || w.chunked || w.written == w.length)
}

func (w *frontWriter) statusLine(status int) {
	text := http.StatusText(status)
	if text == "" {
		text = "status code " + strconv.Itoa(status)
	}
	w.text("HTTP/1.1 " + strconv.Itoa(status) + " " + text + "\r\n")
}

// fields writes the header but for what is a trailer.
func (w *frontWriter) fields() {
	for name, values := range w.header {
		if !strings.HasPrefix(name, http.TrailerPrefix) {
			w.field(name, values)
		}
	}
}

// field writes one field, and none that would be another to the child.
func (w *frontWriter) field(name string, values []string) {
	if !httpguts.ValidHeaderFieldName(name) {
		return
	}
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n") {
			v = strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
		}
		w.text(name)
		w.text(": ")
		w.text(textproto.TrimString(v))
		w.text("\r\n")
	}
}

func (w *frontWriter) text(s string) {
	_, err := w.f.writer().WriteString(s)
	w.note(err)
}

func (w *frontWriter) flush() { w.note(w.f.writer().Flush()) }

func (w *frontWriter) note(err error) {
	if w.err == nil {
		w.err = err
	}
}
