package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/fx"

	"tidemark.dev/pkg/service"
	"tidemark.dev/services/actuator"
	"tidemark.dev/services/collector"
	"tidemark.dev/services/decider"
	"tidemark.dev/services/reporter"
)

// services are the four, in the order of the pipeline.
var services = []struct {
	name  string
	flags func(*pflag.FlagSet) func() fx.Option
}{
	{"collector", collector.Flags},
	{"decider", decider.Flags},
	{"actuator", actuator.Flags},
	{"reporter", reporter.Flags},
}

func newUp() *cobra.Command {
	var only []string
	var createTopics bool
	cmd := &cobra.Command{
		Use: "up", Short: "Run all four services, or some, in one process", Args: arguments(cobra.NoArgs),
		Long: `Run the services over one log until the process is asked to stop. A deployment
stays advisory until tidemark activate says otherwise: nothing is changed.`,
	}
	flags := addLogFlags(cmd)
	service.ProcessFlags(cmd.Flags(), &flags.Config)
	names := make([]string, len(services))
	modules := map[string]func() fx.Option{}
	for i, s := range services {
		names[i] = s.name
		modules[s.name] = s.flags(cmd.Flags())
	}
	cmd.Flags().StringSliceVar(&only, "services", names, "the services to run")
	cmd.Flags().BoolVar(&createTopics, "create-topics", false, "make topics that do not exist, where a log has topics to be made (kafka://)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.Validate(); err != nil {
			return usageError{err}
		}
		options := []fx.Option{service.Module(flags.Config, cmd.ErrOrStderr(), withTopics(flags.Topics(), createTopics, cmd.ErrOrStderr()))}
		for _, name := range only {
			if !slices.Contains(names, name) {
				return usageError{fmt.Errorf("there is no service %q; the services are %s", name, strings.Join(names, ", "))}
			}
			options = append(options, modules[name]())
		}
		return service.Run(cmd.Context(), options...)
	}
	return cmd
}
