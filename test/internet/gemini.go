package internet

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// gemini speaks generateContent, whole and streamed, and wants its key in the
// header of Google's own.
func (n *Internet) gemini() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.cred.Gemini == "" || r.Header.Get("X-Goog-Api-Key") != n.cred.Gemini {
			writeJSON(w, 400, map[string]any{"error": map[string]any{
				"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
			}})
			return
		}
		_, act, ok := strings.Cut(r.URL.Path, ":")
		if !ok || !strings.HasPrefix(r.URL.Path, "/v1beta/models/") {
			writeJSON(w, 404, map[string]any{"error": map[string]any{"code": 404, "message": "not found", "status": "NOT_FOUND"}})
			return
		}
		var in struct {
			GenerationConfig struct {
				ResponseMimeType string `json:"responseMimeType"`
			} `json:"generationConfig"`
		}
		_ = json.NewDecoder(io.LimitReader(r.Body, 16<<20)).Decode(&in)
		text, _ := n.model.turn()
		if in.GenerationConfig.ResponseMimeType == "application/json" {
			// A question of the agent's own, about which model to take.
			text = `{"reasoning":"short","model_choice":"flash","complexity_reasoning":"none","complexity_score":1}`
		}
		answer := map[string]any{
			"candidates": []any{map[string]any{
				"index": 0, "finishReason": "STOP", "content": map[string]any{"role": "model", "parts": []any{map[string]any{"text": text}}},
			}},
			"usageMetadata": map[string]any{"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
			"modelVersion":  "gemini-fake",
		}
		switch act {
		case "countTokens":
			writeJSON(w, 200, map[string]any{"totalTokens": 1})
		case "generateContent":
			writeJSON(w, 200, answer)
		case "streamGenerateContent":
			startSSE(w).data(answer)
		default:
			writeJSON(w, 404, map[string]any{"error": map[string]any{"code": 404, "message": "no such method", "status": "NOT_FOUND"}})
		}
	})
}
