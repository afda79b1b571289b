package internet

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// model is the mind behind api.openai.com and api.anthropic.com: it says what
// it is told to say.
type model struct {
	mu    sync.Mutex
	text  string
	tools []string // shell commands to call for, before the text
}

func newModel() *model { return &model{text: "The fake internet says hello."} }

// Say sets what the model answers.
func (n *Internet) Say(text string) {
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	n.model.text = text
}

// CallShell has the model ask its agent to run shell commands, one a turn,
// before it answers.
func (n *Internet) CallShell(commands ...string) {
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	n.model.tools = append([]string(nil), commands...)
}

// turn is what the model does next.
func (m *model) turn() (text, shell string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.tools) > 0 {
		shell, m.tools = m.tools[0], m.tools[1:]
		return "", shell
	}
	return m.text, ""
}

func bearer(r *http.Request, want string) bool {
	got := r.Header.Get("Authorization")
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte("Bearer "+want)) == 1
}

// openai speaks as much of the OpenAI API as its clients need: models, chat
// completions, and responses over JSON, SSE and WebSocket.
func (n *Internet) openai() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 200, map[string]any{"object": "list", "data": []any{map[string]any{"id": "gpt-5", "object": "model", "created": 1, "owned_by": "fake"}}})
	})
	mux.HandleFunc("POST /v1/chat/completions", n.chatCompletions)
	mux.HandleFunc("POST /v1/responses", n.responses)
	mux.HandleFunc("GET /v1/responses", n.responsesSocket)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !bearer(r, n.cred.OpenAI) {
			// The shape of the real service's refusal, which clients parse.
			writeJSON(w, 401, map[string]any{"error": map[string]any{
				"message": "Incorrect API key provided.", "type": "invalid_request_error", "param": nil, "code": "invalid_api_key",
			}})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (n *Internet) chatCompletions(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Stream bool `json:"stream"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(&in); err != nil {
		writeJSON(w, 400, map[string]any{"error": map[string]any{"message": "not JSON"}})
		return
	}
	text, _ := n.model.turn()
	if !in.Stream {
		writeJSON(w, 200, map[string]any{
			"id": "chatcmpl-1", "object": "chat.completion", "created": time.Now().Unix(), "model": "gpt-5",
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text}}},
			"usage":   map[string]any{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
		})
		return
	}
	sse := startSSE(w)
	for _, word := range strings.SplitAfter(text, " ") {
		sse.data(map[string]any{
			"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5",
			"choices": []any{map[string]any{"index": 0, "delta": map[string]any{"content": word}}},
		})
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// sse writes server-sent events, each on the wire at once.
type sse struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func startSSE(w http.ResponseWriter) *sse {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(200)
	return &sse{w, http.NewResponseController(w)}
}

func (s *sse) data(v any) {
	b, _ := json.Marshal(v)
	_, _ = fmt.Fprintf(s.w, "data: %s\n\n", b)
	_ = s.c.Flush()
}

func (s *sse) event(name string, v any) {
	b, _ := json.Marshal(v)
	_, _ = fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", name, b)
	_ = s.c.Flush()
}

// events are the events of one response, in the order of the API's streaming
// reference. A response that generates nothing (a prewarm) has no output.
func (n *Internet) events(generate bool) []map[string]any {
	id := fmt.Sprintf("resp_%d", time.Now().UnixNano())
	base := func(status string, output []any) map[string]any {
		return map[string]any{
			"id": id, "object": "response", "created_at": time.Now().Unix(), "status": status, "model": "gpt-5", "output": output,
			"usage": map[string]any{
				"input_tokens": 1, "output_tokens": 1, "total_tokens": 2,
				"input_tokens_details": map[string]any{"cached_tokens": 0}, "output_tokens_details": map[string]any{"reasoning_tokens": 0},
			},
		}
	}
	out := []map[string]any{{"type": "response.created", "response": base("in_progress", []any{})}}
	if !generate {
		return append(out, map[string]any{"type": "response.completed", "response": base("completed", []any{})})
	}
	var item map[string]any
	text, shell := n.model.turn()
	if shell != "" {
		args, _ := json.Marshal(map[string]any{"cmd": shell, "command": []string{"bash", "-lc", shell}})
		item = map[string]any{"type": "function_call", "id": "fc_1", "call_id": fmt.Sprintf("call_%d", time.Now().UnixNano()), "name": "exec_command", "arguments": string(args), "status": "completed"}
		out = append(out, map[string]any{"type": "response.output_item.added", "output_index": 0, "item": item})
	} else {
		item = map[string]any{
			"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
			"content": []any{map[string]any{"type": "output_text", "text": text, "annotations": []any{}}},
		}
		out = append(out,
			map[string]any{"type": "response.output_item.added", "output_index": 0, "item": map[string]any{"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []any{}}},
			map[string]any{"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text},
		)
	}
	return append(out,
		map[string]any{"type": "response.output_item.done", "output_index": 0, "item": item},
		map[string]any{"type": "response.completed", "response": base("completed", []any{item})},
	)
}

func (n *Internet) responses(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Stream bool `json:"stream"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 16<<20)).Decode(&in); err != nil {
		writeJSON(w, 400, map[string]any{"error": map[string]any{"message": "not JSON"}})
		return
	}
	evs := n.events(true)
	if !in.Stream {
		writeJSON(w, 200, evs[len(evs)-1]["response"])
		return
	}
	s := startSSE(w)
	for i, ev := range evs {
		ev["sequence_number"] = i
		s.event(ev["type"].(string), ev)
	}
}

