package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/forecast"
)

func newForecast() *cobra.Command {
	var (
		predictor, output string
		pairs             []string
		intervalS         float64
		all               bool
	)
	cmd := &cobra.Command{
		Use: "forecast [FILE]", Short: "Forecast each number of a series from those before it, or compare predictors on it", Args: arguments(cobra.MaximumNArgs(1)),
		Long: `Forecast a series of numbers, one a line, from a file or standard input. The
forecast made before each number was seen goes to standard output, one a line,
then the forecast for the next; the errors go to standard error:

  MAE    the mean absolute error, in the unit of the series
  MAPE   the mean of |error / value|, over the values that are not 0
  sMAPE  the mean of 2 |error| / (|value| + |forecast|)

Leading zeros are skipped, and forecasts made before anything else was seen are
0 and not measured. With --all, every predictor forecasts the series, and a
table shows their errors, the least mean absolute error first.`,
		Example: `  tidemark forecast --predictor kalman --param r=5 requests.txt
  tidemark forecast --all --interval 3600 --param season_s=86400 requests.txt`,
	}
	cmd.Flags().StringVar(&predictor, "predictor", string(forecast.ARIMA), "predictor: "+kindNames())
	cmd.Flags().StringArrayVar(&pairs, "param", nil, "KEY=VALUE, a parameter of the predictor; with --all, of those that it applies to (can be repeated)")
	cmd.Flags().Float64Var(&intervalS, "interval", model.DefaultDeployment().Throughput.IntervalS, "seconds between two numbers; seasons are counted in it")
	cmd.Flags().BoolVar(&all, "all", false, "compare all predictors")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "with --all: table, json or yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kind, err := forecast.ParseKind(predictor)
		switch {
		case err != nil:
			return usageError{err}
		case all && cmd.Flags().Changed("predictor"):
			return usageError{errors.New("--all compares all predictors; leave --predictor out")}
		case !all && cmd.Flags().Changed("output"):
			return usageError{errors.New("--output is the format of the table of --all; forecasts are plain numbers")}
		case all:
			kind = forecast.Auto // which takes the parameters of all
		}
		if err := checkOutput(output); err != nil {
			return err
		}
		params, err := forecast.ParseParams(kind, pairs)
		if err != nil {
			return usageError{oneLine(err)}
		}
		if err := params.Check(kind, intervalS); err != nil {
			return usageError{oneLine(err)}
		}
		series, err := openNumbers(cmd.InOrStdin(), args)
		if err != nil {
			return err
		}
		if all {
			return compare(cmd, params, intervalS, series, output)
		}
		evaluation, err := forecast.Evaluate(kind, params, intervalS, series)
		if err != nil {
			return err
		}
		return printEvaluation(cmd.OutOrStdout(), cmd.ErrOrStderr(), &evaluation)
	}
	return cmd
}

func kindNames() string {
	names := make([]string, len(forecast.Kinds()))
	for i, kind := range forecast.Kinds() {
		names[i] = string(kind)
	}
	return strings.Join(names, ", ")
}

