package model

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// DecodeObservation decodes an observation's data as encoding/json does.
//
// Observations are most of what a log holds, and decoding them most of what a
// replay costs. So data in the form in which observations are encoded (every
// field in its place, no white space, plain text) is read in one pass, at a
// fraction of the cost; anything else is left to encoding/json. Both give the
// same observation, and a fuzz target holds them to it.
func DecodeObservation(data []byte) (*Observation, error) {
	o := &Observation{}
	d := plain{text: string(data), ok: true}
	if n := strings.Count(d.text, `"worker":`); n > 0 {
		d.samples, d.ints, d.floats = make([]EngineSample, 0, n), make([]int, 0, 8*n), make([]float64, 0, 2*n+16)
	}
	if d.observation(o); d.ok && d.at == len(d.text) {
		return o, nil
	}
	*o = Observation{}
	if err := json.Unmarshal(data, o); err != nil {
		return nil, err
	}
	return o, nil
}

// plain reads plainly encoded JSON. Once it meets anything else it is not ok,
// and what it read means nothing.
type plain struct {
	text string
	at   int
	ok   bool
	// begun says that the object at hand has a field already.
	begun bool

	// What the fields of samples point to is allocated in one piece each.
	samples []EngineSample
	ints    []int
	floats  []float64
}

// expect passes over a token.
func (p *plain) expect(token string) {
	if p.ok = p.ok && strings.HasPrefix(p.text[p.at:], token); p.ok {
		p.at += len(token)
	}
}

func (p *plain) open() {
	p.expect("{")
	p.begun = false
}

func (p *plain) close() {
	p.expect("}")
	p.begun = true
}

// has passes over the name of a field, if it comes next.
func (p *plain) has(name string) bool {
	if !p.ok {
		return false
	}
	rest := p.text[p.at:]
	at := 0
	if p.begun {
		if rest == "" || rest[0] != ',' {
			return false
		}
		at = 1
	}
	if end := at + len(name) + 3; len(rest) < end || rest[at] != '"' || rest[at+1:end-2] != name || rest[end-2:end] != `":` {
		return false
	}
	p.at += at + len(name) + 3
	p.begun = true
	return true
}

// must is has for a field that is always there.
func (p *plain) must(name string) { p.ok = p.has(name) && p.ok }

// string reads text of printable ASCII without escapes.
func (p *plain) string() string {
	p.expect(`"`)
	for i := p.at; p.ok && i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			text := p.text[p.at:i]
			p.at = i + 1
			return text
		case c < ' ' || c > '~' || c == '\\':
			p.ok = false
		}
	}
	p.ok = false
	return ""
}

func (p *plain) bool() bool {
	if p.ok && strings.HasPrefix(p.text[p.at:], "true") {
		p.at += len("true")
		return true
	}
	p.expect("false")
	return false
}

// digits passes over digits, and returns how many there were.
func (p *plain) digits() int {
	begin := p.at
	for p.at < len(p.text) && p.text[p.at]-'0' <= 9 {
		p.at++
	}
	return p.at - begin
}

// number passes over a number and returns its text, and whether it is whole.
func (p *plain) number() (text string, whole bool) {
	begin := p.at
	skip := func(set string) bool {
		found := p.at < len(p.text) && strings.IndexByte(set, p.text[p.at]) >= 0
		if found {
			p.at++
		}
		return found
	}
	skip("-")
	leading := p.at
	n := p.digits()
	p.ok = p.ok && n > 0 && (n == 1 || p.text[leading] != '0')
	whole = true
	if skip(".") {
		whole = false
		p.ok = p.digits() > 0 && p.ok
	}
	if skip("eE") {
		whole = false
		skip("+-")
		p.ok = p.digits() > 0 && p.ok
	}
	return p.text[begin:p.at], whole
}

func (p *plain) int() int {
	text, whole := p.number()
	n, err := strconv.Atoi(text)
	p.ok = p.ok && whole && err == nil
	return n
}

func (p *plain) float() float64 {
	text, _ := p.number()
	f, err := strconv.ParseFloat(text, 64)
	p.ok = p.ok && err == nil
	return f
}

func (p *plain) optionalInt(name string, to **int) {
	if p.has(name) {
		p.ints = append(p.ints, p.int())
		*to = &p.ints[len(p.ints)-1]
	}
}

