package audit

import (
	"encoding/json"
	"strconv"

	"github.com/authsome/authsome"
)

// Encode is the form of an event that is stored and hashed. What was stored is
// hashed as it is when the chain is checked, and not encoded again: a later
// version may know other fields.
func Encode(ev authsome.Event) ([]byte, error) { return AppendEvent(make([]byte, 0, 512), &ev) }

// AppendEvent appends what Encode gives, which is what encoding/json would give, at
// a fifth of the cost: every request is encoded three times on its way into the
// log. There is no line break in it.
func AppendEvent(b []byte, ev *authsome.Event) ([]byte, error) {
	b = strconv.AppendInt(append(b, `{"seq":`...), ev.Seq, 10)
	b = appendString(append(b, `,"event_id":`...), ev.ID)
	b = append(b, `,"timestamp":"`...)
	b, err := ev.Time.AppendText(b) // refuses years that RFC 3339 has no form for
	if err != nil {
		return nil, err
	}
	b = appendString(append(b, `","event":`...), string(ev.Type))
	b = appendString(append(b, `,"status":`...), ev.Status)
	text := func(name, v string) {
		if v != "" {
			b = appendString(append(b, name...), v)
		}
	}
	number := func(name string, v int64) {
		if v != 0 {
			b = strconv.AppendInt(append(b, name...), v, 10)
		}
	}
	text(`,"provider":`, ev.Provider)
	text(`,"connection":`, ev.Connection)
	text(`,"identity":`, ev.Identity)
	text(`,"vault":`, ev.Vault)
	text(`,"run":`, ev.Run)
	number(`,"pid":`, int64(ev.PID))
	text(`,"program":`, ev.Program)
	text(`,"method":`, ev.Method)
	text(`,"host":`, ev.Host)
	text(`,"path":`, ev.Path)
	number(`,"code":`, int64(ev.Code))
	number(`,"sent":`, ev.Sent)
	number(`,"received":`, ev.Received)
	number(`,"duration_ms":`, ev.DurationMS)
	text(`,"request":`, ev.Request)
	text(`,"detail":`, ev.Detail)
	return append(b, '}'), nil
}

// appendString quotes a string. Almost all are plain.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string always has a form
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
