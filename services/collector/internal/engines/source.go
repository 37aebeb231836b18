// Package engines reads the state of engines from the engines themselves: their
// own metrics, scraped at each tick, or the forward-pass metrics that they publish.
//
// An engine that does not answer has no sample, and leaves those of the others as
// they are. What an engine does not export is not in its sample.
package engines

import (
	"bytes"
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
	"tidemark.dev/services/collector/internal/fleets"
	"tidemark.dev/services/collector/internal/forwardpass"
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

	cluster *fleets.Kubernetes

	clients clients

	// store holds what engines publish, and pods lists the pods of engines by role.
	store *forwardpass.Store
	pods  map[model.Role]listing
	// stops end what goes on between ticks.
	stops []func()

	mu     sync.Mutex
	memory map[string]*memory
}

// memory is what is kept of an engine from one tick to the next.
type memory struct {
	since time.Time          // when it first answered
	ranks map[string]reading // what it said last
}

// New returns the source of a deployment. Engines that publish are listened to
// and the pods of engines are followed until it is closed.
func New(configured *model.Deployment, inlet *forwardpass.Inlet, cluster *fleets.Kubernetes, logger *slog.Logger) *Source {
	s := Look(configured, cluster, logger)
	s.stops = append(s.stops, s.listen(configured.Name, inlet))
	for _, role := range model.AllRoles {
		if pool, _ := s.spec.Roles.Get(role); pool.Kubernetes != nil {
			list, stop := watch(cluster, pool.Kubernetes)
			s.pods[role], s.stops = list, append(s.stops, stop)
		}
	}
	return s
}

// Look returns the source of a deployment for a Check: nobody is listened to, and
// nothing followed.
func Look(configured *model.Deployment, cluster *fleets.Kubernetes, logger *slog.Logger) *Source {
	spec := configured.Source.Engines
	s := &Source{
		spec: spec, roles: configured.Roles, preset: presets[spec.Preset], lookup: net.DefaultResolver, cluster: cluster, logger: logger,
		clients: clients{settings: &spec.HTTP}, memory: map[string]*memory{}, pods: map[model.Role]listing{},
		store: forwardpass.NewStore(time.Duration(spec.MaxAgeS * float64(time.Second))),
	}
	for _, role := range model.AllRoles {
		if pool, _ := spec.Roles.Get(role); pool.Kubernetes != nil {
			s.pods[role] = once(cluster, pool.Kubernetes)
		}
	}
	return s
}

// Close closes the source's connections.
func (s *Source) Close() {
	for _, stop := range s.stops {
		stop()
	}
	s.clients.close()
}

// listen takes what engines publish, until stop is called.
func (s *Source) listen(deployment string, inlet *forwardpass.Inlet) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var streams sync.WaitGroup
	var doors []func()
	for _, role := range model.AllRoles {
		pool, _ := s.spec.Roles.Get(role)
		for _, address := range pool.ZMQ {
			streams.Go(func() { s.store.SubscribeZMQ(ctx, role, address, s.logger) })
		}
		if pool.NATS != nil {
			streams.Go(func() { s.store.SubscribeNATS(ctx, role, pool.NATS, s.spec.HTTP.TLS, s.logger) })
		}
		if pool.Push != nil {
			doors = append(doors, inlet.Open(deployment, role, s.store, pool.Push.TokenFile))
		}
	}
	return func() {
		cancel()
		for _, closeDoor := range doors {
			closeDoor()
		}
		streams.Wait()
	}
}

// Engines reads all engines at an instant.
func (s *Source) Engines(ctx context.Context, at time.Time) *model.EnginesObservation {
	var targets []target
	var problems []error
	oldest := time.Duration(0)
	for _, role := range model.AllRoles {
		pool, _ := s.spec.Roles.Get(role)
		if !pool.Scraped() {
			continue
		}
		found, age, err := s.find(ctx, role, pool)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", role, err))
		}
		targets, oldest = append(targets, found...), max(oldest, age)
	}
	return s.observe(at, oldest, targets, s.scrapeAll(ctx, targets), problems)
}

// scrapeAll reads engines, some at a time, and returns their answers in the order
// of the targets.
func (s *Source) scrapeAll(ctx context.Context, targets []target) []answer {
	answers := make([]answer, len(targets))
	var scrapes errgroup.Group
	scrapes.SetLimit(maxScrapes)
	for i, t := range targets {
		scrapes.Go(func() error {
			answers[i] = s.scrape(ctx, t)
			return nil
		})
	}
	_ = scrapes.Wait() // none returns an error: what fails has no readings
	return answers
}

