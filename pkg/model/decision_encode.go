package model

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// Encode returns the decision's data bytes: those that encoding/json gives.
//
// Every decision is encoded, hashed and compared byte by byte, in the decider and
// in each replay. So what decisions are made of (plain text, finite figures,
// instants in UTC) is written in one pass, at a fraction of the cost; a decision
// that holds anything else is left to encoding/json. A test holds both to the
// same bytes.
func (d *ScalingDecision) Encode() ([]byte, error) { return d.AppendEncoded(nil) }

// AppendEncoded appends what Encode returns.
func (d *ScalingDecision) AppendEncoded(to []byte) ([]byte, error) {
	w := plainWriter{out: to, ok: true}
	if to == nil {
		w.out = make([]byte, 0, 1536)
	}
	if w.decision(d); w.ok {
		return w.out, nil
	}
	data, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return append(to, data...), nil
}

// plainWriter writes plainly encoded JSON. Once it meets anything else it is not
// ok, and what it wrote means nothing.
type plainWriter struct {
	out []byte
	ok  bool
}

func (w *plainWriter) raw(token string) { w.out = append(w.out, token...) }

// open begins an object, close ends it: each of its fields ends with a comma,
// the last of which the end takes the place of.
func (w *plainWriter) open() { w.out = append(w.out, '{') }

func (w *plainWriter) close() {
	if last := len(w.out) - 1; w.out[last] == ',' {
		w.out[last] = '}'
	} else {
		w.out = append(w.out, '}')
	}
	w.out = append(w.out, ',')
}

func (w *plainWriter) name(name string) {
	w.out = append(w.out, '"')
	w.out = append(w.out, name...)
	w.out = append(w.out, '"', ':')
}

func (w *plainWriter) text(name, value string) {
	w.name(name)
	w.quoted(value)
	w.out = append(w.out, ',')
}

func (w *plainWriter) quoted(value string) {
	for i := range len(value) {
		switch c := value[i]; {
		case c < ' ' || c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			w.ok = false
			return
		}
	}
	w.out = append(w.out, '"')
	w.out = append(w.out, value...)
	w.out = append(w.out, '"')
}

// some is text for a field that is left out when it is empty.
func (w *plainWriter) some(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

func (w *plainWriter) int(name string, value int) {
	w.name(name)
	w.out = append(strconv.AppendInt(w.out, int64(value), 10), ',')
}

func (w *plainWriter) float(name string, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		w.ok = false
		return
	}
	w.name(name)
	format := byte('f')
	if size := math.Abs(value); size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	w.out = strconv.AppendFloat(w.out, value, format, -1, 64)
	if n := len(w.out); format == 'e' && w.out[n-4] == 'e' && w.out[n-3] == '-' && w.out[n-2] == '0' {
		w.out[n-2] = w.out[n-1] // e-09 is e-9.
		w.out = w.out[:n-1]
	}
	w.out = append(w.out, ',')
}

func (w *plainWriter) optional(name string, value *float64) {
	if value != nil {
		w.float(name, *value)
	}
}

func (w *plainWriter) instant(name string, t time.Time) {
	if t.Location() != time.UTC || t.Year() < 0 || t.Year() > 9999 {
		w.ok = false
		return
	}
	w.name(name)
	w.out = append(w.out, '"')
	w.out = append(t.AppendFormat(w.out, time.RFC3339Nano), '"', ',')
}

func (w *plainWriter) replicas(name string, of *PerRole[int]) {
	if of.Empty() {
		return
	}
	w.name(name)
	w.open()
	for _, role := range AllRoles {
		if n, ok := of.Get(role); ok {
			w.int(string(role), n)
		}
	}
	w.close()
}

func (w *plainWriter) decision(d *ScalingDecision) {
	w.open()
	w.text("deployment", d.Deployment)
	w.int("config_revision", d.ConfigRevision)
	w.int("epoch", d.Epoch)
	w.text("mode", string(d.Mode))
	w.text("observation_id", d.ObservationID)
	w.instant("observed_at", d.ObservedAt)
	w.instant("valid_until", d.ValidUntil)
	w.text("action", string(d.Action))
	w.replicas("current", &d.Current)
	w.replicas("desired", &d.Desired)
	w.replicas("target", &d.Target)
	w.replicas("delta", &d.Delta)
	w.reasons(&d.Reasons)
	w.chain(d.Chain)
	if d.Estimates != (Estimates{}) {
		w.name("estimates")
		w.open()
		w.optional("ttft_ms", d.Estimates.TTFTMs)
		w.optional("itl_ms", d.Estimates.ITLMs)
		w.close()
	}
	if f := d.Forecast; f != nil {
		w.name("forecast")
		w.open()
		w.text("predictor", f.Predictor)
		w.float("requests", f.Requests)
		w.float("rps", f.RPS)
		w.float("isl", f.ISL)
		w.float("osl", f.OSL)
		w.optional("kv_hit_rate", f.KVHitRate)
		w.close()
	}
	if d.Capacity != (Capacity{}) {
		w.name("capacity")
		w.open()
		w.optional("prefill_rps", d.Capacity.PrefillRPS)
		w.optional("decode_rps", d.Capacity.DecodeRPS)
		w.optional("aggregated_rps", d.Capacity.AggregatedRPS)
		w.close()
	}
	w.replicas("floors", &d.Floors)
	if g := d.GPUs; g != nil {
		w.name("gpus")
		w.open()
		w.int("current", g.Current)
		w.int("target", g.Target)
		w.int("min", g.Min)
		w.int("max", g.Max)
		w.close()
	}
	w.name("evidence")
	w.open()
	w.some("fleet", string(d.Evidence.Fleet))
	w.some("traffic", string(d.Evidence.Traffic))
	w.some("engines", string(d.Evidence.Engines))
	w.optional("oldest_age_s", d.Evidence.OldestAgeS)
	w.close()
	w.warnings(d.Warnings)
	w.text("planner_version", d.PlannerVersion)
	w.text("previous_digest", d.PreviousDigest)
	w.close()
	w.out = w.out[:len(w.out)-1]
}

func (w *plainWriter) reasons(r *Reasons) {
	w.name("reasons")
	w.open()
	w.text("load", string(r.Load))
	w.text("throughput", string(r.Throughput))
	if !r.Roles.Empty() {
		w.name("roles")
		w.open()
		for _, role := range AllRoles {
			if of, ok := r.Roles.Get(role); ok {
				w.name(string(role))
				w.open()
				w.some("load", string(of.Load))
				w.some("throughput", string(of.Throughput))
				w.close()
			}
		}
		w.close()
	}
	w.close()
}

func (w *plainWriter) chain(entries []ChainEntry) {
	w.name("chain")
	if entries == nil {
		w.raw("null,")
		return
	}
	w.raw("[")
	for i := range entries {
		e := &entries[i]
		w.open()
		w.text("stage", string(e.Stage))
		w.text("role", string(e.Role))
		w.int("from", e.From)
		w.int("to", e.To)
		w.text("reason", string(e.Reason))
		w.close()
	}
	w.endArray()
}

func (w *plainWriter) warnings(warnings []Warning) {
	w.name("warnings")
	if warnings == nil {
		w.raw("null,")
		return
	}
	w.raw("[")
	for _, warning := range warnings {
		w.quoted(string(warning))
		w.raw(",")
	}
	w.endArray()
}

func (w *plainWriter) endArray() {
	if last := len(w.out) - 1; w.out[last] == ',' {
		w.out[last] = ']'
	} else {
		w.out = append(w.out, ']')
	}
	w.out = append(w.out, ',')
}
