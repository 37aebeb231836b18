package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/observed"
	"tidemark.dev/services/actuator/internal/webhook"
)

const secret = "a secret of this test alone"

// scheduler is who takes decisions: it believes what is signed and fresh, and
// does a decision once.
type scheduler struct {
	mu       sync.Mutex
	answers  []int // before it does what it is told
	done     []string
	requests []*http.Request
	problems []string
}

func (s *scheduler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.problems = append(s.problems, err.Error())
	}
	s.requests = append(s.requests, r)
	id, timestamp := r.Header.Get(webhook.HeaderID), r.Header.Get(webhook.HeaderTimestamp)
	if want := webhook.Sign([]byte(secret), id, timestamp, body); !hmac.Equal([]byte(want), []byte(r.Header.Get(webhook.HeaderSignature))) {
		s.problems = append(s.problems, "the signature is wrong")
	}
	if seconds, err := strconv.ParseInt(timestamp, 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		s.problems = append(s.problems, "the time is "+timestamp)
	}
	var decision model.ScalingDecision
	if err := json.Unmarshal(body, &decision); err != nil || decision.Target.Decode == nil {
		s.problems = append(s.problems, fmt.Sprintf("the body is %s: %v", body, err))
	}
	if len(s.answers) > 0 {
		status := s.answers[0]
		s.answers = s.answers[1:]
		http.Error(w, "said the scheduler\nand more", status)
		return
	}
	if key := r.Header.Get(webhook.HeaderIdempotency); !slices.Contains(s.done, key) {
		s.done = append(s.done, key)
	}
	w.WriteHeader(http.StatusAccepted)
}

func orderFor(t *testing.T, url, secretFile string) connector.Order {
	t.Helper()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	decision := &model.ScalingDecision{
		Deployment: "chat", Mode: model.Active, ObservationID: "o", ObservedAt: at, ValidUntil: at.Add(time.Minute), PlannerVersion: "1",
		Action: model.ScaleUp, Desired: model.PerRole[int]{Decode: new(2)}, Target: model.PerRole[int]{Decode: new(3)},
	}
	event, err := events.Seal(decision, events.About{Source: "/tidemark/decider"})
	if err != nil {
		t.Fatal(err)
	}
	spec := model.DefaultDeployment()
	spec.Actuator = &model.Actuator{Webhook: &model.WebhookActuator{URL: url, SecretFile: secretFile, TimeoutS: 5}}
	return connector.Order{
		Configured: &model.DeploymentConfigured{Deployment: "chat", Spec: spec}, Event: event, Decision: decision,
		Changes: model.PerRole[model.Change]{Decode: &model.Change{From: 2, To: 3}},
		Permit:  func(context.Context) error { return nil },
	}
}

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWebhook(t *testing.T) {
	cases := []struct {
		name     string
		answers  []int
		secret   string
		permit   error
		requests int
		done     int
		refused  model.Rejection
		failure  string
	}{
		{name: "taken", requests: 1, done: 1},
		{name: "a secret in base64", secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte(secret)) + "\n", requests: 1, done: 1},
		{name: "drift", answers: []int{409}, requests: 1, refused: model.RejectedDrift},
		{name: "busy, twice", answers: []int{503, 429}, requests: 3, done: 1},
		{name: "busy for good", answers: []int{500, 500, 500, 500, 500, 500}, requests: 5, failure: "the webhook answers 500 (said the scheduler)"},
		{name: "refused", answers: []int{403}, requests: 1, failure: "the webhook answers 403: said the scheduler"},
		{name: "moved: a signed request follows nobody", answers: []int{302}, requests: 1, failure: "the webhook answers 302"},
		{name: "not permitted", permit: connector.Refuse(model.RejectedFrozen, "frozen"), refused: model.RejectedFrozen},
		{name: "a short secret", secret: "secret", refused: model.RejectedNotReady},
		{name: "broken base64", secret: "whsec_%", refused: model.RejectedNotReady},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			there := &scheduler{answers: c.answers}
			server := httptest.NewServer(there)
			defer server.Close()
			content := secret
			if c.secret != "" {
				content = c.secret
			}
			order := orderFor(t, server.URL+"/scale", file(t, content))
			order.Permit = func(context.Context) error { return c.permit }
			steps := connector.DefaultSteps()
			steps.FirstPause, steps.LongestPause = time.Millisecond, time.Millisecond
			err := webhook.New(steps, observed.New()).Apply(t.Context(), order)
			refusal, refused := connector.RefusalOf(err)
			switch {
			case c.refused != "" && (!refused || refusal.Reason != c.refused), c.failure != "" && (err == nil || refused || !strings.Contains(err.Error(), c.failure)),
				c.refused == "" && c.failure == "" && err != nil:
				t.Errorf("error is %v, want refusal %q or failure %q", err, c.refused, c.failure)
			}
			if len(there.requests) != c.requests || len(there.done) != c.done || len(there.problems) > 0 {
				t.Errorf("%d requests, %d done, problems %q; want %d and %d", len(there.requests), len(there.done), there.problems, c.requests, c.done)
			}
			for _, r := range there.requests {
				for name, want := range map[string]string{
					"ce-specversion": "1.0", "ce-id": order.Event.ID, "ce-type": events.TypeScalingDecision, "ce-source": "/tidemark/decider",
					"ce-subject": "chat", "ce-time": "2026-11-23T12:00:00Z", "Content-Type": "application/json", "Idempotency-Key": order.Event.ID,
				} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("header %s is %q, want %q", name, got, want)
					}
				}
			}
		})
	}
}

// TestLimitedDecision: a receiver is told what the limits leave, never more.
func TestLimitedDecision(t *testing.T) {
	var bodies [][]byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies = append(bodies, body)
	}))
	defer server.Close()
	order := orderFor(t, server.URL, file(t, secret))
	order.Decision.Target.Decode = new(9)
	for range 2 {
		if err := webhook.New(connector.DefaultSteps(), observed.New()).Apply(t.Context(), order); err != nil {
			t.Fatal(err)
		}
		order.Changes.Decode.To = 9
	}
	var limited model.ScalingDecision
	if err := json.Unmarshal(bodies[0], &limited); err != nil {
		t.Fatal(err)
	}
	if *limited.Target.Decode != 3 || *limited.Delta.Decode != 1 || limited.Action != model.ScaleUp || limited.ObservationID != "o" {
		t.Errorf("the limited decision is %s", bodies[0])
	}
	if !bytes.Equal(bodies[1], order.Event.Data) {
		t.Errorf("a decision that nothing limits is posted as %s, it is in the log as %s", bodies[1], order.Event.Data)
	}
}

func TestWebhookThatDoesNotAnswer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	url := server.URL
	server.Close()
	steps := connector.Steps{Attempts: 3, FirstPause: time.Millisecond, LongestPause: time.Millisecond}
	err := webhook.New(steps, observed.New()).Apply(t.Context(), orderFor(t, url, file(t, secret)))
	if !errors.Is(err, connector.ErrTransient) || !strings.HasPrefix(err.Error(), "the webhook does not answer: ") {
		t.Errorf("error is %v", err)
	}
}

// TestSignature holds a signature against the example in the specification of
// Standard Webhooks.
func TestSignature(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := webhook.Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature is %s, want %s", got, want)
	}
}
