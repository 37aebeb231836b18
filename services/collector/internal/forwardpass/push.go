package forwardpass

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"tidemark.dev/pkg/model"
)

// PushPath is where messages are posted.
const PushPath = "POST /v1/forward-pass/{deployment}/{role}"

// maxPush bounds what is posted at once.
const maxPush = 1 << 20

// Inlet takes messages by HTTP POST, for the deployments that are observed here.
type Inlet struct {
	mu    sync.Mutex
	doors map[door]entrance
}

type door struct {
	deployment string
	role       model.Role
}

type entrance struct {
	store     *Store
	tokenFile string
}

// NewInlet returns an inlet that takes nothing.
func NewInlet() *Inlet { return &Inlet{doors: map[door]entrance{}} }

// Open lets messages of a role into a store, from who knows the token in a file,
// until close is called.
func (i *Inlet) Open(deployment string, role model.Role, store *Store, tokenFile string) (closeDoor func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key, opened := door{deployment, role}, entrance{store, tokenFile}
	i.doors[key] = opened
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.doors[key] == opened {
			delete(i.doors, key)
		}
	}
}

// ServeHTTP takes one message, or several that stand one after another: 204 if
// they are taken, 401 without the token, 404 for what is not observed here.
func (i *Inlet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	role := model.Role(r.PathValue("role"))
	i.mu.Lock()
	entrance, open := i.doors[door{r.PathValue("deployment"), role}]
	i.mu.Unlock()
	if !open {
		http.Error(w, "this collector takes no forward-pass metrics of that deployment and role", http.StatusNotFound)
		return
	}
	token, err := os.ReadFile(entrance.tokenFile)
	given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if err != nil || len(strings.TrimSpace(string(token))) == 0 || !bearer || !same(given, strings.TrimSpace(string(token))) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "the bearer token is not that of push.token_file", http.StatusUnauthorized)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
	if err != nil {
		http.Error(w, fmt.Sprintf("read messages: %v", err), http.StatusRequestEntityTooLarge)
		return
	}
	if err := entrance.store.TakeAll(role, data, time.Now()); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// same compares secrets in a time that tells nothing of them.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
