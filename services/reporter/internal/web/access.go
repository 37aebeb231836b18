package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// Access says who may read. The zero Access lets everyone.
type Access struct {
	// secrets are the digests of the Authorization values that are let in.
	secrets [][sha256.Size]byte
	basic   bool
}

// LoadAccess reads who may read from a file: a line "bearer TOKEN" lets a client
// of the API in, a line "basic USER:PASSWORD" a browser. Empty lines and those
// that begin with # are passed over.
func LoadAccess(path string) (Access, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Access{}, fmt.Errorf("read who may read: %w", err)
	}
	var a Access
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		scheme, secret, _ := strings.Cut(line, " ")
		secret = strings.TrimSpace(secret)
		user, password, pair := strings.Cut(secret, ":")
		switch {
		case scheme == "bearer" && secret != "":
			a.secrets = append(a.secrets, sha256.Sum256([]byte("Bearer "+secret)))
		case scheme == "basic" && pair && user != "" && password != "":
			a.secrets = append(a.secrets, sha256.Sum256([]byte("Basic "+secret)))
			a.basic = true
		default:
			// The line is not shown: it may hold most of a secret.
			return Access{}, fmt.Errorf("%s, line %d: want \"bearer TOKEN\" or \"basic USER:PASSWORD\"", path, i+1)
		}
	}
	if len(a.secrets) == 0 {
		return Access{}, errors.New(path + " lets nobody in: it has no line \"bearer TOKEN\" or \"basic USER:PASSWORD\"")
	}
	return a, nil
}

// allows compares in a time that does not depend on how much of a secret is right.
func (a Access) allows(request *http.Request) bool {
	if len(a.secrets) == 0 {
		return true
	}
	given := request.Header.Get("Authorization")
	if user, password, ok := request.BasicAuth(); ok {
		given = "Basic " + user + ":" + password
	}
	digest := sha256.Sum256([]byte(given))
	right := 0
	for _, secret := range a.secrets {
		right |= subtle.ConstantTimeCompare(secret[:], digest[:])
	}
	return right == 1
}

// guard lets those in who may read, and sets what every answer says.
func (a Access) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		if !a.allows(request) {
			if a.basic {
				header.Set("WWW-Authenticate", `Basic realm="tidemark", charset="UTF-8"`)
			} else {
				header.Set("WWW-Authenticate", `Bearer realm="tidemark"`)
			}
			http.Error(w, "this page and its API are for those whom --auth-file names", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, request)
	})
}
