package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// WebSockets (RFC 6455), as much as an echo needs: whole text messages of less
// than 64 KB.

// webSocketKey is the key of every handshake of the load.
const webSocketKey = "dGhlIHNhbXBsZSBub25jZQ=="

// webSocketAccept answers a key (section 4.2.2).
func webSocketAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// appendFrame appends a text message (section 5.2). A client's is masked.
func appendFrame(b, payload []byte, mask bool) []byte {
	const fin, text, masked = 0x80, 1, 0x80
	b = append(b, fin|text)
	var m byte
	if mask {
		m = masked
	}
	if len(payload) < 126 {
		b = append(b, m|byte(len(payload)))
	} else {
		b = append(b, m|126)
		b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	}
	if !mask {
		return append(b, payload...)
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// readFrame reads a text message into buf and gives it unmasked; io.EOF when the
// other side closes.
func readFrame(br *bufio.Reader, buf []byte) ([]byte, error) {
	head, err := br.Peek(2)
	if err != nil {
		return nil, err
	}
	opcode, masked, n := head[0], head[1]&0x80 != 0, int(head[1]&0x7f)
	_, _ = br.Discard(2)
	switch {
	case opcode == 0x88:
		return nil, io.EOF
	case opcode != 0x81:
		return nil, fmt.Errorf("a frame of another kind: %#x", opcode)
	case n == 127:
		return nil, errors.New("a frame of over 64 KB")
	case n == 126:
		var size [2]byte
		if _, err := io.ReadFull(br, size[:]); err != nil {
			return nil, err
		}
		n = int(binary.BigEndian.Uint16(size[:]))
	}
	var key [4]byte
	if masked {
		if _, err := io.ReadFull(br, key[:]); err != nil {
			return nil, err
		}
	}
	if n > len(buf) {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	payload := buf[:n]
	if _, err := io.ReadFull(br, payload); err != nil {
		return nil, err
	}
	if masked {
		for i := range payload {
			payload[i] ^= key[i%4]
		}
	}
	return payload, nil
}

// echoWebSocket is the server's side.
func echoWebSocket(w io.Writer, br *bufio.Reader) {
	buf, out := make([]byte, 64<<10), []byte(nil)
	for {
		payload, err := readFrame(br, buf)
		if err != nil {
			return
		}
		out = appendFrame(out[:0], payload, false)
		if _, err := w.Write(out); err != nil {
			return
		}
	}
}

// upgradeWebSocket is the client's handshake.
func (w *wire) upgradeWebSocket(to endpoint, host string) error {
	req := requestText(http.MethodGet, host, "/ws", to.Bearer, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: "+webSocketKey)
	if _, err := w.conn.Write(req); err != nil {
		return err
	}
	status, head, err := w.readHead()
	if err != nil {
		return err
	}
	if status != http.StatusSwitchingProtocols || !strings.Contains(head, webSocketAccept(webSocketKey)) {
		return fmt.Errorf("no WebSocket: status %d", status)
	}
	return nil
}
