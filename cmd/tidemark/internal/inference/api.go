package inference

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBody bounds a request.
	maxBody = 16 << 20
	// defaultMaxTokens is how long an answer is where nothing is said.
	defaultMaxTokens = 16
	// word is the token of which answers are made.
	word = " tide"
)

// body is what requests of both endpoints may hold; what else they hold is of no
// matter to a simulation.
type body struct {
	Model               string          `json:"model"`
	Prompt              json.RawMessage `json:"prompt"`
	Messages            []message       `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Stream              bool            `json:"stream"`
}

type message struct {
	Content json.RawMessage `json:"content"`
}

// Handler serves the API, the metrics and a health check.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) { e.complete(w, r, false) })
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { e.complete(w, r, true) })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"object": "list", "data": []any{map[string]any{"id": e.config.Model, "object": "model", "owned_by": "tidemark"}}})
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET "+e.metrics.names.path, e.metrics.handler())
	return mux
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func refuse(w http.ResponseWriter, status int, err error) {
	answer(w, status, map[string]any{"error": map[string]any{"message": err.Error(), "type": "invalid_request_error", "code": status}})
}

// complete answers one request when its tokens are made.
func (e *Engine) complete(w http.ResponseWriter, r *http.Request, chat bool) {
	var b body
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&b); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("read request: %w", err))
		return
	}
	if b.Model != "" && b.Model != e.config.Model {
		refuse(w, http.StatusNotFound, fmt.Errorf("the model %q does not exist; this engine serves %q", b.Model, e.config.Model))
		return
	}
	isl, osl, err := b.lengths(chat)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	request, err := e.submit(isl, osl)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	id := "cmpl-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if b.Stream {
		e.stream(w, r, request, id, chat)
		return
	}
	select {
	case <-request.finished:
	case <-r.Context().Done():
		e.abort(request)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"id": id, "object": object(chat, false), "created": time.Now().Unix(), "model": e.config.Model,
		"choices": []any{choice(strings.Repeat(word, osl), chat, false, "length")},
		"usage":   usage(request),
	})
}

// stream sends the first token when it is made, and the others with the last.
func (e *Engine) stream(w http.ResponseWriter, r *http.Request, request *request, id string, chat bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(text, reason string, more map[string]any) {
		chunk := map[string]any{
			"id": id, "object": object(chat, true), "created": time.Now().Unix(), "model": e.config.Model,
			"choices": []any{choice(text, chat, true, reason)},
		}
		for key, value := range more {
			chunk[key] = value
		}
		data, _ := json.Marshal(chunk) // what it holds can be written
		fmt.Fprintf(w, "data: %s\n\n", data)
		_ = http.NewResponseController(w).Flush()
	}
	for _, step := range []struct {
		made   <-chan struct{}
		text   string
		reason string
		more   map[string]any
	}{
		{request.started, word, "", nil},
		{request.finished, strings.Repeat(word, request.osl-1), "length", map[string]any{"usage": usage(request)}},
	} {
		select {
		case <-step.made:
			send(step.text, step.reason, step.more)
		case <-r.Context().Done():
			e.abort(request)
			return
		}
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func object(chat, chunk bool) string {
	switch {
	case chat && chunk:
		return "chat.completion.chunk"
	case chat:
		return "chat.completion"
	}
	return "text_completion"
}

func choice(text string, chat, chunk bool, reason string) map[string]any {
	c := map[string]any{"index": 0, "finish_reason": nil}
	if reason != "" {
		c["finish_reason"] = reason
	}
	switch {
	case chat && chunk:
		c["delta"] = map[string]any{"role": "assistant", "content": text}
	case chat:
		c["message"] = map[string]any{"role": "assistant", "content": text}
	default:
		c["text"] = text
	}
	return c
}

func usage(r *request) map[string]any {
	return map[string]any{"prompt_tokens": r.isl, "completion_tokens": r.osl, "total_tokens": r.isl + r.osl}
}

// lengths returns the tokens of the prompt and of the answer.
func (b *body) lengths(chat bool) (isl, osl int, err error) {
	osl = defaultMaxTokens
	for _, given := range []*int{b.MaxTokens, b.MaxCompletionTokens} {
		if given != nil {
			osl = *given
		}
	}
	if osl < 1 {
		return 0, 0, fmt.Errorf("max_tokens is %d, want at least 1", osl)
	}
	if chat {
		for _, m := range b.Messages {
			n, err := tokens(m.Content)
			if err != nil {
				return 0, 0, fmt.Errorf("messages: %w", err)
			}
			isl += n
		}
	} else if isl, err = tokens(b.Prompt); err != nil {
		return 0, 0, fmt.Errorf("prompt: %w", err)
	}
	if isl < 1 {
		return 0, 0, errors.New("the prompt is empty")
	}
	return isl, osl, nil
}

// tokens counts the tokens of a text, of a list of token ids, or of a list of
// parts with texts.
func tokens(raw json.RawMessage) (int, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return len(strings.Fields(text)), nil
	}
	var ids []int
	if json.Unmarshal(raw, &ids) == nil {
		return len(ids), nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) == nil {
		total := 0
		for _, part := range parts {
			total += len(strings.Fields(part.Text))
		}
		return total, nil
	}
	return 0, errors.New("want a text, a list of token ids, or a list of parts with texts")
}
