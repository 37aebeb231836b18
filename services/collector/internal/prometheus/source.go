// Package prometheus measures the traffic of a deployment by the HTTP API of
// Prometheus.
//
// Counters are read as the samples that were scraped, one query for all of them,
// so that every figure of a window is of the same scrapes; see window. What
// Prometheus did not measure is left out, and the class of the evidence says why.
package prometheus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	pm "github.com/prometheus/common/model"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/collector/internal/httpclient"
)

// lookback is how far before a window its counters may have been scraped last.
// It is the interval for which Prometheus itself takes a sample as current.
const lookback = 5 * time.Minute

// Source measures the traffic of one deployment.
type Source struct {
	spec   *model.PrometheusSource
	family family
	failed func(query string, err error)

	mu    sync.Mutex
	api   v1.API
	close func()
}

// New returns the source of a deployment. It is told of each query of a figure
// that may be missing and that failed.
func New(spec *model.PrometheusSource, failed func(query string, err error)) *Source {
	return &Source{spec: spec, family: families[spec.Preset], failed: failed, close: func() {}}
}

// Close closes the source's connections.
func (s *Source) Close() { s.close() }

// client opens the client. A file that cannot be read is tried again at the
// next tick.
func (s *Source) client() (v1.API, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.api != nil {
		return s.api, nil
	}
	client, err := httpclient.New(&s.spec.HTTP, s.spec.URL)
	if err != nil {
		return nil, err
	}
	opened, err := api.NewClient(api.Config{Address: s.spec.URL, Client: client})
	if err != nil {
		return nil, err
	}
	s.api, s.close = v1.NewAPI(opened), client.CloseIdleConnections
	return s.api, nil
}

// Traffic measures the traffic of a window that ends at an instant.
func (s *Source) Traffic(ctx context.Context, at time.Time, length time.Duration) *model.TrafficObservation {
	client, err := s.client()
	if err != nil {
		return &model.TrafficObservation{Status: model.Failed, Error: "prometheus: " + httpclient.Brief(err)}
	}
	q := &querier{source: s, api: client, at: at, window: length}
	traffic, err := q.traffic(ctx)
	if err != nil {
		return &model.TrafficObservation{Status: model.Failed, Error: err.Error()}
	}
	traffic.WindowS = length.Seconds()
	return traffic
}

// querier measures one window.
type querier struct {
	source *Source
	api    v1.API
	at     time.Time
	window time.Duration
}

// traffic measures what the deployment's own queries do not, and then those.
func (q *querier) traffic(ctx context.Context) (*model.TrafficObservation, error) {
	own := q.source.spec.Queries
	traffic := &model.TrafficObservation{Status: model.Measured}
	var problem *model.TrafficObservation
	if q.source.spec.Preset != model.PresetCustom {
		var err error
		if problem, err = q.preset(ctx, traffic); err != nil {
			return nil, err
		}
	}
	if problem != nil && (own.Requests == "" || problem.Status == model.Stale) {
		return problem, nil
	}
	if problem, err := q.own(ctx, traffic); problem != nil || err != nil {
		return problem, err
	}
	return settle(traffic), nil
}

// settle gives traffic its class by the figures that it has.
func settle(t *model.TrafficObservation) *model.TrafficObservation {
	switch {
	case t.Requests == nil:
		return absent(t, "requests are not measured")
	case *t.Requests == 0:
		t.Status = model.Idle
	case t.MeanISL == nil:
		return absent(t, "requests came, and no mean_isl is known of them")
	case t.MeanOSL == nil:
		return absent(t, "requests came and none was completed in the window, so there is no mean_osl")
	}
	return t
}

func absent(t *model.TrafficObservation, why string) *model.TrafficObservation {
	t.Status, t.Error = model.Absent, why
	return t
}