// find returns the engines of a role, and how old the knowledge of them is.
func (s *Source) find(ctx context.Context, role model.Role, pool model.EnginePool) ([]target, time.Duration, error) {
	if pool.Kubernetes != nil {
		return podTargets(ctx, role, pool.Kubernetes, s.pods[role], time.Duration(s.spec.MaxAgeS*float64(time.Second)))
	}
	found, err := discover(ctx, s.lookup, role, pool)
	return found, 0, err
}

// answer is what the scrape of one engine gave.
type answer struct {
	ranks map[string]reading
	err   error
}

// observe makes the samples, and remembers what the next ones need. The engines
// are those that were known to be there a while ago.
func (s *Source) observe(at time.Time, known time.Duration, targets []target, answers []answer, problems []error) *model.EnginesObservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	observed := &model.EnginesObservation{Status: model.Measured, AgeS: new(known.Seconds())}
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
		since := before.since
		if !t.since.IsZero() {
			since = t.since
		}
		for n, rank := range sortedRanks(answers[i].ranks) {
			now := answers[i].ranks[rank]
			var last *reading
			if r, ok := before.ranks[rank]; ok {
				last = &r
			}
			sample := now.sample(t.role, last)
			sample.Worker, sample.DPRank, sample.AgeS = t.worker, rankNumber(rank, n), new(max(at.Sub(since).Seconds(), 0))
			observed.Samples = append(observed.Samples, sample)
		}
	}
	s.memory = kept
	engines := len(targets) + s.published(observed, &problems)
	return judge(observed, engines, problems, s.logger)
}

// published adds the samples of what engines published, and returns how many
// ranks did. The age of the observation is that of the oldest message in it.
func (s *Source) published(observed *model.EnginesObservation, problems *[]error) (ranks int) {
	for _, role := range model.AllRoles {
		pool, given := s.spec.Roles.Get(role)
		if !given || pool.Scraped() {
			continue
		}
		seen := s.store.At(role, time.Now())
		observed.Samples = append(observed.Samples, seen.Samples...)
		observed.AgeS = new(max(*observed.AgeS, seen.Oldest.Seconds()))
		ranks += len(seen.Samples) + seen.Stale
		switch {
		case seen.Stale > 0:
			*problems = append(*problems, fmt.Errorf("%s: %d ranks are %w: the newest of them was heard %.0f s ago, and max_age_s is %g", role, seen.Stale, errSilent, seen.Newest.Seconds(), s.spec.MaxAgeS))
		case len(seen.Samples) == 0 && seen.Refused != nil:
			*problems = append(*problems, fmt.Errorf("%s: %w", role, seen.Refused))
		case len(seen.Samples) == 0:
			*problems = append(*problems, fmt.Errorf("%s: %w: none has published yet", role, errNoEngine))
		}
	}
	return ranks
}

// errSilent says that engines were heard once and are not any more.
var errSilent = errors.New("silent")

// judge gives the observation its class. What some engines lack is logged, and
// seen by the decider as a count that is not that of the fleet.
func judge(observed *model.EnginesObservation, engines int, problems []error, logger *slog.Logger) *model.EnginesObservation {
	if len(observed.Samples) > 0 {
		for _, problem := range problems {
			logger.Warn("engine has no sample", "error", problem)
		}
		return observed
	}
	failed := slices.DeleteFunc(slices.Clone(problems), func(err error) bool {
		return errors.Is(err, errNoEngine) || errors.Is(err, errNotSuch) || errors.Is(err, errSilent) || errors.Is(err, errOutdated)
	})
	silent := slices.IndexFunc(problems, func(err error) bool { return errors.Is(err, errSilent) || errors.Is(err, errOutdated) })
	switch {
	case len(failed) > 0:
		return &model.EnginesObservation{Status: model.Failed, Error: summary("engines", engines, failed)}
	case silent >= 0:
		return &model.EnginesObservation{Status: model.Stale, Error: summary("engines", engines, problems[silent:silent+1])}
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
	text, err := io.ReadAll(body)
	if err != nil {
		return answer{err: fmt.Errorf("read metrics: %w", err)}
	}
	parser := expfmt.NewTextParser(pm.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(withoutBuckets(text)))
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

// withoutBuckets takes the buckets of histograms out of a scrape, in place. They are
// most of what an engine exports, and nothing is read of a histogram but its sum and
// its count.
func withoutBuckets(text []byte) []byte {
	kept := text[:0]
	for line := range bytes.Lines(text) {
		name, _, labelled := bytes.Cut(line, []byte("{"))
		if line[0] == '#' || !labelled || !bytes.HasSuffix(name, []byte("_bucket")) {
			kept = append(kept, line...)
		}
	}
	return kept
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
