// Package webhook carries decisions out by telling somebody else to: it posts a
// decision as a CloudEvent over HTTP, signed as Standard Webhooks has it, and
// takes the answer for the outcome. It is how schedulers that Tidemark does not
// know are reached.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/observed"
)

// The headers of Standard Webhooks, and the one by which a repeated request is
// known to be the same.
const (
	HeaderID          = "Webhook-Id"
	HeaderTimestamp   = "Webhook-Timestamp"
	HeaderSignature   = "Webhook-Signature"
	HeaderIdempotency = "Idempotency-Key"
)

// mostOfAnswer bounds what is read of an answer, for its first line.
const mostOfAnswer = 1024

// Connector posts decisions to where deployments name under actuator.webhook.
type Connector struct {
	steps  connector.Steps
	fleets *observed.Fleets
	client *http.Client
	now    func() time.Time
}

var _ connector.Connector = (*Connector)(nil)

// New returns a connector. What is ready, it takes from the observations: who
// takes the decisions is not asked.
func New(steps connector.Steps, fleets *observed.Fleets) *Connector {
	return &Connector{
		steps: steps, fleets: fleets, now: time.Now,
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// Name returns the connector's name in actuations.
func (c *Connector) Name() string { return "webhook" }

// Apply posts the order's decision until it is answered for good. Each attempt
// is permitted and signed anew, and has the same identifier.
func (c *Connector) Apply(ctx context.Context, order connector.Order) error {
	settings := order.Configured.Spec.Actuator.Webhook
	secret, err := readSecret(settings.SecretFile)
	if err != nil {
		return connector.Refuse(model.RejectedNotReady, "the webhook's secret: %v", err)
	}
	_, err = connector.Retry(ctx, c.steps, func() (struct{}, error) {
		if err := order.Permit(ctx); err != nil {
			return struct{}{}, connector.Final(err)
		}
		return struct{}{}, c.post(ctx, settings, secret, order)
	})
	return err
}

// Ready returns what the newest observation of the fleet counts.
func (c *Connector) Ready(_ context.Context, configured *model.DeploymentConfigured) (model.PerRole[int], error) {
	return c.fleets.Ready(configured.Deployment), nil
}

// post makes one attempt.
func (c *Connector) post(ctx context.Context, settings *model.WebhookActuator, secret []byte, order connector.Order) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(settings.TimeoutS*float64(time.Second)))
	defer cancel()
	msg := order.Event.Message()
	payload, err := payload(order, msg.Payload)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, settings.URL, bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("make a request to the webhook: %w", err)
	}
	// The binary mode of CloudEvents over HTTP: ce_id of the log is ce-id there.
	for name, value := range msg.Metadata {
		if attribute, ok := strings.CutPrefix(name, "ce_"); ok {
			request.Header.Set("ce-"+attribute, value)
		}
	}
	timestamp := strconv.FormatInt(c.now().Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "tidemark-actuator")
	request.Header.Set(HeaderIdempotency, order.Event.ID)
	request.Header.Set(HeaderID, order.Event.ID)
	request.Header.Set(HeaderTimestamp, timestamp)
	request.Header.Set(HeaderSignature, Sign(secret, order.Event.ID, timestamp, payload))
	response, err := c.client.Do(request)
	if err != nil {
		return fmt.Errorf("the webhook does not answer: %w", errors.Join(err, connector.ErrTransient))
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, mostOfAnswer))
	return judge(response.StatusCode, firstLine(body))
}

// payload returns the decision as it is in the log, or, where limits hold some of
// it back, with the target that is left: a receiver does what the target says.
func payload(order connector.Order, logged []byte) ([]byte, error) {
	limited := *order.Decision
	limited.Target, limited.Delta = model.PerRole[int]{}, model.PerRole[int]{}
	same := true
	for _, role := range model.AllRoles {
		target, asked := order.Decision.Target.Get(role)
		if !asked {
			continue
		}
		desired, _ := order.Decision.Desired.Get(role)
		to := desired
		if change, changes := order.Changes.Get(role); changes {
			to = change.To
		}
		limited.Target.Set(role, to)
		limited.Delta.Set(role, to-desired)
		same = same && to == target
	}
	if same {
		return logged, nil
	}
	limited.Action = model.Classify(limited.Delta)
	data, err := json.Marshal(&limited)
	if err != nil {
		return nil, fmt.Errorf("encode what limits leave of decision %s: %w", order.Event.ID, err)
	}
	return data, nil
}

// judge says what an answer means.
func judge(status int, said string) error {
	if said == "" {
		said = http.StatusText(status)
	}
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusConflict:
		return connector.Refuse(model.RejectedDrift, "the webhook says: %s", said)
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return fmt.Errorf("the webhook answers %d (%s): %w", status, said, connector.ErrTransient)
	}
	return fmt.Errorf("the webhook answers %d: %s", status, said)
}

// firstLine returns what a person is shown of an answer.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return strings.ToValidUTF8(strings.TrimSpace(line), "?")
}

// Sign signs a request: the identifier, the time in seconds since 1970 and the
// body, joined by dots, under HMAC-SHA256.
func Sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// secretPrefix marks a secret that is written in base64.
const secretPrefix = "whsec_"

// readSecret reads a secret at each use, so that it can be changed at any time.
func readSecret(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	text := strings.TrimSpace(string(content))
	if encoded, ok := strings.CutPrefix(text, secretPrefix); ok {
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, fmt.Errorf("%s: what follows %s is no base64", file, secretPrefix)
		}
		text = string(secret)
	}
	if len(text) < 16 {
		return nil, fmt.Errorf("%s holds %d bytes, want at least 16", file, len(text))
	}
	return []byte(text), nil
}
