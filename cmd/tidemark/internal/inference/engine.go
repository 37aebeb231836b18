// Package inference is an inference server without a model: an HTTP front around one
// engine of pkg/model/sim that lives in real time. It speaks the completion
// endpoints of OpenAI's API and exports the metrics of the engine whose names it
// is told, so that what observes engines can be tried without a GPU.
//
// A token is a word: a prompt is as long as it has words, or as the list of token
// ids that it is, and an answer has as many words as max_tokens says.
package inference

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
)

// Config describes an engine.
type Config struct {
	// API names whose metrics are exported: vllm, sglang or trtllm.
	API model.Preset
	// Model is the name that requests and metrics carry.
	Model string
	Role  model.Role
	// Figures names the engine's speed, of those of package sim.
	Figures string
	// Speed is how many times as fast the engine is.
	Speed float64
}

// DefaultConfig returns the configuration of an engine that is told nothing.
func DefaultConfig() Config {
	return Config{API: model.PresetVLLM, Model: "tidemark/simulated", Role: model.Aggregated, Figures: sim.DefaultFigures, Speed: 1}
}

// Engine is one engine at work.
type Engine struct {
	config  Config
	limits  sim.Engine
	started time.Time
	metrics *metrics

	mu       sync.Mutex
	fleet    *sim.Fleet
	requests map[*request]struct{}
	// wake is sent to when the next event may have come nearer.
	wake chan struct{}
}

// request is one request on its way.
type request struct {
	answer   *sim.Answer
	isl, osl int
	aborted  bool
	counted  bool
	// started and finished are closed when the first and the last token are made.
	started, finished chan struct{}
}

// errTooLarge says that the engine could never hold a request.
var errTooLarge = errors.New("the prompt and max_tokens together exceed the KV cache")

// New returns an engine that is idle.
func New(config Config) (*Engine, error) {
	figures, err := sim.FiguresOf(config.Figures)
	if err != nil {
		return nil, err
	}
	if !(config.Speed > 0) {
		return nil, fmt.Errorf("speed is %v, want more than 0", config.Speed)
	}
	topology := map[model.Role]model.Topology{
		model.Aggregated: model.TopologyAggregated, model.Prefill: model.TopologyPrefill, model.Decode: model.TopologyDecode,
	}[config.Role]
	fleet := sim.Config{Topology: topology}
	limits := figures.Engine(config.Role)
	fleet.Roles.Set(config.Role, sim.RoleConfig{Replicas: 1, GPUsPerReplica: figures.GPUs, Engine: limits})
	simulated, err := sim.New(fleet, sim.NewRequests(nil))
	if err != nil {
		return nil, err
	}
	e := &Engine{
		config: config, limits: limits, started: time.Now(), fleet: simulated,
		requests: map[*request]struct{}{}, wake: make(chan struct{}, 1),
	}
	if e.metrics, err = newMetrics(e); err != nil {
		return nil, err
	}
	return e, nil
}

// Run lets the engine work until the context is done.
func (e *Engine) Run(ctx context.Context) {
	for {
		e.mu.Lock()
		e.advance()
		next, any := e.fleet.NextEvent()
		e.mu.Unlock()
		timer := time.NewTimer(time.Hour)
		if any {
			timer.Reset(time.Until(e.started.Add(e.wall(next))))
		}
		select {
		case <-timer.C:
		case <-e.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// wall returns how long a simulated duration is for those outside.
func (e *Engine) wall(simulated time.Duration) time.Duration {
	return time.Duration(float64(simulated) / e.config.Speed)
}

// advance lets the fleet live up to the present, and tells those that wait.
func (e *Engine) advance() {
	now := time.Duration(float64(time.Since(e.started)) * e.config.Speed)
	// It never fails: there is no workload that could, and time does not go back.
	_ = e.fleet.Advance(max(now, e.fleet.Now()))
	for r := range e.requests {
		e.follow(r)
	}
}

// follow notes what has become of a request.
func (e *Engine) follow(r *request) {
	if r.answer.Started && !r.counted {
		r.counted = true
		e.metrics.startedAnswer(r.isl, e.wall(r.answer.FirstTokenAt-r.answer.ArrivedAt))
		close(r.started)
	}
	if r.answer.Finished {
		delete(e.requests, r)
		e.metrics.finishedAnswer(r, e.wall(r.answer.FinishedAt-r.answer.ArrivedAt), e.wall(r.answer.FinishedAt-r.answer.FirstTokenAt))
		close(r.finished)
	}
}

// submit takes a request in.
func (e *Engine) submit(isl, osl int) (*request, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.advance()
	answer, err := e.fleet.Submit(isl, osl)
	if err != nil {
		return nil, err
	}
	if answer.Rejected {
		return nil, fmt.Errorf("%w: %d and %d tokens, and it holds %d", errTooLarge, isl, osl, e.limits.MaxKVTokens)
	}
	r := &request{answer: answer, isl: isl, osl: osl, started: make(chan struct{}), finished: make(chan struct{})}
	e.requests[r] = struct{}{}
	select {
	case e.wake <- struct{}{}:
	default:
	}
	return r, nil
}

// abort notes that nobody waits for a request any more. The engine finishes it
// all the same.
func (e *Engine) abort(r *request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.aborted = true
}

// state is what the engine has in hand.
type state struct {
	sim.Progress
	waiting int
	sample  sim.Sample
}

// look returns the engine's state at present.
func (e *Engine) look() state {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.advance()
	sample := e.fleet.Engines()[0]
	return state{Progress: e.fleet.Progress()[0], waiting: sample.Queued.PrefillRequests + sample.Queued.DecodeRequests, sample: sample}
}
