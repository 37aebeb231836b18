package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
)

func newExplain() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "explain DECISION", Short: "Tell the whole story of one decision: what was seen, why, under what, and what became of it",
		Args: arguments(cobra.ExactArgs(1)),
		Long: `Tell the story of a decision from the log: the observation with the class and
age of its evidence, what each loop proposed, each step of the number to the
target, forecast and capacity, the configuration and who set it, and what the
actuator did. The decision is named by its ID, by the beginning of one, or by a
deployment, of which the newest is meant.`,
	}
	flags := addLogFlags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if output != "text" && output != "json" {
			return usageError{fmt.Errorf("output is %q, want text or json", output)}
		}
		log, topics, err := flags.openExisting(cmd)
		if err != nil {
			return err
		}
		defer log.Close()
		story, err := replay.Tell(cmd.Context(), log, topics, args[0])
		if err != nil {
			return err
		}
		if output == "json" {
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(story)
		}
		return writeStory(cmd.OutOrStdout(), story)
	}
	return cmd
}

// meanings say in a sentence what a reason says in a word.
var meanings = map[model.Reason]string{
	model.ReasonNotDue:              "not due at this tick",
	model.ReasonDisabled:            "switched off",
	model.ReasonNoFleetData:         "how many replicas there are is not known",
	model.ReasonNoFPMData:           "the engines did not say what they are doing",
	model.ReasonScalingInProgress:   "an earlier change is still under way",
	model.ReasonWorkerCountMismatch: "not exactly the ready replicas report",
	model.ReasonInsufficientData:    "too little is known for an estimate",
	model.ReasonNoChange:            "the number is right as it is",
	model.ReasonScaleUp:             "there is too much load for the target",
	model.ReasonScaleDown:           "fewer replicas would do",
	model.ReasonCapped:              "fewer would do for the present load, but the throughput floor holds them",
	model.ReasonRefused:             "fewer were thought of, and would not be safe: the load of the rest would grow too far",
	model.ReasonNoTrafficData:       "the traffic is not known",
	model.ReasonPredictFailed:       "no forecast could be made",
	model.ReasonModelNotReady:       "the performance model has too few samples",
	model.ReasonPartnerNotReady:     "the performance model of the other role has too few samples",
	model.ReasonSetLowerBound:       "the forecast sets a floor under the load loop",
	model.ReasonScale:               "the forecast asks for another number",
	model.ReasonFloor:               "the floor of the throughput loop lifts it",
	model.ReasonScaleUpWindow:       "not wanted for the whole of the scale-up window",
	model.ReasonScaleDownWindow:     "more was wanted within the scale-down window",
	model.ReasonStepLimit:           "max_step allows no more at once",
	model.ReasonMinReplicas:         "min_replicas",
	model.ReasonMaxReplicas:         "max_replicas",
	model.ReasonGPUBudget:           "the GPU budget allows no more",
	model.ReasonBudgetGuard:         "min_gpus guards against fewer",
	model.ReasonBudgetReconcile:     "the fleet is over its GPU budget",
}

var warnings = map[model.Warning]string{
	model.WarningTTFTUnreachable:      "one request alone is expected to miss the TTFT limit",
	model.WarningITLUnreachable:       "one request alone is expected to miss the ITL limit",
	model.WarningBudgetInfeasible:     "the GPU budget does not hold the minimum replicas",
	model.WarningFloorWithoutEvidence: "the floor has had no evidence of the traffic for long",
	model.WarningForecastFallback:     "the predictor failed, and the last value stands in",
	model.WarningStateReset:           "the configuration changed what was learned before: it starts afresh",
}

func meant(reason model.Reason) string {
	if meaning := meanings[reason]; meaning != "" {
		return string(reason) + ": " + meaning
	}
	if reason == "" {
		return "nothing was said"
	}
	return string(reason)
}

// storyteller writes a story in sections of labelled lines.
type storyteller struct {
	*replay.Story
	out io.Writer
	err error
}

func writeStory(out io.Writer, story *replay.Story) error {
	s := &storyteller{Story: story, out: out}
	s.headline()
	s.seen()
	s.reasons()
	s.chain()
	s.configuration()
	s.becameOfIt()
	s.inTheLog()
	return s.err
}

func (s *storyteller) printf(format string, args ...any) {
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.out, format, args...)
	}
}

func (s *storyteller) section(name string) { s.printf("\n%s\n", name) }

