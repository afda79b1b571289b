package audit_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
)

// TestEncodeEveryField fails when Event gets a field that Encode leaves out.
func TestEncodeEveryField(t *testing.T) {
	var ev authsome.Event
	v := reflect.ValueOf(&ev).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("text of field")
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(i) + 1)
		default:
			f.Set(reflect.ValueOf(time.Date(2026, 11, 23, 1, 2, 3, 4000, time.UTC)))
		}
	}
	wantLikeJSON(t, ev)
	wantLikeJSON(t, authsome.Event{})
	if _, err := audit.Encode(authsome.Event{Time: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("a year of five digits has no form, and got one")
	}
}

func wantLikeJSON(t *testing.T, ev authsome.Event) {
	t.Helper()
	got, err := audit.Encode(ev)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("encoded\n%s, and by encoding/json\n%s", got, want)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("/v1/models", "curl", int64(200), int64(0))
	f.Add("/a\"b\\<script>&\x7f\u2028\xff", "\x00\n", int64(-1), int64(1<<62))
	f.Fuzz(func(t *testing.T, path, program string, n, nanoseconds int64) {
		wantLikeJSON(t, authsome.Event{
			Seq: n, ID: program, Path: path, Program: program, Status: path, Detail: path + program,
			Received: n, Code: int(n), Time: time.Unix(n%200e9, nanoseconds%1e9).UTC(),
		})
	})
}
