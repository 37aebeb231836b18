package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"tidemark.dev/pkg/events"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/replay"
)

// TestExplain tells the story of a decision that was acted on, of an advisory
// one, and of the newest.
func TestExplain(t *testing.T) {
	url := livedLog(t)
	acted, advised := "", ""
	for record, err := range openLog(t, url).Read(t.Context(), topics.Name(events.TopicDecisions), events.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		event, err := record.Event()
		if err != nil {
			t.Fatal(err)
		}
		fact, err := event.Fact()
		if err != nil {
			t.Fatal(err)
		}
		decision, ok := fact.(*model.ScalingDecision)
		if !ok || decision.Action == model.Hold {
			continue
		}
		if decision.Mode == model.Advisory {
			advised = event.ID
		} else if acted == "" {
			acted = event.ID
		}
	}
	for name, wants := range map[string][]string{
		acted: {
			"decision " + acted, ", active, revision 2, epoch 1", "measured, 400 ms old", "ready of", "WHY\n  load ", "(limit 1000 ms)",
			"by ops@example\n", "because      the advice held", "target       sla, TTFT 1000 ms, ITL 30 ms", "  applied ", "  settled ", "60.0 s after it was applied",
			"the link holds", "tidemark replay --deployment chat --from 0:",
		},
		acted[:8]: {"decision " + acted},
		advised:   {", advisory, revision 1", "because      begin advisory", "the deployment was advisory: nobody acts on its decisions"},
		"chat":    {"observed 2026-11-23T00:30:00Z"},
	} {
		got := succeed(t, "explain", name, "--log", url)
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("explain %s lacks %q:\n%s", name, want, got)
			}
		}
		if strings.Contains(got, "is gone") || strings.Contains(got, "DOES NOT HOLD") {
			t.Errorf("explain %s lacks something:\n%s", name, got)
		}
		kept := "archive://" + write(t, "kept.jsonl", succeed(t, "tail", "all", "--to-end", "-o", "json", "--log", url))
		if again := succeed(t, "explain", name, "--log", kept); again != got {
			t.Errorf("an archive tells it otherwise:\n%s", again)
		}
	}
	var story replay.Story
	if err := json.Unmarshal([]byte(succeed(t, "explain", acted, "-o", "json", "--log", url)), &story); err != nil ||
		story.Observation == nil || story.Configured == nil || len(story.Outcomes) != 2 || !story.Previous.Linked || !story.Next.Linked {
		t.Errorf("story is %+v (%v)", story, err)
	}
	tidemark(t, "", "explain", "nothing", "--log", url).wantLine(t, exitError, `there is no decision "nothing"`)
}

// TestExplainWhatIsGone: what the log lacks is said, and the rest is told.
func TestExplainWhatIsGone(t *testing.T) {
	url := livedLog(t)
	id := decisionAt(t, url, 100)
	tamper(t, url,
		`DELETE FROM messages WHERE topic_id = (SELECT topic_id FROM topics WHERE name = 'tidemark.observations')`,
		`DELETE FROM messages WHERE topic_id = (SELECT topic_id FROM topics WHERE name = 'tidemark.deployments')`,
		`UPDATE messages SET payload = CAST(replace(CAST(payload AS TEXT), '"warnings":[]', '"warnings":["x"]') AS BLOB) WHERE DECISIONS AND position = 99`)
	got := succeed(t, "explain", id, "--log", url)
	for _, want := range []string{"is not in the log any more", "revision 1 is not in the log", "THE LINK DOES NOT HOLD", "is gone      its observation", "is gone      configuration revision 1", "engines      measured"} {
		if !strings.Contains(got, want) {
			t.Errorf("output lacks %q:\n%s", want, got)
		}
	}
}

// TestMeanings: there is a sentence for every reason and every warning.
func TestMeanings(t *testing.T) {
	source, err := os.ReadFile("../../pkg/model/decision.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?:Reason|Warning)\w+\s+(Reason|Warning)\s+= "(\w+)"`).FindAllSubmatch(source, -1)
	if len(found) < 30 {
		t.Fatalf("%d reasons and warnings were found, which cannot be all", len(found))
	}
	for _, match := range found {
		word := string(match[2])
		if string(match[1]) == "Reason" && meanings[model.Reason(word)] == "" || string(match[1]) == "Warning" && warnings[model.Warning(word)] == "" {
			t.Errorf("nothing says what %s means", word)
		}
	}
}
