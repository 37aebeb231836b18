package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/service"
	"tidemark.dev/services/reporter"
)

// tally counts what a run left in the log, apart for each mode.
type tally struct {
	sla   model.SLA
	modes map[model.Mode]*modeTally
	// kept says of each observation with latencies whether they were within the SLA.
	kept map[string]bool

	applied, rejected, failed int
	settleS                   []float64
}

// modeTally counts the decisions of one mode.
type modeTally struct {
	decisions  int
	actions    map[model.Action]int
	noEvidence int
	// gpus sums the GPUs that the fleet is set to, over the decisions that know it.
	gpus, gpusKnown int
	// within counts the decisions on latencies within the SLA, of those on any.
	within, withLatencies int
}

// tallyOf reads the log of a run.
func tallyOf(ctx context.Context, log events.Log, topics events.Topics, spec *model.Deployment) (*tally, error) {
	t := &tally{sla: spec.SLA, kept: map[string]bool{}, modes: map[model.Mode]*modeTally{}}
	for _, mode := range []model.Mode{model.Advisory, model.Active} {
		t.modes[mode] = &modeTally{actions: map[model.Action]int{}}
	}
	// Observations come first: a decision is counted with what it was about.
	for _, topic := range []string{events.TopicObservations, events.TopicDecisions, events.TopicActuations} {
		for record, err := range log.Read(ctx, topics.Name(topic), events.Range{Key: spec.Name}) {
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", topics.Name(topic), err)
			}
			event, err := record.Event()
			if err != nil {
				return nil, err
			}
			fact, err := event.Fact()
			if err != nil {
				return nil, err
			}
			t.add(event.ID, fact)
		}
	}
	return t, nil
}

func (t *tally) add(id string, fact any) {
	switch fact := fact.(type) {
	case *model.Observation:
		if seen := fact.Traffic; seen != nil && seen.MeanTTFTMs != nil && seen.MeanITLMs != nil {
			t.kept[id] = *seen.MeanTTFTMs <= t.sla.TTFTMs && *seen.MeanITLMs <= t.sla.ITLMs
		}
	case *model.ScalingDecision:
		m := t.modes[fact.Mode]
		m.decisions++
		m.actions[fact.Action]++
		switch fact.Reasons.Load {
		case model.ReasonNoFleetData, model.ReasonNoFPMData, model.ReasonWorkerCountMismatch:
			m.noEvidence++
		}
		if fact.GPUs != nil {
			m.gpus += fact.GPUs.Current
			m.gpusKnown++
		}
		if within, known := t.kept[fact.ObservationID]; known {
			m.withLatencies++
			if within {
				m.within++
			}
		}
	case *model.ScalingApplied:
		t.applied++
	case *model.ScalingRejected:
		t.rejected++
	case *model.ScalingFailed:
		t.failed++
	case *model.ScalingSettled:
		t.settleS = append(t.settleS, fact.SettleS)
	}
}

// conclude prints the summary of a run and writes its report.
func (d *demo) conclude(ctx context.Context, run string, config service.Config, spec *model.Deployment, stdout io.Writer) error {
	log, err := drivers.OpenURL(ctx, config.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	t, err := tallyOf(ctx, log, config.Topics(), spec)
	if err != nil {
		return err
	}
	page, err := reporter.WriteReport(ctx, log, config.Topics(), reporter.ReportOptions{GeneratedAt: time.Now()})
	if err != nil {
		return err
	}
	path := filepath.Join(run, "report.html")
	if err := reporter.SaveReport(path, page); err != nil {
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nMODE\tDECISIONS\tHOLD\tSCALE UP\tSCALE DOWN\tREBALANCE\tNO EVIDENCE\tCHANGES MADE\tMEAN GPUS\tWITHIN SLA")
	for _, mode := range []model.Mode{model.Advisory, model.Active} {
		m, made := t.modes[mode], 0
		if mode == model.Active {
			made = t.applied
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", mode, m.decisions, m.actions[model.Hold], m.actions[model.ScaleUp],
			m.actions[model.ScaleDown], m.actions[model.Rebalance], m.noEvidence, made,
			ratio("%.1f", m.gpus, m.gpusKnown), ratio("%.0f%%", 100*m.within, m.withLatencies))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if n := len(t.settleS); n > 0 {
		sum := 0.0
		for _, s := range t.settleS {
			sum += s
		}
		fmt.Fprintf(stdout, "\n%d changes settled, after %.0f s on average; %d decisions rejected, %d changes failed\n", n, sum/float64(n), t.rejected, t.failed)
	}
	fmt.Fprintf(stdout, "\nReport      %s\nLook closer tidemark tail decisions --to-end --log %s\n", path, config.Log)
	return nil
}

// ratio prints a quotient, and n/a for one that does not exist.
func ratio(format string, sum, of int) string {
	if of == 0 {
		return "n/a"
	}
	return fmt.Sprintf(format, float64(sum)/float64(of))
}