// preset measures by the metrics of the preset. What cannot be measured at all
// is returned as the observation that says so.
func (q *querier) preset(ctx context.Context, t *model.TrafficObservation) (*model.TrafficObservation, error) {
	f, spec := q.source.family, q.source.spec
	scope := matchers(spec, f, true)
	figures := [][]ratio{f.isl, f.osl, f.ttft, f.itl, f.duration}
	if !f.hitRateWithoutModel {
		figures = append(figures, f.hitRate)
	}
	names := counters(f.requests, figures...)
	w, err := q.counters(ctx, "counters", selector(names, scope))
	if err != nil {
		return nil, err
	}
	t.MeanISL, t.MeanOSL = w.mean(f.isl), w.mean(f.osl)
	t.MeanTTFTMs, t.MeanITLMs = milliseconds(w.mean(f.ttft)), milliseconds(w.mean(f.itl))
	t.MeanDurationS = w.mean(f.duration)
	if !f.hitRateWithoutModel {
		t.KVHitRate = rate(w.mean(f.hitRate))
	}
	requests, name := w.requests(f.requests)
	if problem := q.judge(requests, name, selector(f.requests, scope)); problem != nil {
		return problem, nil
	}
	t.AgeS = new(max(q.at.Sub(requests.newest).Seconds(), 0))
	t.Requests = new(requests.increase)
	q.optional(ctx, t, w, scope)
	return nil, nil
}

// optional adds the figures whose queries may fail without spoiling the others.
func (q *querier) optional(ctx context.Context, t *model.TrafficObservation, w window, scope string) {
	f, spec := q.source.family, q.source.spec
	var queries errgroup.Group
	if f.hitRateWithoutModel && spec.Namespace != "" {
		queries.Go(func() error {
			hits, err := q.counters(ctx, "kv_hit_rate", selector(counters(nil, f.hitRate), matchers(spec, f, false)))
			if err != nil {
				q.source.failed("kv_hit_rate", err)
				return nil
			}
			t.KVHitRate = rate(hits.mean(f.hitRate))
			return nil
		})
	}
	for name, quantile := range map[string]struct {
		ratios []ratio
		out    **float64
		mean   *float64
	}{"p95_ttft_ms": {f.ttft, &t.P95TTFTMs, t.MeanTTFTMs}, "p95_itl_ms": {f.itl, &t.P95ITLMs, t.MeanITLMs}} {
		r, ok := w.first(quantile.ratios)
		if !ok || quantile.mean == nil || r.buckets() == "" {
			continue
		}
		queries.Go(func() error {
			value, err := q.number(ctx, name, fmt.Sprintf("histogram_quantile(0.95, sum by (le) (increase(%s[%s])))", selector([]string{r.buckets()}, scope), pm.Duration(q.window)))
			if err != nil {
				q.source.failed(name, err)
				return nil
			}
			*quantile.out = milliseconds(value)
			return nil
		})
	}
	_ = queries.Wait() // none returns an error: what fails is left out
}

// requests returns the first counter of requests that the server has.
func (w window) requests(names []string) (counter, string) {
	for _, name := range names {
		if w.there(name) {
			return w.counters[name], name
		}
	}
	return counter{}, ""
}

// judge returns the observation of a counter that cannot be counted on, or nil.
func (q *querier) judge(c counter, name, selector string) *model.TrafficObservation {
	age := q.at.Sub(c.newest)
	switch {
	case name == "":
		return &model.TrafficObservation{Status: model.Absent, Error: "no series matches " + selector}
	case c.broken:
		return &model.TrafficObservation{Status: model.Absent, Error: name + " holds a value that no counter can have"}
	case c.newest.IsZero():
		return &model.TrafficObservation{Status: model.Absent, Error: "no series matches " + selector + " before the present"}
	case age.Seconds() > q.source.spec.MaxAgeS:
		return &model.TrafficObservation{
			Status: model.Stale, AgeS: new(age.Seconds()),
			Error: fmt.Sprintf("the newest sample of %s is %.0f s old, and max_age_s is %g", name, age.Seconds(), q.source.spec.MaxAgeS),
		}
	case !c.newest.After(q.at.Add(-q.window)):
		// Nothing was scraped in the window: that nothing increased says nothing.
		return &model.TrafficObservation{
			Status: model.Stale, AgeS: new(age.Seconds()),
			Error: fmt.Sprintf("the newest sample of %s is %.0f s old, and the window of %g s has none", name, age.Seconds(), q.window.Seconds()),
		}
	case !c.covered:
		return &model.TrafficObservation{
			Status: model.Absent, AgeS: new(max(age.Seconds(), 0)),
			Error: fmt.Sprintf("%s is scraped since %.0f s, which does not cover the window of %g s", name, q.at.Sub(c.oldest).Seconds(), q.window.Seconds()),
		}
	}
	return nil
}