// oneLine joins the lines of an error that holds several.
func oneLine(err error) error { return errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")) }

// openNumbers reads the series of the file that is named, or of standard input.
func openNumbers(stdin io.Reader, args []string) ([]float64, error) {
	if len(args) == 0 || args[0] == "-" {
		return readNumbers(stdin, "standard input")
	}
	file, err := os.Open(args[0])
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readNumbers(file, args[0])
}

// readNumbers reads numbers, one a line; empty lines are no numbers. A line that
// is no figure of traffic is an error, and nothing is returned.
func readNumbers(in io.Reader, name string) ([]float64, error) {
	var series []float64
	lines := bufio.NewScanner(in)
	for number := 1; lines.Scan(); number++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err == nil {
			err = forecast.CheckValue(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %.40q is no number that can be forecast from; want one finite number a line", name, number, text)
		}
		series = append(series, value)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return series, nil
}

// printEvaluation prints the forecasts to out, and what they are worth to errs.
func printEvaluation(out, errs io.Writer, e *forecast.Evaluation) error {
	buffered := bufio.NewWriter(out)
	for _, f := range e.Forecasts {
		fmt.Fprintln(buffered, numberText(f.Value))
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(errs, "%s: MAE %s, MAPE %s, sMAPE %s over %d forecasts\n", e.Kind,
		figureText(e.Errors.MAE, ""), figureText(e.Errors.MAPE, " %"), figureText(e.Errors.SMAPE, " %"), e.Errors.Points)
	if n := fallbacks(e); n > 0 {
		fmt.Fprintf(errs, "%s: %d of %d forecasts are the last value, because no model could be fitted (%s)\n", e.Kind, n, len(e.Forecasts), model.WarningForecastFallback)
	}
	return nil
}

// numberText writes a number so that it reads back as the same.
func numberText(v float64) string {
	if v != 0 && (v < 1e-6 || v >= 1e21) {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// figureText writes a figure for people, four digits or all before the point;
// nil is none.
func figureText(v *float64, unit string) string {
	switch {
	case v == nil:
		return "-"
	case *v >= 1000 && *v < 1e15:
		return strconv.FormatFloat(*v, 'f', 0, 64) + unit
	}
	return strconv.FormatFloat(*v, 'g', 4, 64) + unit
}

func fallbacks(e *forecast.Evaluation) int {
	n := 0
	for _, f := range e.Forecasts {
		if f.Warning != "" {
			n++
		}
	}
	return n
}

// comparison is a predictor's line of tidemark forecast --all.
type comparison struct {
	Predictor    forecast.Kind `json:"predictor"`
	MAE          *float64      `json:"mae"`
	MAPEPercent  *float64      `json:"mape_percent"`
	SMAPEPercent *float64      `json:"smape_percent"`
	// Forecasts is the number of those that were measured, Fallbacks of those
	// that are the last value because a model failed.
	Forecasts int     `json:"forecasts"`
	Fallbacks int     `json:"fallbacks"`
	Next      float64 `json:"next"`
}

// compare prints what all predictors make of a series.
func compare(cmd *cobra.Command, params forecast.Params, intervalS float64, series []float64, output string) error {
	bar := progressbar.DefaultSilent(0)
	if onTerminal(cmd.ErrOrStderr()) {
		bar = progressbar.NewOptions(len(forecast.Kinds()), progressbar.OptionSetWriter(cmd.ErrOrStderr()),
			progressbar.OptionSetDescription("forecasting"), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionShowCount())
		_ = bar.RenderBlank()
	}
	all, err := forecast.Compare(params, intervalS, series, func(done int) { _ = bar.Set(done) })
	_ = bar.Finish()
	if err != nil {
		return err
	}
	rows := make([]comparison, len(all))
	for i := range all {
		e := &all[i]
		rows[i] = comparison{
			Predictor: e.Kind, MAE: e.Errors.MAE, MAPEPercent: e.Errors.MAPE, SMAPEPercent: e.Errors.SMAPE,
			Forecasts: e.Errors.Points, Fallbacks: fallbacks(e), Next: e.Forecasts[len(e.Forecasts)-1].Value,
		}
	}
	if output != "table" {
		return printValue(cmd.OutOrStdout(), rows, output)
	}
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PREDICTOR\tMAE\tMAPE\tSMAPE\tFORECASTS\tFALLBACKS\tNEXT")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", r.Predictor, figureText(r.MAE, ""), figureText(r.MAPEPercent, " %"), figureText(r.SMAPEPercent, " %"),
			r.Forecasts, r.Fallbacks, figureText(&r.Next, ""))
	}
	return table.Flush()
}

// checkOutput checks the format of a command that lists.
func checkOutput(output string) error {
	if output != "table" && output != "json" && output != "yaml" {
		return usageError{fmt.Errorf("output is %q, want table, json or yaml", output)}
	}
	return nil
}

// printValue prints a value as JSON or YAML.
func printValue(out io.Writer, value any, output string) error {
	if output == "yaml" {
		return printYAML(out, value)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