// line writes a line with a label, which is left out where it is the one above.
func (s *storyteller) line(label, format string, args ...any) {
	s.printf("  %-12s %s\n", label, fmt.Sprintf(format, args...))
}

func (s *storyteller) headline() {
	d := s.Decision
	s.printf("%s: %s   decision %s\n", d.Deployment, strings.ToUpper(strings.ReplaceAll(string(d.Action), "_", " ")), s.DecisionID)
	s.printf("observed %s, %s, revision %d", shortTime(d.ObservedAt), d.Mode, d.ConfigRevision)
	if d.Mode == model.Active {
		s.printf(", epoch %d", d.Epoch)
	}
	if s.DecidedInS != nil {
		s.printf(", decided %s after the observation was in the log", seconds(*s.DecidedInS))
	}
	s.printf("\n\n")
	for _, role := range model.AllRoles {
		if target, ok := d.Target.Get(role); ok {
			desired, _ := d.Desired.Get(role)
			delta, _ := d.Delta.Get(role)
			s.line(string(role), "%d -> %d (%+d)", desired, target, delta)
		}
	}
	if d.Target.Empty() {
		s.line("target", "none: no inventory was ever seen")
	}
	if g := d.GPUs; g != nil {
		most := "no limit"
		if g.Max != model.Unbounded {
			most = fmt.Sprintf("a budget of %d", g.Max)
		}
		s.line("GPUs", "%d -> %d, under %s", g.Current, g.Target, most)
	}
	for _, w := range d.Warnings {
		s.line("warning", "%s: %s", w, warnings[w])
	}
}

