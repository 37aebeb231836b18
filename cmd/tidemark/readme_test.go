package main

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestReadmeListsTheCommands: the README's table has every command, and no other.
func TestReadmeListsTheCommands(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`tidemark .*?) \\|").FindAllSubmatch(readme, -1) {
		for _, name := range regexp.MustCompile("`(?:tidemark )?([a-z]+)`").FindAllSubmatch(row[1], -1) {
			listed = append(listed, string(name[1]))
		}
	}
	var commands []string
	for _, command := range newRoot().Commands() {
		if command.Name() != "help" && command.Name() != "completion" {
			commands = append(commands, command.Name())
		}
	}
	slices.Sort(listed)
	slices.Sort(commands)
	if !slices.Equal(listed, commands) {
		t.Errorf("the README lists %v, and the commands are %v", listed, commands)
	}
}
