package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/planner"
)

// maxLine bounds a line of observations: one of 10,000 engines has about 3 MB.
const maxLine = 64 << 20

func newDecide() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "decide -f FILE", Short: "Decide observations on standard input, one JSON line each", Args: arguments(cobra.NoArgs),
		Long: `Decide observations: the decision core as a filter. Observations come as JSON
lines on standard input (the event's data, without its envelope), decisions go
as JSON lines to standard output, and nothing else is touched. A deployment
starts from nothing; a line's config_revision is not checked.`,
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "configuration file; its source and actuator may be missing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file == "" || file == "-" {
			return usageError{errors.New("no file is given (standard input holds the observations); usage: tidemark decide -f FILE")}
		}
		specs, err := loadDeployments(cmd.InOrStdin(), file)
		if err != nil {
			return err
		}
		return decideLines(specs, cmd.InOrStdin(), cmd.OutOrStdout())
	}
	return cmd
}

// decideLines decides each line of observations of the deployments.
func decideLines(specs []model.Deployment, in io.Reader, out io.Writer) error {
	byName := map[string]*model.Deployment{}
	for i := range specs {
		byName[specs[i].Name] = &specs[i]
	}
	states := map[string]*planner.State{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		decided, err := decideLine(byName, states, lines.Bytes())
		if err != nil {
			return fmt.Errorf("standard input, line %d: %w", number, err)
		}
		if _, err := out.Write(append(decided, '\n')); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	return nil
}

func decideLine(specs map[string]*model.Deployment, states map[string]*planner.State, line []byte) ([]byte, error) {
	var observation model.Observation
	if err := json.Unmarshal(line, &observation); err != nil {
		return nil, fmt.Errorf("decode observation: %w", err)
	}
	if err := observation.Validate(); err != nil {
		return nil, err
	}
	spec := specs[observation.Deployment]
	if spec == nil {
		return nil, fmt.Errorf("deployment %q is not in the configuration", observation.Deployment)
	}
	state := states[spec.Name]
	if state == nil {
		fresh, err := planner.New(spec)
		if err != nil {
			return nil, err
		}
		state = fresh
		states[spec.Name] = state
	}
	configured := &model.DeploymentConfigured{Deployment: spec.Name, Revision: observation.ConfigRevision, Spec: *spec}
	if spec.Mode() == model.Active {
		configured.Epoch = 1 // as of a deployment that was applied so
	}
	_, data, err := planner.Decide(state, planner.Input{
		ObservationID: events.ObservationID(observation.Deployment, observation.ObservedAt),
		Observation:   &observation,
		Configured:    configured,
	})
	return data, err
}
