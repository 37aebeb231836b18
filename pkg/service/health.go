package service

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// Health tells whether the parts of a process are ready to work. A part that
// never said so is not.
type Health struct {
	mu      sync.Mutex
	waiting []string
	address atomic.Value
}

// NewHealth returns the health of a process that waits for nothing yet.
func NewHealth() *Health { return &Health{} }

// Expect adds a part that has to be ready, and returns the function by which it
// says that it is. Call Expect before the process starts.
func (h *Health) Expect(part string) (ready func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = append(h.waiting, part)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if i := slices.Index(h.waiting, part); i >= 0 {
			h.waiting = slices.Delete(h.waiting, i, i+1)
		}
	}
}

// Waiting lists the parts that are not ready.
func (h *Health) Waiting() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.waiting)
}

// Address returns the address of the HTTP endpoints, once they are served.
func (h *Health) Address() string {
	address, _ := h.address.Load().(string)
	return address
}

// ServeHTTP answers 200 when every part is ready, else 503 and their names.
func (h *Health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if waiting := h.Waiting(); len(waiting) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ready:", waiting)
		return
	}
	fmt.Fprintln(w, "ready")
}
