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
	decisions  map[model.Mode]int
	actions    map[model.Mode]map[model.Action]int
	noEvidence map[model.Mode]int
	applied    int
	rejected   int
	failed     int
	settleS    []float64
}

// tallyOf reads the log of a run.
func tallyOf(ctx context.Context, log events.Log, topics events.Topics, deployment string) (*tally, error) {
	t := &tally{decisions: map[model.Mode]int{}, actions: map[model.Mode]map[model.Action]int{}, noEvidence: map[model.Mode]int{}}
	for _, topic := range []string{events.TopicDecisions, events.TopicActuations} {
		for record, err := range log.Read(ctx, topics.Name(topic), events.Range{Key: deployment}) {
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
			t.add(fact)
		}
	}
	return t, nil
}

func (t *tally) add(fact any) {
	switch fact := fact.(type) {
	case *model.ScalingDecision:
		t.decisions[fact.Mode]++
		if t.actions[fact.Mode] == nil {
			t.actions[fact.Mode] = map[model.Action]int{}
		}
		t.actions[fact.Mode][fact.Action]++
		switch fact.Reasons.Load {
		case model.ReasonNoFleetData, model.ReasonNoFPMData, model.ReasonWorkerCountMismatch:
			t.noEvidence[fact.Mode]++
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
func (d *demo) conclude(ctx context.Context, run string, config service.Config, deployment string, stdout io.Writer) error {
	log, err := drivers.OpenURL(ctx, config.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	t, err := tallyOf(ctx, log, config.Topics(), deployment)
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
	fmt.Fprintln(table, "\nMODE\tDECISIONS\tHOLD\tSCALE UP\tSCALE DOWN\tREBALANCE\tNO EVIDENCE\tCHANGES MADE")
	for _, mode := range []model.Mode{model.Advisory, model.Active} {
		made := 0
		if mode == model.Active {
			made = t.applied
		}
		a := t.actions[mode]
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", mode, t.decisions[mode], a[model.Hold], a[model.ScaleUp], a[model.ScaleDown], a[model.Rebalance], t.noEvidence[mode], made)
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