// own measures by the deployment's own queries. One that says no number leaves
// the traffic absent if the traffic cannot be without it.
func (q *querier) own(ctx context.Context, t *model.TrafficObservation) (*model.TrafficObservation, error) {
	named := q.source.spec.Queries.Named()
	if len(named) == 0 {
		return nil, nil
	}
	var mu sync.Mutex
	values := map[string]*float64{}
	queries, ctx := errgroup.WithContext(ctx)
	for name, query := range named {
		queries.Go(func() error {
			value, err := q.number(ctx, name, q.expand(query))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			values[name] = value
			return nil
		})
	}
	if err := queries.Wait(); err != nil {
		return nil, err
	}
	for name, out := range map[string]**float64{
		"requests": &t.Requests, "mean_isl": &t.MeanISL, "mean_osl": &t.MeanOSL, "kv_hit_rate": &t.KVHitRate,
		"mean_ttft_s": &t.MeanTTFTMs, "p95_ttft_s": &t.P95TTFTMs, "mean_itl_s": &t.MeanITLMs, "p95_itl_s": &t.P95ITLMs,
		"mean_duration_s": &t.MeanDurationS,
	} {
		if _, asked := named[name]; !asked {
			continue
		}
		*out = values[name]
		switch {
		case strings.HasSuffix(name, "ttft_s") || strings.HasSuffix(name, "itl_s"):
			*out = milliseconds(values[name])
		case name == "kv_hit_rate":
			*out = rate(values[name])
		}
	}
	if named["requests"] != "" && t.Requests == nil {
		return absent(&model.TrafficObservation{}, "query requests gives no number: no series matches "+q.expand(named["requests"])), nil
	}
	return nil, nil
}

// expand fills a query of the deployment's own in.
func (q *querier) expand(query string) string {
	return strings.NewReplacer(
		"$selector", matchers(q.source.spec, q.source.family, true), "$window", pm.Duration(q.window).String(),
	).Replace(query)
}

// counters reads the samples of counters and adds them up.
func (q *querier) counters(ctx context.Context, name, selector string) (window, error) {
	value, err := q.query(ctx, name, fmt.Sprintf("%s[%s]", selector, pm.Duration(q.window+lookback)))
	if err != nil {
		return window{}, err
	}
	matrix, ok := value.(pm.Matrix)
	if !ok {
		return window{}, fmt.Errorf("prometheus: query %s: want a matrix, have a %s", name, value.Type())
	}
	return fold(matrix, q.at.Add(-q.window), q.at), nil
}

// number reads one number. It is nil where there is none: an empty result, or
// one that is not a finite number that can be.
func (q *querier) number(ctx context.Context, name, query string) (*float64, error) {
	value, err := q.query(ctx, name, query)
	if err != nil {
		return nil, err
	}
	number := math.NaN()
	switch value := value.(type) {
	case *pm.Scalar:
		number = float64(value.Value)
	case pm.Vector:
		if len(value) > 1 {
			return nil, fmt.Errorf("prometheus: query %s gives %d series, want one: aggregate it with sum()", name, len(value))
		}
		if len(value) == 1 {
			number = float64(value[0].Value)
		}
	default:
		return nil, fmt.Errorf("prometheus: query %s: want one number, have a %s", name, value.Type())
	}
	if math.IsNaN(number) || math.IsInf(number, 0) || number < 0 {
		return nil, nil
	}
	return &number, nil
}

// query asks the server. Its error is one line that names the query.
func (q *querier) query(ctx context.Context, name, query string) (pm.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(q.source.spec.TimeoutS*float64(time.Second)))
	defer cancel()
	value, _, _, err := q.api.Query(ctx, query, q.at)
	if err == nil {
		return value, nil
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("prometheus: query %s: no answer within %g s", name, q.source.spec.TimeoutS)
	}
	if answered, ok := errors.AsType[*v1.Error](err); ok && answered.Msg != "" {
		return nil, fmt.Errorf("prometheus: query %s: %s", name, httpclient.Brief(fmt.Errorf("%s: %s", answered.Type, answered.Msg)))
	}
	return nil, fmt.Errorf("prometheus: query %s: %s", name, httpclient.Brief(err))
}

func milliseconds(seconds *float64) *float64 {
	if seconds == nil {
		return nil
	}
	return new(*seconds * 1000)
}

// rate returns a share, or nil for what cannot be one.
func rate(share *float64) *float64 {
	if share == nil || *share > 1 {
		return nil
	}
	return share
}
