package pure

import (
	"context"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	if _, err := names(context.Background(), source{}, time.Now()); err != nil {
		t.Fatal(err)
	}
}
