package model

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Line is the line of the file, counted from 1; 0 where there is none.
	Line int
	// Path leads to the value: deployments[0].roles.prefill.min_replicas.
	Path    string
	Message string
}

func (p Problem) String() string {
	switch {
	case p.Line == 0:
		return p.Path + ": " + p.Message
	case p.Path == "":
		return fmt.Sprintf("line %d: %s", p.Line, p.Message)
	}
	return fmt.Sprintf("line %d: %s: %s", p.Line, p.Path, p.Message)
}

// ConfigError holds every problem of a configuration, in the order of the file.
type ConfigError struct{ Problems []Problem }

func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// strict decodes a YAML document into Go values by their json tags. It goes on
// after a problem, so that a person sees all of them at once.
type strict struct {
	problems []Problem
	lines    map[string]int
	depth    int
}

// defaulter is a value with defaults, set before its keys are read.
type defaulter interface{ setDefaults() }

// renamed holds keys of other planners that a person may write out of habit,
// and the sentence that says what to write.
var renamed = map[string]string{
	"no_operation": "is not known here: write advisory: true, which observes and decides and never acts",
	"scaling_mode": "is not known here: write advisory: true to decide and never act, or advisory: false to act",
}

// maxDepth is deeper than any configuration is, and bounds aliases that nest.
const maxDepth = 32

func (d *strict) report(node *yaml.Node, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: node.Line, Path: path, Message: fmt.Sprintf(format, args...)})
}

// document parses one YAML document.
func (d *strict) document(data []byte, out reflect.Value) {
	d.lines = map[string]int{}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		d.problems = append(d.problems, syntaxProblem(err))
		return
	}
	if err := decoder.Decode(new(yaml.Node)); err == nil {
		d.problems = append(d.problems, Problem{Message: "the file holds more than one document; write one", Path: "deployments"})
		return
	}
	d.value(doc.Content[0], "", out)
}

func syntaxProblem(err error) Problem {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(number); err == nil {
				return Problem{Line: line, Message: text}
			}
		}
	}
	if message == "EOF" {
		message = "the file is empty; want a list under the key deployments"
	}
	return Problem{Line: 1, Message: message}
}

var timeType = reflect.TypeFor[time.Time]()

func (d *strict) value(node *yaml.Node, path string, out reflect.Value) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if d.depth++; d.depth > maxDepth {
		d.report(node, path, "is nested too deeply")
		d.depth--
		return
	}
	defer func() { d.depth-- }()
	d.lines[path] = node.Line
	switch {
	case out.Type() == timeType:
		t, err := time.Parse(time.RFC3339Nano, node.Value)
		if node.Kind != yaml.ScalarNode || err != nil {
			d.report(node, path, "want an instant like 2026-11-23T20:00:05Z, have %s", describe(node))
			return
		}
		out.Set(reflect.ValueOf(t.UTC()))
	case out.Kind() == reflect.Pointer:
		if node.Tag == "!!null" {
			d.report(node, path, "has no value; give one or leave the key out")
			return
		}
		fresh := reflect.New(out.Type().Elem())
		d.value(node, path, fresh.Elem())
		out.Set(fresh)
	case out.Kind() == reflect.Struct:
		d.mapping(node, path, out)
	case out.Kind() == reflect.Slice:
		d.sequence(node, path, out)
	case out.Kind() == reflect.Map:
		d.dictionary(node, path, out)
	default:
		d.scalar(node, path, out)
	}
}

func (d *strict) mapping(node *yaml.Node, path string, out reflect.Value) {
	if node.Kind != yaml.MappingNode {
		d.report(node, path, "want keys and values, have %s", describe(node))
		return
	}
	if withDefaults, ok := out.Addr().Interface().(defaulter); ok {
		withDefaults.setDefaults()
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := join(path, key.Value)
		switch field, known := fieldByKey(out, key.Value); {
		case seen[key.Value]:
			d.report(key, at, "is given twice")
		case known:
			d.value(value, at, field)
		case renamed[key.Value] != "":
			d.report(key, at, "%s", renamed[key.Value])
		default:
			d.report(key, at, "is not a known key; the keys here are %s", strings.Join(keysOf(out.Type()), ", "))
		}
		seen[key.Value] = true
	}
}