func seconds(s float64) string {
	switch {
	case s == 0:
		return "0 s"
	case s < 0.001:
		return "under 1 ms"
	case s < 1:
		return fmt.Sprintf("%.0f ms", 1000*s)
	case s < 120:
		return fmt.Sprintf("%.1f s", s)
	}
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

func (s *storyteller) seen() {
	o := s.Observation
	if o == nil {
		s.section("WHAT WAS SEEN   observation " + s.Decision.ObservationID + " is not in the log any more")
		e := s.Decision.Evidence
		for _, one := range []struct {
			name  string
			class model.Evidence
		}{{"fleet", e.Fleet}, {"traffic", e.Traffic}, {"engines", e.Engines}} {
			if one.class != "" {
				s.line(one.name, "%s", one.class)
			}
		}
		return
	}
	s.section("WHAT WAS SEEN   observation " + s.Decision.ObservationID)
	if f := o.Fleet; f != nil {
		s.line("fleet", "%s", class(f.Status, f.AgeS, f.Error))
		for _, role := range model.AllRoles {
			if r, ok := f.Roles.Get(role); ok {
				text := fmt.Sprintf("%s: %d ready of %d", role, r.Ready, r.Desired)
				if r.Pending > 0 {
					text += fmt.Sprintf(", %d cannot be placed", r.Pending)
				}
				s.line("", "%s", text)
			}
		}
	}
	if t := o.Traffic; t != nil {
		s.line("traffic", "%s", class(t.Status, t.AgeS, t.Error))
		s.traffic(t)
	}
	if e := o.Engines; e != nil {
		s.line("engines", "%s", class(e.Status, e.AgeS, e.Error))
		s.engines(e)
	}
}

func class(status model.Evidence, age *float64, problem string) string {
	text := string(status)
	if age != nil {
		text += fmt.Sprintf(", %s old", seconds(*age))
	}
	if problem != "" {
		text += ": " + problem
	}
	return text
}

func (s *storyteller) traffic(t *model.TrafficObservation) {
	var parts []string
	if t.Requests != nil && t.WindowS > 0 {
		parts = append(parts, fmt.Sprintf("%.0f requests in %.0f s (%.2f/s)", *t.Requests, t.WindowS, *t.Requests/t.WindowS))
	}
	add := func(format string, value *float64, scale float64) {
		if value != nil {
			parts = append(parts, fmt.Sprintf(format, *value*scale))
		}
	}
	add("mean ISL %.0f", t.MeanISL, 1)
	add("mean OSL %.0f", t.MeanOSL, 1)
	add("KV hit rate %.0f %%", t.KVHitRate, 100)
	if len(parts) > 0 {
		s.line("", "%s", strings.Join(parts, ", "))
	}
	parts = nil
	add("mean TTFT %.0f ms", t.MeanTTFTMs, 1)
	add("p95 TTFT %.0f ms", t.P95TTFTMs, 1)
	add("mean ITL %.1f ms", t.MeanITLMs, 1)
	add("p95 ITL %.1f ms", t.P95ITLMs, 1)
	if len(parts) > 0 {
		s.line("", "%s", strings.Join(parts, ", "))
	}
}

// extent is the least and the most of some figures.
type extent struct{ n, least, most int }

func (e *extent) add(figure *int) {
	if figure == nil {
		return
	}
	if e.n == 0 || *figure < e.least {
		e.least = *figure
	}
	e.n, e.most = e.n+1, max(e.most, *figure)
}

func (e *extent) String() string {
	if e.least == e.most {
		return fmt.Sprint(e.most)
	}
	return fmt.Sprintf("%d to %d", e.least, e.most)
}

func (s *storyteller) engines(e *model.EnginesObservation) {
	for _, role := range model.AllRoles {
		var queued, kv, waiting extent
		n := 0
		for i := range e.Samples {
			if sample := &e.Samples[i]; sample.Role == role {
				n++
				queued.add(sample.Queued.PrefillTokens)
				kv.add(sample.Scheduled.DecodeKVTokens)
				waiting.add(sample.Queued.DecodeKVTokens)
			}
		}
		if n == 0 {
			continue
		}
		parts := []string{plural(n, "engine")}
		if queued.n > 0 && role != model.Decode {
			parts = append(parts, queued.String()+" prompt tokens queued")
		}
		if kv.n > 0 && role != model.Prefill {
			text := kv.String() + " KV tokens in use"
			if spec, ok := s.role(role); ok && spec.Engine.MaxKVTokens > 0 {
				text += fmt.Sprintf(" of %d", spec.Engine.MaxKVTokens)
			}
			parts = append(parts, text)
		}
		if waiting.n > 0 && role != model.Prefill {
			parts = append(parts, waiting.String()+" waiting")
		}
		s.line("", "%s: %s", role, strings.Join(parts, ", "))
	}
}

func (s *storyteller) role(role model.Role) (model.RoleSpec, bool) {
	if s.Configured == nil {
		return model.RoleSpec{}, false
	}
	return s.Configured.Spec.Roles.Get(role)
}

func (s *storyteller) reasons() {
	s.section("WHY")
	d := s.Decision
	s.loop("load", d.Reasons.Load, func(r model.RoleReasons) model.Reason { return r.Load })
	e := d.Estimates
	if e.TTFTMs != nil {
		s.line("", "expected TTFT %.0f ms at the slowest engine%s", *e.TTFTMs, s.limit(func(sla model.SLA) float64 { return sla.TTFTMs }))
	}
	if e.ITLMs != nil {
		s.line("", "expected ITL %.1f ms at the slowest engine%s", *e.ITLMs, s.limit(func(sla model.SLA) float64 { return sla.ITLMs }))
	}
	s.loop("throughput", d.Reasons.Throughput, func(r model.RoleReasons) model.Reason { return r.Throughput })
	if f := d.Forecast; f != nil {
		s.line("", "%s expects %.0f requests (%.2f/s), ISL %.0f, OSL %.0f in the next window", f.Predictor, f.Requests, f.RPS, f.ISL, f.OSL)
	}
	for _, c := range []struct {
		role model.Role
		rps  *float64
	}{{model.Prefill, d.Capacity.PrefillRPS}, {model.Decode, d.Capacity.DecodeRPS}, {model.Aggregated, d.Capacity.AggregatedRPS}} {
		if c.rps != nil {
			s.line("", "one %s engine serves %.2f requests/s within the SLA", c.role, *c.rps)
		}
	}
	if !d.Floors.Empty() {
		s.line("", "floors: %s", replicasText(d.Floors))
	}
}

func (s *storyteller) loop(name string, overall model.Reason, of func(model.RoleReasons) model.Reason) {
	alike, n := true, 0
	for _, role := range model.AllRoles {
		if r, ok := s.Decision.Reasons.Roles.Get(role); ok {
			n++
			alike = alike && of(r) == overall
		}
	}
	if alike {
		s.line(name, "%s", meant(overall))
		return
	}
	for _, role := range model.AllRoles {
		if r, ok := s.Decision.Reasons.Roles.Get(role); ok {
			s.line(name, "%s: %s", role, meant(of(r)))
			name = ""
		}
	}
}

func (s *storyteller) limit(of func(model.SLA) float64) string {
	if s.Configured == nil || s.Configured.Spec.Target != model.TargetSLA {
		return ""
	}
	return fmt.Sprintf(" (limit %g ms)", of(s.Configured.Spec.SLA))
}

func (s *storyteller) chain() {
	s.section("FROM WHAT THE FLEET WAS SET TO, TO THE TARGET")
	for _, role := range model.AllRoles {
		desired, ok := s.Decision.Desired.Get(role)
		if !ok {
			continue
		}
		label, moved := string(role), false
		for _, entry := range s.Decision.Chain {
			if entry.Role == role {
				s.line(label, "%d -> %d   %s, %s", entry.From, entry.To, entry.Stage, meant(entry.Reason))
				label, moved = "", true
			}
		}
		if !moved {
			s.line(label, "%d   nothing moved it", desired)
		}
	}
}

func (s *storyteller) configuration() {
	c := s.Configured
	if c == nil {
		s.section(fmt.Sprintf("UNDER WHICH CONFIGURATION   revision %d is not in the log", s.Decision.ConfigRevision))
		return
	}
	s.section(fmt.Sprintf("UNDER WHICH CONFIGURATION   revision %d", c.Revision))
	s.line("set", "%s by %s", shortTime(s.ConfiguredAt), c.ChangedBy)
	if c.Reason != "" {
		s.line("because", "%s", c.Reason)
	}
	target := string(c.Spec.Target)
	if c.Spec.Target == model.TargetSLA {
		target += fmt.Sprintf(", TTFT %g ms, ITL %g ms", c.Spec.SLA.TTFTMs, c.Spec.SLA.ITLMs)
	}
	s.line("target", "%s", target)
	for _, role := range c.Spec.Topology.Roles() {
		if r, ok := c.Spec.Roles.Get(role); ok {
			s.line(string(role), "%d to %d replicas", r.MinReplicas, r.MaxReplicas)
		}
	}
}

func (s *storyteller) becameOfIt() {
	s.section("WHAT BECAME OF IT")
	d := s.Decision
	for _, o := range s.Outcomes {
		text := ""
		switch o.Type {
		case "proposed":
			s.line(o.Type, "%s, waits for an approval until %s", shortTime(o.OccurredAt), shortTime(*o.ValidUntil))
			continue
		case "applied":
			text = changesText(o.Roles)
			if o.ApprovedBy != "" {
				text += ", approved by " + o.ApprovedBy
			}
			if o.Limited != "" {
				text += " (limited: " + o.Limited + ")"
			}
		case "rejected":
			text = string(o.Reason)
			if o.Detail != "" {
				text += ": " + o.Detail
			}
		case "failed":
			text = fmt.Sprintf("attempt %d: %s", o.Attempt, o.Error)
		case "settled":
			text = fmt.Sprintf("%s after it was applied", seconds(*o.SettleS))
		}
		s.line(o.Type, "%s by %s, %s", shortTime(o.OccurredAt), o.Connector, text)
	}
	switch {
	case len(s.Outcomes) > 0:
	case d.Mode == model.Advisory:
		s.line("nothing", "the deployment was advisory: nobody acts on its decisions")
	case d.Action == model.Hold:
		s.line("nothing", "there was nothing to do")
	default:
		s.line("nothing yet", "the log holds no outcome; it could be acted on until %s", shortTime(d.ValidUntil))
	}
}

func changesText(roles model.PerRole[model.Change]) string {
	var changes []string
	for _, role := range model.AllRoles {
		if c, ok := roles.Get(role); ok {
			changes = append(changes, fmt.Sprintf("%s %d -> %d", role, c.From, c.To))
		}
	}
	return strings.Join(changes, ", ")
}

func (s *storyteller) inTheLog() {
	s.section("IN THE LOG")
	s.line("stands at", "position %d of partition %d of the decisions, appended %s", s.Position, s.Partition, s.AppendedAt.Format(time.RFC3339Nano))
	holds := map[bool]string{true: "the link holds", false: "THE LINK DOES NOT HOLD"}
	if p := s.Previous; p != nil {
		s.line("follows", "%s of %s: %s", p.DecisionID, shortTime(p.ObservedAt), holds[p.Linked])
	}
	if n := s.Next; n != nil {
		s.line("followed by", "%s of %s: %s", n.DecisionID, shortTime(n.ObservedAt), holds[n.Linked])
	}
	for _, lack := range s.Lacks {
		s.line("is gone", "%s", lack)
	}
	s.line("check", "tidemark replay --deployment %s --from %d:%d --to %d:%d", s.Decision.Deployment, s.Partition, s.Position, s.Partition, s.Position+1)
}
