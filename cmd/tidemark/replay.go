package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
	"tidemark.dev/services/reporter"
)

// differenceError is a replay that found something wrong.
type differenceError struct{ error }

func newReplay() *cobra.Command {
	var names []string
	var config, output, html string
	var tolerance float64
	cmd := &cobra.Command{
		Use: "replay", Short: "Decide recorded observations again and compare: with what was decided, or under another configuration",
		Args: arguments(cobra.NoArgs),
		Long: `Decide the observations of a range again and compare each decision, to the byte,
with the recorded one; and follow the hash chain of each deployment. A decision
that is missing, altered, moved or doubled is named, the first difference shown
field by field, and the exit code is 3. What the log lacks for deciding again is
said, never taken for a difference.

With --config, the same observations are decided under the deployments of that
file too, and both series stand side by side: as a table, and with --html as a
page that shows every target that differs. What the recorded fleet did not
follow, the comparison says.

Arithmetic rounds otherwise on another processor architecture than the decider's:
--tolerance 0.001 takes decisions for alike whose figures differ by no more than
that share, and nothing else.

--from and --to bound the decisions. The log may be an archive, a file of
tidemark tail all -o json: --log archive://day.jsonl`,
	}
	flags := addLogFlags(cmd)
	bounds := addBoundFlags(cmd)
	cmd.Flags().StringSliceVar(&names, "deployment", nil, "only these deployments")
	cmd.Flags().StringVar(&config, "config", "", "configuration file of candidates: what would they have decided?")
	cmd.Flags().StringVar(&html, "html", "", "write the comparison with the candidates as an HTML report to this file")
	cmd.Flags().Float64Var(&tolerance, "tolerance", 0, "share by which figures may differ; 0 compares bytes")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "table" && output != "json" {
			return usageError{fmt.Errorf("output is %q, want table or json", output)}
		}
		if html != "" && config == "" {
			return usageError{errors.New("--html shows what candidates would have decided; name their file with --config")}
		}
		if !(tolerance >= 0 && tolerance <= replay.MaxTolerance) {
			return usageError{fmt.Errorf("tolerance is %v, want 0 to %v", tolerance, replay.MaxTolerance)}
		}
		options := replay.Options{Deployments: names, Tolerance: tolerance}
		var err error
		if options.From, options.To, err = bounds.bounds(); err != nil {
			return err
		}
		if config != "" {
			specs, err := loadDeployments(cmd.InOrStdin(), config)
			if err != nil {
				return err
			}
			options.Candidates = map[string]*model.Deployment{}
			for i := range specs {
				options.Candidates[specs[i].Name] = &specs[i]
			}
		}
		log, topics, err := flags.openExisting(cmd)
		if err != nil {
			return err
		}
		defer log.Close()
		whatIf := reporter.NewWhatIf(options.Candidates)
		if html != "" {
			options.Visit = whatIf.Visit
		}
		screen := newScreen(cmd.OutOrStdout(), cmd.ErrOrStderr(), false)
		options.Progress = screen.reading("replaying")
		result, err := replay.Verify(cmd.Context(), log, topics, options)
		screen.finish()
		if err != nil {
			return err
		}
		if err := printReplay(cmd.OutOrStdout(), result, config, output); err != nil {
			return err
		}
		if html != "" && result.Compared() {
			page, err := whatIf.Page(result, reporter.ReportOptions{Title: "What if: " + filepath.Base(config), GeneratedAt: time.Now()})
			if err != nil {
				return err
			}
			if err := reporter.SaveReport(html, page); err != nil {
				return err
			}
		}
		return verdictOf(result)
	}
	return cmd
}