func (p *plain) optionalFloat(name string, to **float64) {
	if p.has(name) {
		p.floats = append(p.floats, p.float())
		*to = &p.floats[len(p.floats)-1]
	}
}

func (p *plain) observation(o *Observation) {
	p.open()
	p.must("deployment")
	o.Deployment = p.string()
	p.must("config_revision")
	o.ConfigRevision = p.int()
	p.must("observed_at")
	p.time(&o.ObservedAt)
	p.must("loops")
	p.open()
	p.must("load")
	o.Loops.Load = p.bool()
	p.must("throughput")
	o.Loops.Throughput = p.bool()
	p.close()
	if p.has("fleet") {
		o.Fleet = &FleetObservation{}
		p.fleet(o.Fleet)
	}
	if p.has("traffic") {
		o.Traffic = &TrafficObservation{}
		p.traffic(o.Traffic)
	}
	if p.has("engines") {
		o.Engines = &EnginesObservation{}
		p.engines(o.Engines)
	}
	p.close()
}

func (p *plain) time(to *time.Time) {
	text := p.string()
	p.ok = p.ok && to.UnmarshalText([]byte(text)) == nil
}

// evidence reads the fields with which every source begins.
func (p *plain) evidence(status *Evidence, age **float64, message *string) {
	p.open()
	p.must("status")
	*status = Evidence(p.string())
	p.optionalFloat("age_s", age)
	if p.has("error") {
		*message = p.string()
	}
}

func (p *plain) fleet(f *FleetObservation) {
	p.evidence(&f.Status, &f.AgeS, &f.Error)
	if p.has("roles") {
		p.open()
		for _, role := range AllRoles {
			if p.has(string(role)) {
				r := RoleReplicas{}
				p.open()
				p.must("ready")
				r.Ready = p.int()
				p.must("desired")
				r.Desired = p.int()
				p.must("pending")
				r.Pending = p.int()
				p.close()
				f.Roles.Set(role, r)
			}
		}
		p.close()
	}
	p.close()
}

func (p *plain) traffic(t *TrafficObservation) {
	p.evidence(&t.Status, &t.AgeS, &t.Error)
	if p.has("window_s") {
		t.WindowS = p.float()
	}
	p.optionalFloat("requests", &t.Requests)
	p.optionalFloat("mean_isl", &t.MeanISL)
	p.optionalFloat("mean_osl", &t.MeanOSL)
	p.optionalFloat("kv_hit_rate", &t.KVHitRate)
	p.optionalFloat("mean_ttft_ms", &t.MeanTTFTMs)
	p.optionalFloat("p95_ttft_ms", &t.P95TTFTMs)
	p.optionalFloat("mean_itl_ms", &t.MeanITLMs)
	p.optionalFloat("p95_itl_ms", &t.P95ITLMs)
	p.optionalFloat("mean_duration_s", &t.MeanDurationS)
	p.close()
}

func (p *plain) engines(e *EnginesObservation) {
	p.evidence(&e.Status, &e.AgeS, &e.Error)
	if p.has("samples") {
		p.expect("[")
		for {
			p.samples = append(p.samples, EngineSample{})
			p.sample(&p.samples[len(p.samples)-1])
			if !p.ok || p.at >= len(p.text) || p.text[p.at] != ',' {
				break
			}
			p.at++
		}
		p.expect("]")
		e.Samples = p.samples
	}
	p.begun = true
	p.close()
}

func (p *plain) sample(s *EngineSample) {
	p.open()
	p.must("role")
	s.Role = Role(p.string())
	p.must("worker")
	s.Worker = p.string()
	p.must("dp_rank")
	s.DPRank = p.int()
	p.optionalFloat("age_s", &s.AgeS)
	p.optionalFloat("wall_time_s", &s.WallTimeS)
	p.must("scheduled")
	p.load(&s.Scheduled)
	p.must("queued")
	p.load(&s.Queued)
	p.close()
}

func (p *plain) load(l *EngineLoad) {
	p.open()
	p.optionalInt("prefill_requests", &l.PrefillRequests)
	p.optionalInt("prefill_tokens", &l.PrefillTokens)
	p.optionalInt("decode_requests", &l.DecodeRequests)
	p.optionalInt("decode_kv_tokens", &l.DecodeKVTokens)
	p.close()
}
