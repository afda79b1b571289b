package main

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
)

// built is the program under test.
var built string

func TestMain(m *testing.M) {
	if playRole() {
		return
	}
	os.Exit(harness.Main(&built, m.Run))
}

// brief is as short as it gets. What comes out says nothing but that everything
// works.
func brief() options {
	patience := time.Duration(0)
	return options{
		set:      settings{rounds: 1, each: 20 * time.Millisecond, hosts: 4, idle: 5, rest: 5 * time.Millisecond, patience: &patience},
		targets:  "^(blind tunnel|authsome|net/http Go)$",
		patience: patience,
	}
}

// TestBench runs every measurement once, and puts the tables into a page.
func TestBench(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "") // set by run, and put back by the test
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := brief()
	o.doc = page
	var out bytes.Buffer
	if err := o.run(built, &out); err != nil {
		t.Fatal(err)
	}
	for _, w := range workloads {
		if n := strings.Count(out.String(), "\n| "+w.name); n < 1 {
			t.Errorf("%q is in %d rows", w.name, n)
		}
	}
	for _, want := range []string{
		"| rate as a ratio to direct | blind tunnel | authsome | net/http Go | direct | others |",
		"\n| daemon start to first proxied 200 | ", "\n| `run -- true`, over `true` ", "\n| KB per idle stream, of 5 | ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q", want)
		}
	}
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n<!-- bench -->\n\n" + strings.TrimSpace(out.String()) + "\n\n<!-- /bench -->\nafter\n"
	if string(data) != want {
		t.Errorf("the page is\n%s", data)
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// TestManyRuns is what -full measures, with fewer streams: as many runs, and each has
// one of them at most.
func TestManyRuns(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	o := brief()
	o.only, o.targets, o.fullStreams = nameIdle, "^$", 20
	var out bytes.Buffer
	if err := o.run(built, &out); err != nil {
		t.Fatal(err)
	}
	if want := "| 20 idle streams of 1,000 runs: memory | "; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in\n%s", want, out.String())
	}
}

// TestCurves measures the smallest sizes of every curve, and draws them.
func TestCurves(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	o := brief()
	o.curves, o.largest, o.pictures = true, 100, t.TempDir()
	for i := range curves {
		sizes := curves[i].sizes
		curves[i].sizes = []int{sizes[0], 2} // 2 of each are quick to make
		t.Cleanup(func() { curves[i].sizes = sizes })
	}
	var out bytes.Buffer
	if err := o.run(built, &out); err != nil {
		t.Fatal(err)
	}
	for _, c := range curves {
		if !strings.Contains(out.String(), "| "+c.what) {
			t.Errorf("%s are not in\n%s", c.what, out.String())
		}
		data, err := os.ReadFile(filepath.Join(o.pictures, "performance-"+c.name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		texts, err := textsOf(data)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, p := range panels {
			if !strings.Contains(texts, p.title) {
				t.Errorf("the picture of %s has no %q:\n%s", c.name, p.title, texts)
			}
		}
	}
}

// textsOf reads a picture as XML and gives what is written in it.
func textsOf(data []byte) (string, error) {
	var texts strings.Builder
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts.String(), nil
		}
		if err != nil {
			return "", err
		}
		if c, ok := token.(xml.CharData); ok {
			texts.Write(c)
		}
	}
}

// TestVerdict holds figures to their targets, larger and smaller ones.
func TestVerdict(t *testing.T) {
	for _, v := range []struct {
		value float64
		aim   aim
		more  bool
		want  string
	}{
		{.53, aim{.36, .52}, true, "goal"},
		{.40, aim{.36, .52}, true, "floor"},
		{.27, aim{.36, .52}, true, "missed by 25 %"},
		{.80, aim{0, .95}, true, "missed by 16 %"},
		{20, aim{42, 25}, false, "goal"},
		{42, aim{42, 25}, false, "floor"},
		{84, aim{42, 25}, false, "missed by 100 %"},
		{26, aim{25, 0}, false, "missed by 4 %"},
		{24, aim{25, 0}, false, "floor"},
	} {
		if got := (verdict{value: v.value, aim: v.aim, more: v.more}).reached(); got != v.want {
			t.Errorf("%v of %v: %q, want %q", v.value, v.aim, got, v.want)
		}
	}
}

// TestRatios takes ratios inside the rounds: a machine that was slower in one of
// them does not count.
func TestRatios(t *testing.T) {
	r := row{samples: map[string][]sample{
		nameDirect:   {{rate: 100}, {rate: 10}, {rate: 1000}},
		nameAuthsome: {{rate: 50}, {rate: 6}, {rate: 400}},
	}}
	if got := median(r.ratios(nameAuthsome, nameDirect)); got != .5 {
		t.Errorf("%v, want .5", got)
	}
}

// TestFrames sends messages of both sides through the same reader.
func TestFrames(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, messageSize, 1<<16 - 1} {
		for _, mask := range []bool{false, true} {
			payload := bytes.Repeat([]byte("x"), n)
			frame := appendFrame(nil, payload, mask)
			got, err := readFrame(bufio.NewReader(bytes.NewReader(frame)), make([]byte, 1<<16))
			if err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%d bytes, masked %v: %d came back, %v", n, mask, len(got), err)
			}
		}
	}
}

// TestAxis keeps the axes legible: 3 to 7 lines, and the highest value on the
// page.
func TestAxis(t *testing.T) {
	for _, high := range []float64{.003, .9, 1, 1.4, 7.2, 12, 59, 61, 145, 9999} {
		step := niceStep(high)
		if n := high / step; n > 6 || n < 1.9 {
			t.Errorf("%v in steps of %v", high, step)
		}
	}
}
