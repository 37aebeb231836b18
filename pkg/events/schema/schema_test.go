// Package schema holds what the code says of its events for others to read: a
// JSON Schema of every type, and an AsyncAPI document of the topics. The files
// are written by the test, with -update, and compared by it.
package schema_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"tidemark.dev/pkg/events"
)

var update = flag.Bool("update", false, "write the files anew")

// root is the tree's, from here.
const root = "../../.."

// check compares a file with what it should hold, or writes it.
func check(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil { //nolint:gosec // part of the tree
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the code says; make golden writes it anew (-code +file):\n%s", file, diff)
	}
}

// schemaOf returns the JSON Schema of a type's data. Fields that are not known
// are no error: a newer producer may add some.
func schemaOf(t *testing.T, kind events.Type) []byte {
	t.Helper()
	reflector := jsonschema.Reflector{
		AllowAdditionalProperties: true, ExpandedStruct: true, BaseSchemaID: "https://tidemark.dev/schemas",
		Namer: func(r reflect.Type) string {
			// The name of a generic type holds the path of its parameter.
			name, parameter, generic := strings.Cut(r.Name(), "[")
			if !generic {
				return name
			}
			parameter = strings.TrimSuffix(parameter, "]")
			return name + "Of" + strings.ToUpper(parameter[strings.LastIndexAny(parameter, "./")+1:][:1]) + parameter[strings.LastIndexAny(parameter, "./")+1:][1:]
		},
	}
	if err := reflector.AddGoComments("tidemark.dev/pkg/events/schema", "../../model", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	for name, comment := range reflector.CommentMap {
		reflector.CommentMap[name] = strings.Join(strings.Fields(comment), " ")
	}
	schema := reflector.ReflectFromType(kind.Fact)
	schema.ID = jsonschema.ID("https://tidemark.dev/schemas/" + kind.Name + ".json")
	schema.Title = kind.Name
	schema.Description = reflector.CommentMap["tidemark.dev/pkg/model."+kind.Fact.Name()]
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func TestSchemas(t *testing.T) {
	for _, kind := range events.Types() {
		check(t, kind.Name+".json", schemaOf(t, kind))
	}
	files, err := filepath.Glob("*.json")
	if err != nil || len(files) != len(events.Types()) {
		t.Errorf("there are schemas %v (%v), want one for each of %d types", files, err, len(events.Types()))
	}
}

// headers is the schema of the headers of every event.
const headers = `{
  "type": "object",
  "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"],
  "properties": {
    "ce_specversion": {"const": "1.0"},
    "ce_id": {"type": "string", "format": "uuid", "description": "Deterministic: the same fact has the same ID, however often it is published."},
    "ce_type": {"type": "string", "pattern": "^dev\\.tidemark\\.[a-z-]+\\.v[0-9]+$"},
    "ce_source": {"type": "string", "pattern": "^/tidemark/"},
    "ce_subject": {"type": "string", "description": "The deployment."},
    "ce_time": {"type": "string", "format": "date-time", "description": "When the fact happened."},
    "ce_partitionkey": {"type": "string", "description": "The key of the record."},
    "ce_causationid": {"type": "string", "description": "The ID of the event that led to this one."},
    "ce_correlationid": {"type": "string", "description": "The ID of the observation at the head of the story."},
    "ce_traceparent": {"type": "string", "description": "A W3C trace context, passed on."},
    "content-type": {"const": "application/json"}
  }
}`

// Every event that was ever recorded keeps its schema.
func TestGoldenEventsKeepTheirSchemas(t *testing.T) {
	compile := func(id string, schema any) *validator.Schema {
		t.Helper()
		compiler := validator.NewCompiler()
		compiler.AssertFormat()
		if err := compiler.AddResource(id, schema); err != nil {
			t.Fatal(err)
		}
		compiled, err := compiler.Compile(id)
		if err != nil {
			t.Fatal(err)
		}
		return compiled
	}
	parse := func(text []byte) any {
		t.Helper()
		value, err := validator.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	envelope := compile("headers.json", parse([]byte(headers)))
	schemas := map[string]*validator.Schema{}
	for _, kind := range events.Types() {
		schemas[kind.Name] = compile(kind.Name+".json", parse(schemaOf(t, kind)))
	}
	seen := 0
	err := filepath.WalkDir("../testdata/golden", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var event struct {
			Headers map[string]string `json:"headers"`
			Data    json.RawMessage   `json:"data"`
		}
		if err := json.Unmarshal(text, &event); err != nil {
			return err
		}
		schema := schemas[event.Headers["ce_type"]]
		if schema == nil {
			return nil // an older version, which is upcast
		}
		asAny := map[string]any{}
		for name, value := range event.Headers {
			asAny[name] = value
		}
		if err := envelope.Validate(asAny); err != nil {
			t.Errorf("%s: headers: %v", path, err)
		}
		if err := schema.Validate(parse(event.Data)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		// And a schema says something: without its data, an event breaks it.
		if err := schema.Validate(map[string]any{}); err == nil {
			t.Errorf("the schema of %s takes an event without data", event.Headers["ce_type"])
		}
		seen++
		return nil
	})
	if err != nil || seen == 0 {
		t.Fatalf("%d golden events were looked at: %v", seen, err)
	}
}

// functions are those of the documents' templates.
var functions = template.FuncMap{
	"indent":  func(n int, text string) string { return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", n)) },
	"types":   func(topic string) []events.Type { return typesOf(topic) },
	"headers": func() string { return headers },
	"kept": func(topic events.Topic) string {
		switch {
		case topic.Retention == 0:
			return "for ever"
		case topic.Compacted:
			return fmt.Sprintf("the newest of a key, and %d days", topic.Retention/(24*time.Hour))
		}
		return fmt.Sprintf("%d days", topic.Retention/(24*time.Hour))
	},
	"policy": func(topic events.Topic) string {
		if topic.Compacted {
			return "compact, delete"
		}
		return "delete"
	},
	"ms": func(topic events.Topic) int64 {
		if topic.Retention == 0 {
			return -1
		}
		return topic.Retention.Milliseconds()
	},
	"short": func(kind string) string { return strings.TrimPrefix(kind, "dev.tidemark.") },
	"fact":  func(kind events.Type) string { return kind.Fact.Name() },
	"writers": func(topic string) string {
		var names []string
		for _, flow := range events.Flows {
			if slices.Contains(flow.Writes, topic) {
				names = append(names, flow.Service)
			}
		}
		return strings.Join(names, ", ")
	},
	"readers": func(topic string) string {
		var names []string
		for _, flow := range events.Flows {
			if slices.Contains(flow.Reads, topic) {
				names = append(names, flow.Service)
			}
		}
		return strings.Join(names, ", ")
	},
}

func typesOf(topic string) (of []events.Type) {
	for _, kind := range events.Types() {
		if kind.Topic == topic {
			of = append(of, kind)
		}
	}
	return of
}

func render(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	document, err := template.New(file).Funcs(functions).Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := document.Execute(&out, map[string]any{"Topics": events.AllTopics, "Flows": events.Flows, "Prefix": events.DefaultPrefix}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAsyncAPI(t *testing.T) {
	text := render(t, "testdata/asyncapi.yaml.tmpl")
	check(t, "asyncapi.yaml", text)
	// References lead somewhere.
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	references := 0
	var follow func(value any)
	follow = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for name, inner := range value {
				reference, ok := inner.(string)
				if name != "$ref" || !ok {
					follow(inner)
					continue
				}
				references++
				if path, inside := strings.CutPrefix(reference, "#/"); inside {
					var at any = document
					for step := range strings.SplitSeq(path, "/") {
						object, _ := at.(map[string]any)
						at = object[step]
					}
					if at == nil {
						t.Errorf("%s leads nowhere", reference)
					}
				} else if _, err := os.Stat(strings.TrimPrefix(reference, "./")); err != nil {
					t.Errorf("%s leads nowhere: %v", reference, err)
				}
			}
		case []any:
			for _, inner := range value {
				follow(inner)
			}
		}
	}
	follow(document)
	if version, _ := document["asyncapi"].(string); version != "3.0.0" || references < 50 {
		t.Errorf("AsyncAPI %s with %d references", version, references)
	}
}

func TestDocument(t *testing.T) {
	check(t, root+"/docs/events.md", render(t, "testdata/events.md.tmpl"))
}

// The access rules of the script are the flows, and no more.
func TestAccessRules(t *testing.T) {
	script, err := os.ReadFile(root + "/deploy/kafka/acls.sh")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for line := range strings.Lines(string(script)) {
		words := strings.Fields(line)
		if len(words) > 2 && (words[0] == "reads" || words[0] == "writes") && words[1] != "()" {
			got[words[0]+" "+words[1]] = slices.Sorted(slices.Values(words[2:]))
		}
	}
	delete(got, "reads()")
	delete(got, "writes()")
	want := map[string][]string{}
	for _, flow := range events.Flows {
		want["reads "+flow.Service] = slices.Sorted(slices.Values(flow.Reads))
		want["writes "+flow.Service] = slices.Sorted(slices.Values(flow.Writes))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deploy/kafka/acls.sh differs from the flows (-code +script):\n%s", diff)
	}
}
