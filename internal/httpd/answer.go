package httpd

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Problem is the error envelope of all our APIs.
type Problem struct {
	Error ProblemDetail `json:"error"`
}

// ProblemDetail says what went wrong: Code is stable and for programs, Message
// for people, TraceID finds the log line.
type ProblemDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	TraceID string `json:"trace_id"`
}

// WriteJSON answers with v as JSON. The Content-Type is application/json
// unless the handler has set one. A v that cannot be encoded is a mistake of
// the program and panics, before anything is written.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("encoding an answer: %w", err))
	}
	h := w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the peer may be gone; there is nobody to tell
}

// WriteProblem answers with the error envelope. Headers that describe a good
// answer are taken back; an error is never stored by a cache.
func WriteProblem(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	h := w.Header()
	for _, name := range []string{"Content-Type", "Content-Encoding", "ETag", "Last-Modified", "Expires"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	WriteJSON(w, status, Problem{ProblemDetail{Code: code, Message: message, TraceID: RequestID(r.Context())}})
}

// ReadBody reads and closes the body of resp; one larger than limit bytes is
// an error.
func ReadBody(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("reading the answer: %d bytes, at most %d are allowed", resp.ContentLength, limit)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("reading the answer: more than %d bytes", limit)
	}
	return data, nil
}
