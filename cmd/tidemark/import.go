package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tidemark.dev/cmd/tidemark/internal/dynamo"
	"tidemark.dev/pkg/model"
)

func newImport() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import", Short: "Convert the configuration of another planner", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("no planner is named; usage: tidemark import dynamo FILE")}
		},
	}
	cmd.AddCommand(newImportDynamo())
	return cmd
}

func newImportDynamo() *cobra.Command {
	var name, output string
	cmd := &cobra.Command{
		Use: "dynamo FILE", Short: "Convert a configuration of the planner of NVIDIA Dynamo", Args: arguments(cobra.ExactArgs(1)),
		Long: `Convert a configuration of the planner of NVIDIA Dynamo, YAML or JSON, into a
file for tidemark apply. The file goes to standard output. To standard error goes
what it could not carry over, with the reason, and what it had to assume: one
line each. A file (- is standard input) that makes no deployment is refused whole.`,
		Example: "  tidemark import dynamo planner.yaml --name chat-70b > deployments.yaml",
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the deployment; without it, one after model_name")
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "yaml or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if output != "yaml" && output != "json" {
			return usageError{fmt.Errorf("output is %q, want yaml or json", output)}
		}
		data, err := readFile(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		converted, err := dynamo.Convert(data, name)
		if err != nil {
			return nameFile(args[0], err)
		}
		for _, note := range converted.Notes {
			fmt.Fprintln(cmd.ErrOrStderr(), note)
		}
		return printValue(cmd.OutOrStdout(), map[string]any{"deployments": []model.Deployment{converted.Deployment}}, output)
	}
	return cmd
}
