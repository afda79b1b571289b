package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// window is the credit that the load gives the server: more than is used in one
// job, so that no frame is spent on it.
const window = 1 << 30

// streams keeps n requests under way on one HTTP/2 connection until end, and
// gives the time of each. One goroutine does it all.
func (w *wire) streams(to endpoint, n int, end time.Time) ([]time.Duration, error) {
	bw := bufio.NewWriterSize(w.conn, 16<<10)
	fr := http2.NewFramer(bw, w.br)
	fr.SetReuseFrames()
	_, _ = io.WriteString(bw, http2.ClientPreface)
	if err := fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		return nil, err
	}
	if err := fr.WriteWindowUpdate(0, window); err != nil {
		return nil, err
	}

	var header bytes.Buffer
	encoder := hpack.NewEncoder(&header)
	status := ""
	decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			status = f.Value
		}
	})
	began := map[uint32]time.Time{}
	took := make([]time.Duration, 0, 1<<16)
	id := uint32(1)
	open := func(now time.Time) error {
		header.Reset()
		for _, f := range [...]hpack.HeaderField{
			{Name: ":method", Value: "GET"},
			{Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: to.Host},
			{Name: ":path", Value: "/small"},
			{Name: "user-agent", Value: "bench"},
			{Name: "accept", Value: "*/*"},
			{Name: "authorization", Value: "Bearer " + to.Bearer},
		} {
			if err := encoder.WriteField(f); err != nil {
				return err
			}
		}
		began[id] = now
		err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: header.Bytes(), EndStream: true, EndHeaders: true})
		id += 2
		return err
	}
	for range n {
		if err := open(time.Now()); err != nil {
			return nil, err
		}
	}
	for len(began) > 0 {
		if w.br.Buffered() == 0 {
			if err := bw.Flush(); err != nil {
				return took, err
			}
		}
		f, err := fr.ReadFrame()
		if err != nil {
			return took, err
		}
		ended := false
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = fr.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame:
			if !f.HeadersEnded() {
				return took, fmt.Errorf("a header of more than one frame")
			}
			if _, err = decoder.Write(f.HeaderBlockFragment()); err == nil && status != "200" {
				err = fmt.Errorf("status %s", status)
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			err = fmt.Errorf("stream reset: %v", f.ErrCode)
		case *http2.GoAwayFrame:
			err = fmt.Errorf("connection ended: %v %s", f.ErrCode, f.DebugData())
		}
		if err != nil {
			return took, err
		}
		if !ended {
			continue
		}
		now := time.Now()
		took = append(took, now.Sub(began[f.Header().StreamID]))
		delete(began, f.Header().StreamID)
		if now.Before(end) {
			if err := open(now); err != nil {
				return took, err
			}
		}
	}
	return took, nil
}
