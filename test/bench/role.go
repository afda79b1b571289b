package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// roleVariable makes this program one of its own helpers: the origin, the load,
// or the yardstick. Each is a process of its own, so that what it uses can be
// told apart, and that none shares a Go runtime with what is measured. It reads
// JSON from its standard input, its configuration first, answers each value with
// one, and ends when its input does, as with the death of its parent.
const roleVariable = "AUTHSOME_BENCH_ROLE"

// playRole runs the role that the environment names. It reports whether there
// was one.
func playRole() bool {
	name := os.Getenv(roleVariable)
	play := map[string]func(*json.Decoder, *json.Encoder) error{
		"origin": playOrigin, "load": playLoad, "yardstick": playYardstick,
	}[name]
	if play == nil {
		return false
	}
	if err := play(json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
		os.Exit(1)
	}
	return true
}

// helper is a process with a role.
type helper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

// startHelper starts one and waits for its first answer.
func startHelper(role string, config, ready any) (*helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &helper{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out)}
	if err := h.ask(config, ready); err != nil {
		h.stop()
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	return h, nil
}

func (h *helper) pid() int { return h.cmd.Process.Pid }

// ask sends a value and reads the answer.
func (h *helper) ask(question, answer any) error {
	if err := h.enc.Encode(question); err != nil {
		return err
	}
	return h.dec.Decode(answer)
}

func (h *helper) stop() {
	_ = h.in.Close()
	_ = h.cmd.Wait()
}
