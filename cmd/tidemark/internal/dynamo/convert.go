// Package dynamo converts configurations of the planner of NVIDIA Dynamo into
// deployments of Tidemark.
//
// A conversion is a pure function of the file. What the file says is carried
// over, or named with the reason why it is not; what Tidemark has to know and
// the file does not say is assumed, and named too. Nothing is dropped silently:
// a field that is not known here is named like one that cannot be carried over.
// A file with a value of the wrong kind, or that makes no deployment, is refused
// whole, with every problem at once.
package dynamo

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/forecast"
)

// Conversion is what a planner's configuration becomes.
type Conversion struct {
	Deployment model.Deployment
	// Notes say what was not carried over, in the order of the file, and then
	// what was assumed.
	Notes []Note
}

// Note is something that a person has to know about a conversion.
type Note struct {
	// Line is that of the field in the file; 0 for what the file does not say.
	Line int
	// Subject is the field of the file that is not carried over, or the path of
	// the setting that was assumed.
	Subject string
	Text    string
}

func (n Note) String() string {
	if n.Line == 0 {
		return fmt.Sprintf("check %s: %s", n.Subject, n.Text)
	}
	return fmt.Sprintf("line %d: %s is not carried over: %s", n.Line, n.Subject, n.Text)
}

// Convert converts a configuration, YAML or JSON. The deployment gets the given
// name, or one after the model if it is empty. On any problem the error is a
// *model.ConfigError with all of them.
func Convert(data []byte, name string) (Conversion, error) {
	c := converter{settings: defaults(), given: map[string]*yaml.Node{}, origins: map[string]*yaml.Node{}}
	c.name = name
	c.read(data)
	if len(c.problems) > 0 {
		return Conversion{}, c.failed()
	}
	c.account()
	c.nameDeployment()
	deployment := c.deployment()
	c.validate(&deployment)
	if len(c.problems) > 0 {
		return Conversion{}, c.failed()
	}
	return Conversion{Deployment: deployment, Notes: append(c.left, c.assumed...)}, nil
}

// converter is the work on one file.
type converter struct {
	settings
	// given holds the key of each field that the file gives a value, by the
	// field's name in the table.
	given map[string]*yaml.Node
	// origins holds the key of the field that a setting comes from, by its path.
	origins  map[string]*yaml.Node
	problems []model.Problem
	left     []Note
	assumed  []Note
}

func (c *converter) failed() error {
	slices.SortStableFunc(c.problems, func(a, b model.Problem) int { return a.Line - b.Line })
	return &model.ConfigError{Problems: c.problems}
}

func (c *converter) fail(node *yaml.Node, path, format string, args ...any) {
	c.problems = append(c.problems, model.Problem{Line: node.Line, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (c *converter) leave(key *yaml.Node, reason string) {
	c.left = append(c.left, Note{Line: key.Line, Subject: key.Value, Text: reason})
}

func (c *converter) assume(path, format string, args ...any) {
	c.assumed = append(c.assumed, Note{Subject: path, Text: fmt.Sprintf(format, args...)})
}

// read takes the values of all fields into the settings.
func (c *converter) read(data []byte) {
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return // an empty configuration is one of defaults
	case err != nil:
		c.problems = append(c.problems, model.Problem{Path: "syntax", Message: strings.TrimPrefix(err.Error(), "yaml: ")})
		return
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		c.problems = append(c.problems, model.Problem{Path: "syntax", Message: "the file holds more than one document, want the configuration of one planner"})
		return
	}
	root := resolve(document.Content[0])
	if root.Kind != yaml.MappingNode {
		c.fail(root, "", "want the keys and values of a planner's configuration")
		return
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		c.readField(root.Content[i], resolve(root.Content[i+1]))
	}
}

func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func (c *converter) readField(key, value *yaml.Node) {
	known := slices.IndexFunc(fields, func(f field) bool { return slices.Contains(f.names, key.Value) })
	if known < 0 {
		c.leave(key, "it is not known as a field of the planner's configuration")
		return
	}
	f := &fields[known]
	if first := c.given[f.names[0]]; first != nil {
		c.fail(key, key.Value, "is given twice, the first time as %s in line %d", first.Value, first.Line)
		return
	}
	if value.Tag == "!!null" {
		return // which is the default of every field that may be null
	}
	c.given[f.names[0]] = key
	if f.read == nil {
		return
	}
	if wrong := f.read(&c.settings, value); wrong != "" {
		c.fail(value, key.Value, "%s", wrong)
		return
	}
	for _, path := range f.to {
		c.origins[path] = key
	}
}

// account names the fields that are not carried over, in the order of the file.
func (c *converter) account() {
	for i := range fields {
		f := &fields[i]
		key := c.given[f.names[0]]
		if key == nil || f.left == nil {
			continue
		}
		if reason := f.left(&c.settings); reason != "" {
			c.leave(key, reason)
		}
	}
	slices.SortStableFunc(c.left, func(a, b Note) int { return a.Line - b.Line })
}

// validate holds the deployment against the rules of every configuration, and
// names the fields that a problem comes from.
func (c *converter) validate(d *model.Deployment) {
	var problems []model.Problem
	if err := d.Validate(); err != nil {
		config, ok := errors.AsType[*model.ConfigError](err)
		if !ok {
			config = &model.ConfigError{Problems: []model.Problem{{Path: "deployment", Message: err.Error()}}}
		}
		problems = config.Problems
	}
	if d.Target == model.TargetSLA {
		params := forecast.Params{Log1p: d.Throughput.Log1p, PredictorParams: d.Throughput.PredictorParams}
		if err := params.Check(forecast.Kind(d.Throughput.Predictor), d.Throughput.IntervalS); err != nil {
			problems = append(problems, model.Problem{Path: "throughput.predictor_params", Message: strings.ReplaceAll(err.Error(), "\n", "; ")})
		}
	}
	for _, p := range problems {
		if from, ok := c.origins[p.Path]; ok {
			p.Line, p.Message = from.Line, fmt.Sprintf("%s (it comes from %s)", p.Message, from.Value)
		}
		c.problems = append(c.problems, p)
	}
}