// responsesSocket is the WebSocket form, which Codex prefers: each message of
// the client asks for one response, whose events come back as text messages.
func (n *Internet) responsesSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(16 << 20)
	for {
		_, msg, err := c.Read(r.Context())
		if err != nil {
			return
		}
		var in struct {
			Type     string `json:"type"`
			Generate *bool  `json:"generate"`
		}
		if err := json.Unmarshal(msg, &in); err != nil || in.Type != "response.create" {
			continue
		}
		for i, ev := range n.events(in.Generate == nil || *in.Generate) {
			ev["sequence_number"] = i
			b, _ := json.Marshal(ev)
			if err := c.Write(r.Context(), websocket.MessageText, b); err != nil {
				return
			}
		}
	}
}

// anthropic speaks the messages API: x-api-key, and never a bearer beside it.
func (n *Internet) anthropic() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/hello", n.hello)
	mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) {
		if n.cred.Anthropic == "" || r.Header.Get("X-Api-Key") != n.cred.Anthropic || r.Header.Get("Authorization") != "" {
			writeJSON(w, 401, map[string]any{"type": "error", "error": map[string]any{"type": "authentication_error", "message": "invalid x-api-key"}})
			return
		}
		var in struct {
			Stream bool `json:"stream"`
		}
		_ = json.NewDecoder(io.LimitReader(r.Body, 16<<20)).Decode(&in)
		text, _ := n.model.turn()
		msg := map[string]any{
			"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": nil,
			"content": []any{map[string]any{"type": "text", "text": text}}, "stop_reason": "end_turn",
			"usage": map[string]any{"input_tokens": 1, "output_tokens": 1},
		}
		if !in.Stream {
			writeJSON(w, 200, msg)
			return
		}
		s := startSSE(w)
		start := map[string]any{"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []any{}, "stop_reason": nil, "stop_sequence": nil, "usage": msg["usage"]}
		s.event("message_start", map[string]any{"type": "message_start", "message": start})
		s.event("content_block_start", map[string]any{"type": "content_block_start", "index": 0, "content_block": map[string]any{"type": "text", "text": ""}})
		s.event("content_block_delta", map[string]any{"type": "content_block_delta", "index": 0, "delta": map[string]any{"type": "text_delta", "text": text}})
		s.event("content_block_stop", map[string]any{"type": "content_block_stop", "index": 0})
		s.event("message_delta", map[string]any{"type": "message_delta", "delta": map[string]any{"stop_reason": "end_turn", "stop_sequence": nil}, "usage": map[string]any{"output_tokens": 1}})
		s.event("message_stop", map[string]any{"type": "message_stop"})
	})
	return mux
}

func (n *Internet) hello(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, 200, map[string]any{"message": "hello"})
}
