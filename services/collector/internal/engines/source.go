// Package engines reads the state of engines from the engines themselves: their
// own metrics, scraped at each tick.
//
// An engine that does not answer has no sample, and leaves those of the others as
// they are. What an engine does not export is not in its sample.
package engines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	pm "github.com/prometheus/common/model"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/httpclient"
)

// maxScrapes bounds the engines of one deployment that are scraped at once.
const maxScrapes = 64

// Source reads the engines of one deployment.
type Source struct {
	spec   *model.EnginesSource
	roles  model.PerRole[model.RoleSpec]
	preset preset
	lookup resolver
	logger *slog.Logger

	clients clients

	mu     sync.Mutex
	memory map[string]*memory
}

// memory is what is kept of an engine from one tick to the next.
type memory struct {
	since time.Time          // when it first answered
	ranks map[string]reading // what it said last
}

// New returns the source of a deployment.
func New(configured *model.Deployment, logger *slog.Logger) *Source {
	spec := configured.Source.Engines
	return &Source{
		spec: spec, roles: configured.Roles, preset: presets[spec.Preset], lookup: net.DefaultResolver, logger: logger,
		clients: clients{settings: &spec.HTTP}, memory: map[string]*memory{},
	}
}

// Close closes the source's connections.
func (s *Source) Close() { s.clients.close() }

// Engines reads all engines at an instant.
func (s *Source) Engines(ctx context.Context, at time.Time) *model.EnginesObservation {
	var targets []target
	var problems []error
	for _, role := range model.AllRoles {
		pool, given := s.spec.Roles.Get(role)
		if !given {
			continue
		}
		found, err := discover(ctx, s.lookup, role, pool)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", role, err))
		}
		targets = append(targets, found...)
	}
	answers := make([]answer, len(targets))
	var scrapes errgroup.Group
	scrapes.SetLimit(maxScrapes)
	for i, t := range targets {
		scrapes.Go(func() error {
			answers[i] = s.scrape(ctx, t)
			return nil
		})
	}
	_ = scrapes.Wait() // none returns an error: what fails has no sample
	return s.observe(at, targets, answers, problems)
}

// answer is what the scrape of one engine gave.
type answer struct {
	ranks map[string]reading
	err   error
}

// observe makes the samples, and remembers what the next ones need.
func (s *Source) observe(at time.Time, targets []target, answers []answer, problems []error) *model.EnginesObservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	observed := &model.EnginesObservation{Status: model.Measured, AgeS: new(0.0)}
	kept := map[string]*memory{}
	for i, t := range targets {
		key := string(t.role) + " " + t.worker
		if err := answers[i].err; err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", t.worker, err))
			continue
		}
		before := s.memory[key]
		if before == nil {
			before = &memory{since: at}
		}
		kept[key] = &memory{since: before.since, ranks: answers[i].ranks}
		for n, rank := range sortedRanks(answers[i].ranks) {
			now := answers[i].ranks[rank]
			var last *reading
			if r, ok := before.ranks[rank]; ok {
				last = &r
			}
			sample := now.sample(t.role, last)
			sample.Worker, sample.DPRank, sample.AgeS = t.worker, rankNumber(rank, n), new(at.Sub(before.since).Seconds())
			observed.Samples = append(observed.Samples, sample)
		}
	}
	s.memory = kept
	return judge(observed, len(targets), problems, s.logger)
}

// judge gives the observation its class. What some engines lack is logged, and
// seen by the decider as a count that is not that of the fleet.
func judge(observed *model.EnginesObservation, engines int, problems []error, logger *slog.Logger) *model.EnginesObservation {
	if len(observed.Samples) > 0 {
		for _, problem := range problems {
			logger.Warn("engine has no sample", "error", problem)
		}
		return observed
	}
	failed := slices.DeleteFunc(slices.Clone(problems), func(err error) bool { return errors.Is(err, errNoEngine) || errors.Is(err, errNotSuch) })
	switch {
	case len(failed) > 0:
		return &model.EnginesObservation{Status: model.Failed, Error: summary("engines", engines, failed)}
	case len(problems) > 0:
		return &model.EnginesObservation{Status: model.Absent, Error: summary("engines", engines, problems)}
	}
	return &model.EnginesObservation{Status: model.Absent, Error: "engines: " + errNoEngine.Error()}
}

// summary returns the first problem, and how many there are.
func summary(of string, engines int, problems []error) string {
	text := of + ": " + httpclient.Brief(problems[0])
	if len(problems) > 1 {
		text += fmt.Sprintf(" (and %d more of %d)", len(problems)-1, max(engines, len(problems)))
	}
	return text
}

// sortedRanks returns the names of ranks in the order of their numbers.
func sortedRanks(ranks map[string]reading) []string {
	names := make([]string, 0, len(ranks))
	for name := range ranks {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX == nil && errY == nil {
			return x - y
		}
		return strings.Compare(a, b)
	})
	return names
}

// rankNumber returns the number of a rank: its name, or its place among them.
func rankNumber(name string, place int) int {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		return n
	}
	return place
}

// errNotSuch says that what answered is not such an engine.
var errNotSuch = errors.New("exports no metric of such an engine")

// scrape reads one engine.
func (s *Source) scrape(ctx context.Context, t target) answer {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.spec.TimeoutS*float64(time.Second)))
	defer cancel()
	body, err := s.fetch(ctx, t)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %g s", s.spec.TimeoutS)
		}
		return answer{err: err}
	}
	defer body.Close()
	parser := expfmt.NewTextParser(pm.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		return answer{err: fmt.Errorf("read metrics: %w", err)}
	}
	role, _ := s.roles.Get(t.role)
	found := map[string]reading{}
	for _, rank := range ranks(families, s.preset.rank, s.preset.marks) {
		r := s.preset.read(metrics{families: families, rankLabel: s.preset.rank, rank: rank}, role)
		r.at = time.Now()
		found[rank] = r
	}
	if len(found) == 0 {
		return answer{err: fmt.Errorf("%w as preset %s names: no %s", errNotSuch, s.spec.Preset, s.preset.marks[0])}
	}
	return answer{ranks: found}
}

func (s *Source) fetch(ctx context.Context, t target) (io.ReadCloser, error) {
	client, err := s.clients.of(t)
	if err != nil {
		return nil, err
	}
	path := s.preset.path
	if s.spec.Path != "" {
		path = s.spec.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base.JoinPath(path).String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("status %s", response.Status)
	}
	return response.Body, nil
}

// clients holds one client for each name that certificates are to be of.
type clients struct {
	settings *model.HTTPClient

	mu     sync.Mutex
	opened map[string]*http.Client
}

func (c *clients) of(t target) (*http.Client, error) {
	key := t.base.Scheme + " " + t.serverName
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.opened[key]; client != nil {
		return client, nil
	}
	settings := *c.settings
	if settings.TLS.ServerName == "" {
		settings.TLS.ServerName = t.serverName
	}
	client, err := httpclient.New(&settings, t.base.String())
	if err != nil {
		return nil, err
	}
	if c.opened == nil {
		c.opened = map[string]*http.Client{}
	}
	c.opened[key] = client
	return client, nil
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.opened {
		client.CloseIdleConnections()
	}
	c.opened = nil
}
