package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/services/reporter"
)

func newReport() *cobra.Command {
	var from, to, output string
	var names []string
	cmd := &cobra.Command{
		Use: "report", Short: "Write an HTML report from the log", Args: arguments(cobra.NoArgs),
	}
	flags := addLogFlags(cmd)
	cmd.Flags().StringVar(&from, "from", "", "first instant, as RFC 3339: when things were observed or done, on the deployments' clock; empty is the start of the log")
	cmd.Flags().StringVar(&to, "to", "", "last instant, included; empty is the end of the log")
	cmd.Flags().StringSliceVar(&names, "deployment", nil, "only these deployments")
	cmd.Flags().StringVarP(&output, "output", "o", "tidemark_report.html", "file to write")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		options := reporter.ReportOptions{Deployments: names, GeneratedAt: time.Now()}
		for _, bound := range []struct {
			flag, text string
			into       *time.Time
		}{{"from", from, &options.From}, {"to", to, &options.To}} {
			if bound.text == "" {
				continue
			}
			instant, err := time.Parse(time.RFC3339, bound.text)
			if err != nil {
				return usageError{fmt.Errorf("--%s is %q, want an instant like 2026-11-23T20:00:05Z", bound.flag, bound.text)}
			}
			*bound.into = instant
		}
		log, topics, err := flags.openExisting(cmd)
		if err != nil {
			return err
		}
		defer log.Close()
		page, err := reporter.WriteReport(cmd.Context(), log, topics, options)
		if err != nil {
			return err
		}
		if err := reporter.SaveReport(output, page); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), output)
		return nil
	}
	return cmd
}