func (d *strict) sequence(node *yaml.Node, path string, out reflect.Value) {
	if node.Kind != yaml.SequenceNode {
		d.report(node, path, "want a list, have %s", describe(node))
		return
	}
	out.Set(reflect.MakeSlice(out.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		d.value(item, fmt.Sprintf("%s[%d]", path, i), out.Index(i))
	}
}

// dictionary reads a mapping whose keys are free.
func (d *strict) dictionary(node *yaml.Node, path string, out reflect.Value) {
	if node.Kind != yaml.MappingNode {
		d.report(node, path, "want keys and values, have %s", describe(node))
		return
	}
	out.Set(reflect.MakeMap(out.Type()))
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := reflect.ValueOf(node.Content[i].Value)
		at := join(path, key.String())
		if out.MapIndex(key).IsValid() {
			d.report(node.Content[i], at, "is given twice")
			continue
		}
		value := reflect.New(out.Type().Elem()).Elem()
		d.value(node.Content[i+1], at, value)
		out.SetMapIndex(key, value)
	}
}

func (d *strict) scalar(node *yaml.Node, path string, out reflect.Value) {
	want, err := "", error(nil)
	switch out.Kind() {
	case reflect.String:
		want = "text"
		if node.Kind == yaml.ScalarNode && node.Tag == "!!str" {
			out.SetString(node.Value)
			return
		}
	case reflect.Bool:
		want = "true or false"
		var b bool
		if err = node.Decode(&b); err == nil && node.Tag == "!!bool" {
			out.SetBool(b)
			return
		}
	case reflect.Int:
		want = "a whole number"
		var n int
		if err = node.Decode(&n); err == nil && node.Tag == "!!int" {
			out.SetInt(int64(n))
			return
		}
	case reflect.Uint64:
		want = "a whole number that is not negative"
		var n uint64
		if err = node.Decode(&n); err == nil && node.Tag == "!!int" {
			out.SetUint(n)
			return
		}
	case reflect.Float64:
		want = "a number"
		var f float64
		if err = node.Decode(&f); err == nil && (node.Tag == "!!float" || node.Tag == "!!int") && !math.IsNaN(f) && !math.IsInf(f, 0) {
			out.SetFloat(f)
			return
		}
	default:
		panic(fmt.Sprintf("model: the strict decoder meets a %s at %s", out.Type(), path))
	}
	d.report(node, path, "want %s, have %s", want, describe(node))
}

func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return "nothing"
		}
	}
	return strconv.Quote(node.Value)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func fieldByKey(out reflect.Value, key string) (reflect.Value, bool) {
	for i := range out.NumField() {
		if jsonKey(out.Type().Field(i)) == key {
			return out.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = jsonKey(t.Field(i))
	}
	return keys
}

func jsonKey(field reflect.StructField) string {
	key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return key
}

// DecodeDeployments decodes a configuration file, YAML or JSON, strictly:
// unknown keys, wrong types and values out of range are problems, and all of
// them are returned at once as a *ConfigError. On any problem nothing is
// returned, so that a broken file is never half applied.
func DecodeDeployments(data []byte) ([]Deployment, error) {
	var file struct {
		Deployments []Deployment `json:"deployments"`
	}
	decoder := &strict{}
	decoder.document(data, reflect.ValueOf(&file).Elem())
	names := map[string]int{}
	for i := range file.Deployments {
		spec := &file.Deployments[i]
		at := fmt.Sprintf("deployments[%d]", i)
		if _, given := decoder.lines[at+".throughput.enabled"]; !given && spec.Target != TargetSLA {
			spec.Throughput.Enabled = false
		}
		for _, problem := range spec.problems() {
			problem.Path = join(at, problem.Path)
			problem.Line = decoder.line(problem.Path)
			if !decoder.reported(problem.Path) {
				decoder.problems = append(decoder.problems, problem)
			}
		}
		if first, again := names[spec.Name]; again {
			path := at + ".name"
			decoder.problems = append(decoder.problems, Problem{
				Line: decoder.line(path), Path: path,
				Message: fmt.Sprintf("%q is the name of deployments[%d] too", spec.Name, first),
			})
		}
		names[spec.Name] = i
	}
	if len(decoder.problems) == 0 && len(file.Deployments) == 0 {
		decoder.problems = append(decoder.problems, Problem{Line: 1, Path: "deployments", Message: "no deployment is configured"})
	}
	if len(decoder.problems) > 0 {
		slices.SortStableFunc(decoder.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, &ConfigError{Problems: decoder.problems}
	}
	return file.Deployments, nil
}

// reported tells whether a path has a problem already: a value of the wrong type
// is reported once, not again for what it leaves unset.
func (d *strict) reported(path string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Path == path })
}

// line returns the line of a path, or of the nearest value above it.
func (d *strict) line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 1
}
