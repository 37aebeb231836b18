package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestManifestsUseFlagsThatExist reads how deploy/kubernetes starts the services.
func TestManifestsUseFlagsThatExist(t *testing.T) {
	var started []string
	files, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var workload struct {
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct{ Args []string }
					}
				}
			}
		}
		// The Deployment is the first document of its file.
		if err := yaml.NewDecoder(strings.NewReader(string(content))).Decode(&workload); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, container := range workload.Spec.Template.Spec.Containers {
			cmd, rest, err := newRoot().Find(container.Args)
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err != nil || cmd.Name() != "up" {
				t.Errorf("%s starts tidemark %q: %v", file, container.Args, err)
				continue
			}
			only, err := cmd.Flags().GetStringSlice("services")
			if err != nil {
				t.Fatal(err)
			}
			started = append(started, only...)
		}
	}
	slices.Sort(started)
	if want := []string{"actuator", "collector", "decider", "reporter"}; !slices.Equal(started, want) {
		t.Errorf("the manifests start %q, want %q", started, want)
	}
}
