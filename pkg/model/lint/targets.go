package lint

import (
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/perf"
)

// targets finds what the loops can never measure, reach or cross.
func targets(f *Findings, d *model.Deployment) {
	for _, role := range d.Topology.Roles() {
		spec, _ := d.Roles.Get(role)
		at := "roles." + string(role) + ".engine."
		if d.Load.Enabled {
			gauges(f, d.Target, role, at, spec.Engine)
		}
		switch d.Target {
		case model.TargetLoad:
			thresholds(f, &d.Load, role)
		case model.TargetSLA:
			latencies(f, d, role, spec.Engine)
		}
	}
}

// gauges finds limits of an engine without which its load is a share of nothing.
func gauges(f *Findings, target model.Target, role model.Role, at string, engine model.Engine) {
	switch {
	case target == model.TargetSLA && role != model.Decode && engine.MaxNumBatchedTokens == 0:
		f.Add(severityOf(role == model.Prefill), at+"max_num_batched_tokens", "is missing, so that no TTFT is ever estimated and sla.ttft_ms is never judged; write what the engine is started with")
	case target == model.TargetSLA, target == model.TargetLoad && role == model.Prefill:
	case role == model.Prefill && engine.ContextLength == 0:
		f.Add(Error, at+"context_length", "is missing, and target %s scales by the share of it that waits: the load loop never decides; write it, or target load", target)
	case role != model.Prefill && engine.MaxKVTokens == 0:
		f.Add(Error, at+"max_kv_tokens", "is missing, and target %s scales by the share of it in use: the load loop never decides; write what the engine logs at its start", target)
	}
}

func severityOf(fatal bool) Severity {
	if fatal {
		return Error
	}
	return Warning
}

// thresholds finds thresholds of target load that no gauge can be under.
func thresholds(f *Findings, l *model.LoadLoop, role model.Role) {
	path, down := "load.decode_scale_down_kv_percent", l.DecodeScaleDownKVPercent
	if role == model.Prefill {
		path, down = "load.prefill_scale_down_queue_tokens", l.PrefillScaleDownQueueTokens
	}
	if down != nil && *down == 0 {
		f.Add(Warning, path, "is 0, and no load is under 0: %s is never scaled down; write more than 0", role)
	}
}

// latencies finds limits that one request alone on an engine breaks, be it as
// short as the shortest of the samples that come with the configuration: more
// replicas are then asked for, and do not help.
func latencies(f *Findings, d *model.Deployment, role model.Role, engine model.Engine) {
	settings := perf.Settings{MinObservations: d.Load.MinObservations, MaxSamples: d.Load.MaxSamples, Buckets: d.Load.Buckets, Engine: engine}
	ttftMs, itlMs := 0.0, 0.0
	least := shortest(d.Throughput.Samples, role, settings.MaxSamples)
	switch role {
	case model.Prefill:
		m := perf.NewPrefill(settings)
		feed(m, d.Throughput.Samples, role)
		_, ttftMs = m.Rate(least.prompt)
	case model.Decode:
		m := perf.NewDecode(settings)
		feed(m, d.Throughput.Samples, role)
		// At one token of output the rate is that of iterations.
		if rps, reachable := m.Rate(d.SLA.ITLMs, least.context, 1); !reachable {
			itlMs = 1000 / rps
		}
	case model.Aggregated:
		m := perf.NewAggregated(settings)
		feed(m, d.Throughput.Samples, role)
		if m.EstimatesTTFT() && least.prompt > 0 {
			// Of the mean prompt, which the model takes, as much is as if cached.
			ttftMs = m.TTFTMs(0, 1-least.prompt/least.meanPrompt, 0)
		}
		osl := max(1, 2*(least.context-least.prompt)) // half of it has been made on average
		if rps, reach := m.Rate(d.SLA.TTFTMs, d.SLA.ITLMs, least.prompt, osl, 0); !reach.ITL {
			itlMs = 1000 / (rps * osl)
		}
	}
	if ttftMs > d.SLA.TTFTMs {
		f.Add(Error, "sla.ttft_ms", "is %g and cannot be met: by the profile a prompt of %.0f tokens, its shortest, takes %.0f ms alone on a %s engine; write more, or use faster engines", d.SLA.TTFTMs, least.prompt, ttftMs, role)
	}
	if itlMs > d.SLA.ITLMs {
		f.Add(Error, "sla.itl_ms", "is %g and cannot be met: by the profile a request of %.0f tokens, its shortest, takes %.1f ms a token alone on a %s engine; write more, or use faster engines", d.SLA.ITLMs, least.context, itlMs, role)
	}
}

func feed(m interface{ Observe(*model.EngineSample) }, samples []model.EngineSample, role model.Role) {
	for i := range samples {
		if samples[i].Role == role {
			m.Observe(&samples[i])
		}
	}
}

// lengths are those of the requests of samples, in tokens; 0 where none is known.
type lengths struct {
	prompt, context float64 // the least
	meanPrompt      float64 // over the last samples, as the models have it
}

func shortest(samples []model.EngineSample, role model.Role, last int) lengths {
	var least lengths
	var prompts []float64
	for i := range samples {
		s := &samples[i].Scheduled
		if samples[i].Role != role {
			continue
		}
		if prompt := each(s.PrefillTokens, s.PrefillRequests); prompt > 0 {
			prompts = append(prompts, prompt)
			least.prompt = shorter(least.prompt, prompt)
		}
		if context := each(s.DecodeKVTokens, s.DecodeRequests); context > 0 {
			least.context = shorter(least.context, context)
		}
	}
	prompts = prompts[max(0, len(prompts)-last):]
	for _, prompt := range prompts {
		least.meanPrompt += prompt / float64(len(prompts))
	}
	return least
}

// each returns the tokens of one request, 0 where they are not known.
func each(tokens, requests *int) float64 {
	if tokens == nil || requests == nil || *requests == 0 {
		return 0
	}
	return float64(*tokens) / float64(*requests)
}

func shorter(least, length float64) float64 {
	if least == 0 {
		return length
	}
	return min(least, length)
}