// verdictOf returns the error by which a replay ends.
func verdictOf(result *replay.Result) error {
	sum := result.Totals()
	switch {
	case !result.Clean():
		n := len(result.Findings) + result.FindingsLeftOut
		return differenceError{fmt.Errorf("%s among %s", plural(n, "finding"), plural(sum.Decisions, "decision"))}
	case sum.Decisions == 0 && sum.Undecided == 0:
		return errors.New("there is no decision in the range; tidemark tail shows what the log holds")
	case sum.Same == 0 && sum.Alike == 0 && sum.Decisions > 0:
		return errors.New("no decision could be decided again; what the log lacks stands above")
	}
	return nil
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func printReplay(out io.Writer, result *replay.Result, config, output string) error {
	if output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	if len(result.Deployments) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "DEPLOYMENT\tDECISIONS\tSAME\tDIFFERENT\tNOT VERIFIED\tCHAIN\tFIRST\tLAST")
	for _, d := range result.Deployments {
		chain := fmt.Sprintf("%s hold", plural(d.Links, "link"))
		if d.Broken > 0 {
			chain = fmt.Sprintf("%d of %s broken", d.Broken, plural(d.Links, "link"))
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", d.Deployment, d.Decisions, d.Same, d.Differing, d.Unverified, chain, shortTime(d.FirstAt), shortTime(d.LastAt))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, d := range result.Deployments {
		for _, note := range []struct {
			n    int
			text string
		}{
			{d.Undecided, "newer than the newest decision, and not decided yet"},
			{d.Refused, "in the dead letters, and never decided"},
		} {
			if note.n > 0 {
				fmt.Fprintf(out, "%s: %s %s\n", d.Deployment, plural(note.n, "observation"), note.text)
			}
		}
		if d.Alike > 0 {
			fmt.Fprintf(out, "%s: %s alike: their figures differ within the tolerance, and nothing else\n", d.Deployment, plural(d.Alike, "decision"))
		}
		if d.Repeated > 0 {
			fmt.Fprintf(out, "%s: %s appended again with the same bytes, as redelivery may do\n", d.Deployment, plural(d.Repeated, "decision"))
		}
	}
	for _, lack := range result.Lacks {
		fmt.Fprintf(out, "%s: %s could not be decided again: %s\n", lack.Deployment, plural(lack.Decisions, "decision"), lack.What)
	}
	printFindings(out, result)
	for i := range result.Deployments {
		if c := result.Deployments[i].Comparison; c != nil {
			if err := printComparison(out, result.Deployments[i].Deployment, config, c); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(out, "\n%s replayed in %.2f s (%.0f a second)\n", plural(result.Observations, "observation"), result.TookS, float64(result.Observations)/result.TookS)
	return err
}

// architectures is more than what figures of two processor architectures were seen
// to differ by, 5e-6: rounding, which the search for a forecast's parameters enlarges.
const architectures = 0.001

// shownFindings bounds what a terminal is told; JSON holds more.
const shownFindings = 20

func printFindings(out io.Writer, result *replay.Result) {
	if result.Clean() {
		return
	}
	fmt.Fprintln(out)
	for i, f := range result.Findings {
		if i == shownFindings {
			fmt.Fprintf(out, "and %d more; -o json lists them\n", len(result.Findings)-i+result.FindingsLeftOut)
			break
		}
		where := fmt.Sprintf(" at position %d", f.Position)
		if f.Position < 0 {
			where = ""
		}
		fmt.Fprintf(out, "%-8s decision %s of %s, observed %s%s: %s\n", strings.ToUpper(string(f.Kind)), f.DecisionID, f.Deployment, shortTime(f.ObservedAt), where, f.Detail)
	}
	first := result.First
	if first == nil {
		return
	}
	fmt.Fprintf(out, "\nThe first difference is in decision %s of %s:\n", first.DecisionID, first.Deployment)
	for _, field := range first.Fields {
		path := field.Path
		if path == "" {
			path = "(whole)"
		}
		fmt.Fprintf(out, "  %s\n    recorded  %s\n    now       %s\n", path, orNone(field.Recorded), orNone(field.Now))
	}
	if first.Within(architectures) {
		fmt.Fprintf(out, "\nFigures this close are those of another processor architecture (this is %s): --tolerance %v takes them for alike.\n", runtime.GOARCH, architectures)
	}
}

func orNone(text string) string {
	if text == "" {
		return "(not there)"
	}
	return text
}

func shortTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func printComparison(out io.Writer, name, config string, c *replay.Comparison) error {
	fmt.Fprintf(out, "\n%s: what was decided, and what %s would have decided on the same %s over %.1f h\n\n", name, config, plural(c.Decisions, "observation"), c.Recorded.Hours)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tDECIDED\tCANDIDATE\tCHANGE\t")
	for _, f := range c.Figures() {
		change := fmt.Sprintf("%+.*f", f.Decimals, f.Candidate-f.Decided)
		if strings.Trim(change, "+-0.") == "" {
			change = "="
		}
		fmt.Fprintf(table, "%s\t%.*f\t%.*f\t%s\t\n", f.Name, f.Decimals, f.Decided, f.Decimals, f.Candidate, change)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if c.Different == 0 {
		fmt.Fprintln(out, "\nEvery target is the same.")
	} else {
		fmt.Fprintf(out, "\n%d targets differ (%.1f %%), the first at %s.\n", c.Different, 100*float64(c.Different)/float64(c.Decisions), shortTime(*c.FirstDifferent))
	}
	for _, note := range c.Notes {
		fmt.Fprintf(out, "Note: %s.\n", note)
	}
	return nil
}
