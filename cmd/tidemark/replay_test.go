package main

import (
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to tamper with a log behind its back

	"tidemark.dev/pkg/replay"
	"tidemark.dev/pkg/replay/replaytest"
)

// livedLog returns the URL of a log with half an hour of a deployment, its
// second half active: 360 decisions.
func livedLog(t *testing.T) string {
	t.Helper()
	url := newLog(t)
	if err := replaytest.Write(openLog(t, url), topics, replaytest.Life{
		Deployment: "chat", Duration: 30 * time.Minute, ActiveFrom: 15 * time.Minute, CheckpointEvery: 100,
	}); err != nil {
		t.Fatal(err)
	}
	return url
}

// tamper changes the file of a log.
func tamper(t *testing.T, url string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", strings.TrimPrefix(url, "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		result, err := db.Exec(strings.ReplaceAll(statement, "DECISIONS", "topic_id = (SELECT topic_id FROM topics WHERE name = 'tidemark.decisions')"))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			t.Fatalf("%s: nothing was changed (%v)", statement, err)
		}
	}
}

// decisionAt returns the ID of the decision at a position.
func decisionAt(t *testing.T, url string, position int) string {
	t.Helper()
	var line struct {
		ID string `json:"id"`
	}
	from := jsonNumber(position)
	if err := json.Unmarshal([]byte(succeed(t, "tail", "--from", from, "--to", jsonNumber(position+1), "-o", "json", "--log", url)), &line); err != nil {
		t.Fatal(err)
	}
	return line.ID
}

func jsonNumber(n int) string { text, _ := json.Marshal(n); return string(text) }

// TestReplay: a log that nobody touched, whole, in part and as an archive.
func TestReplay(t *testing.T) {
	url := livedLog(t)
	kept := write(t, "kept.jsonl", succeed(t, "tail", "all", "--to-end", "-o", "json", "--log", url))
	for _, args := range []string{"--log " + url, "--log archive://" + kept} {
		for part, want := range map[string]string{
			"":                      "chat         360         360    0           0              359 links hold",
			"--from 100 --to 0:130": "chat         30          30     0           0              29 links hold",
			"--deployment chat":     "360 observations replayed in",
		} {
			if got := succeed(t, append(strings.Fields(args+" "+part), "replay")...); !strings.Contains(got, want) {
				t.Errorf("replay %s %s lacks %q:\n%s", args, part, want, got)
			}
		}
	}
	tidemark(t, "", "replay", "--tolerance", "0.5", "--log", url).wantLine(t, exitUsage, "tolerance is 0.5, want 0 to 0.01")
	tidemark(t, "", "replay", "--deployment", "other", "--log", url).wantLine(t, exitError, "there is no decision in the range")
	tidemark(t, "", "replay", "--log", "archive://"+kept+".gone").wantLine(t, exitError, "open archive: open "+kept+".gone: no such file")
}

// TestReplayTampered: what somebody did to the file of a log is named, with
// exit code 3; so it is in an archive that was made of it.
func TestReplayTampered(t *testing.T) {
	for name, test := range map[string]struct {
		statements []string
		named      []int
		want       []string
	}{
		"one byte": {
			[]string{`UPDATE messages SET payload = CAST(replace(CAST(payload AS TEXT), '"action":"', '"action":"x') AS BLOB) WHERE DECISIONS AND position = 200`},
			[]int{200},
			[]string{"ALTERED", "at position 200", "The first difference is in decision", "  action\n    recorded  \"x"},
		},
		"one removed": {[]string{`DELETE FROM messages WHERE DECISIONS AND position = 77`}, []int{77}, []string{"MISSING"}},
		"two swapped": {
			[]string{
				`UPDATE messages SET position = 100000 WHERE DECISIONS AND position = 40`,
				`UPDATE messages SET position = 40 WHERE DECISIONS AND position = 90`,
				`UPDATE messages SET position = 90 WHERE DECISIONS AND position = 100000`,
			}, []int{40, 90}, []string{"MOVED"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := livedLog(t)
			wants := test.want
			for _, position := range test.named {
				wants = append(wants, decisionAt(t, url, position))
			}
			tamper(t, url, test.statements...)
			kept := "archive://" + write(t, "kept.jsonl", succeed(t, "tail", "all", "--to-end", "-o", "json", "--log", url))
			for _, log := range []string{url, kept} {
				got := tidemark(t, "", "replay", "--log", log)
				if got.code != exitDiffers || !strings.Contains(got.stderr, " among 3") || strings.Count(got.stderr, "\n") != 1 {
					t.Errorf("exit code %d, errors %q; want code %d", got.code, got.stderr, exitDiffers)
				}
				for _, want := range wants {
					if !strings.Contains(got.stdout, want) {
						t.Errorf("output lacks %q:\n%s", want, got.stdout)
					}
				}
			}
			var result replay.Result
			if err := json.Unmarshal([]byte(tidemark(t, "", "replay", "-o", "json", "--log", url).stdout), &result); err != nil || len(result.Findings) == 0 {
				t.Errorf("findings in JSON are %+v (%v)", result.Findings, err)
			}
		})
	}
}

// TestReplayWhatIf: a candidate that is the recorded configuration decides the
// same; another is told apart, and what the fleet did not follow is said.
func TestReplayWhatIf(t *testing.T) {
	url := livedLog(t)
	spec := func(edit string) string {
		text := succeed(t, "get", "chat", "--log", url, "-o", "yaml")
		// The specification of a deployment, as get shows it, is a configuration.
		_, text, _ = strings.Cut(text, "  spec:\n")
		text, _, _ = strings.Cut(text, "  changed_by:")
		var lines strings.Builder
		lines.WriteString("deployments:\n")
		for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			if line = line[2:]; i == 0 {
				line = "- " + line[2:]
			}
			lines.WriteString("  " + line + "\n")
		}
		return write(t, "candidate.yaml", strings.Replace(lines.String(), "ttft_ms: 1000", edit, 1))
	}
	same := succeed(t, "replay", "--config", spec("ttft_ms: 1000"), "--log", url)
	if !strings.Contains(same, "Every target is the same.") {
		t.Errorf("the recorded configuration decides otherwise:\n%s", same)
	}
	other := succeed(t, "replay", "--config", spec("ttft_ms: 200"), "--log", url)
	for _, want := range []string{"DECIDED", "changes of target", "prefill replica-hours", "GPU-hours", "targets differ", "acted on, the candidate would have had another fleet from"} {
		if !strings.Contains(other, want) {
			t.Errorf("output lacks %q:\n%s", want, other)
		}
	}
	page := filepath.Join(t.TempDir(), "whatif.html")
	succeed(t, "replay", "--config", spec("ttft_ms: 200"), "--html", page, "--log", url)
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "What if: candidate.yaml") || !strings.Contains(string(html), "fleet was where wanted") {
		t.Errorf("the page of %d bytes does not hold the comparison (%v)", len(html), err)
	}
	tidemark(t, "", "replay", "--html", page, "--log", url).wantLine(t, exitUsage, "--html shows what candidates would have decided")
	tidemark(t, "", "replay", "--config", filepath.Join(t.TempDir(), "none.yaml"), "--log", url).wantLine(t, exitError, "none.yaml: no such file")
	if _, err := os.Stat("tidemark.db"); err == nil {
		t.Error("a log was made in the working directory")
	}
}
