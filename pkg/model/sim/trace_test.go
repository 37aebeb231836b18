package sim

import (
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

const azureSample = `TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
`

const mooncakeSample = `{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": []}
`

func TestLoadTrace(t *testing.T) {
	azure := []Request{{0, 374, 44}, {4314579 * time.Microsecond, 396, 109}}
	for _, test := range []struct {
		name, trace string
		want        []Request
	}{
		{"azure", azureSample, azure},
		{
			"azure of 2024", "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,1,2\n2024-05-10 02:00:00.5+02:00,3,4\n",
			[]Request{{0, 1, 2}, {490070 * time.Microsecond, 3, 4}},
		},
		{"mooncake", mooncakeSample, []Request{{0, 6758, 500}, {3 * time.Second, 7322, 490}}},
		{"plain", "t_ms,isl,osl\n0,10,20\n1.5,30,40\n", []Request{{0, 10, 20}, {1500 * time.Microsecond, 30, 40}}},
		{"byte order mark, carriage returns, blank lines, no last newline", "\uFEFF" + strings.ReplaceAll(strings.TrimSpace(azureSample), "\n", "\r\n\r\n"), azure},
		{"byte order mark before JSON", "\uFEFF" + mooncakeSample, []Request{{0, 6758, 500}, {3 * time.Second, 7322, 490}}},
		{"space around fields", "t_ms,isl,osl\n 5 , 10 , 20 \n", []Request{{5 * time.Millisecond, 10, 20}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := LoadTrace(strings.NewReader(test.trace), "trace")
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadTraceRefuses(t *testing.T) {
	for _, test := range []struct{ name, trace, want string }{
		{"nothing", "", "trace t.csv holds no request"},
		{"header alone", "t_ms,isl,osl\n", "trace t.csv holds no request"},
		{"unknown header", "time,in,out\n1,2,3\n", `trace t.csv, line 1: is "time,in,out", want the header "TIMESTAMP,ContextTokens,GeneratedTokens" or "t_ms,isl,osl", or a JSON object`},
		{"few fields", "t_ms,isl,osl\n1,2,3\n1,2\n", "trace t.csv, line 3: has 2 fields, want 3: t_ms,isl,osl"},
		{"many fields", "t_ms,isl,osl\n1,2,3,4\n", "line 2: has 4 fields, want 3"},
		{"no number", "t_ms,isl,osl\n1,two,3\n", `line 2: isl is "two", want a whole number of tokens from 1 to`},
		{"no tokens", "t_ms,isl,osl\n1,2,0\n", `line 2: osl is "0", want a whole number`},
		{"too many tokens", "t_ms,isl,osl\n1,99999999999,1\n", `line 2: isl is "99999999999", want a whole number`},
		{"negative instant", "t_ms,isl,osl\n-1,2,3\n", `line 2: t_ms is "-1", want milliseconds since the origin`},
		{"no instant", "t_ms,isl,osl\nNaN,2,3\n", `line 2: t_ms is "NaN", want milliseconds`},
		{"disorder", "t_ms,isl,osl\n5,2,3\n\n4,2,3\n", "line 4: is 1ms earlier than the request before it, want requests in order of arrival"},
		{
			"no time", strings.Replace(azureSample, "2023-11-16 18:15:50.9951690", "yesterday", 1),
			`line 3: TIMESTAMP is "yesterday", want a time like 2023-11-16 18:15:46.6805900`,
		},
		{"a century", azureSample + "2323-11-16 18:15:50,1,1\n", "line 4: is 2562047h47m16.854775807s after the first request, want at most 876000h0m0s"},
		{"long field", "t_ms,isl,osl\n1," + strings.Repeat("x", 1000) + ",3\n", `isl is "` + strings.Repeat("x", 60) + `...", want`},
		{"broken JSON", mooncakeSample + `{"timestamp": 4000, "input_`, "line 3: is not a JSON object: unexpected end of JSON input"},
		{"JSON of another type", mooncakeSample + "[1]\n", "line 3: is not a JSON object: json: cannot unmarshal array"},
		{"missing field", `{"timestamp": 1, "input_length": 5}`, "line 1: has no output_length, want timestamp, input_length and output_length"},
		{"field of another type", `{"timestamp": 1, "input_length": "5", "output_length": 1}`, "line 1: input_length is a JSON string, want a number, whole if it is a length"},
		{"fraction of a token", `{"timestamp": 1, "input_length": 5.5, "output_length": 1}`, "line 1: input_length is a JSON number 5.5, want a number, whole"},
		{"no output", `{"timestamp": 1, "input_length": 5, "output_length": 0}`, "line 1: output_length is 0, want a whole number"},
		{"instant before the origin", `{"timestamp": -1, "input_length": 5, "output_length": 1}`, "line 1: timestamp is -1, want milliseconds"},
		{"long line", "t_ms,isl,osl\n" + strings.Repeat(" ", maxLine+1), "line 2: is longer than 16777216 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := LoadTrace(strings.NewReader(test.trace), "t.csv")
			if err == nil || got != nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("loaded %v with error\n%v, want none with one line of error that has\n%s", got, err, test.want)
			}
		})
	}
}

// TestLoaders shows that a loader of one format takes no other, and that all
// pass on what goes wrong with reading.
func TestLoaders(t *testing.T) {
	broken := errors.New("broken disk")
	for name, load := range map[string]struct {
		own, foreign string
		load         func(io.Reader, string) ([]Request, error)
	}{
		"azure":    {azureSample, mooncakeSample, LoadAzure},
		"mooncake": {mooncakeSample, azureSample, LoadMooncake},
		"plain":    {"t_ms,isl,osl\n0,1,1\n1,1,1\n", azureSample, LoadPlain},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := load.load(strings.NewReader(load.own), "trace"); err != nil || len(got) != 2 {
				t.Errorf("loaded %v, %v", got, err)
			}
			if got, err := load.load(strings.NewReader(load.foreign), "trace"); err == nil {
				t.Errorf("loaded %v of a foreign format", got)
			}
			if _, err := load.load(strings.NewReader(""), "trace"); err == nil {
				t.Error("loaded nothing without an error")
			}
			cut := io.MultiReader(strings.NewReader(load.own), iotest.ErrReader(broken))
			if got, err := load.load(cut, "trace"); !errors.Is(err, broken) || got != nil {
				t.Errorf("loaded %v with error %v, want none and the reader's", got, err)
			}
		})
	}
}

func TestMooncakeSlotsAreSpread(t *testing.T) {
	var trace strings.Builder
	for _, timestamp := range []string{"0", "0", "0", "2997", "2997", "3200", "3200", "3200", "9000", "9000"} {
		trace.WriteString(`{"timestamp": ` + timestamp + `, "input_length": 1, "output_length": 1}` + "\n")
	}
	load := func() []Request {
		got, err := LoadTrace(strings.NewReader(trace.String()), "trace")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := load()
	bounds := []time.Duration{0, 0, 0, ms(2997), ms(2997), ms(3200), ms(3200), ms(3200), ms(9000), ms(9000)}
	ends := []time.Duration{ms(2997), ms(2997), ms(2997), ms(3200), ms(3200), ms(6200), ms(6200), ms(6200), ms(12000), ms(12000)}
	for i, r := range got {
		if r.At < bounds[i] || r.At >= ends[i] || i > 0 && r.At <= got[i-1].At {
			t.Errorf("request %d at %v, want it in order in [%v, %v)", i, r.At, bounds[i], ends[i])
		}
	}
	if diff := gocmp.Diff(got, load()); diff != "" {
		t.Errorf("loaded again (-first +second):\n%s", diff)
	}
}

// TestRealTraces holds the loaders against the published statistics of real
// traces.
func TestRealTraces(t *testing.T) {
	for _, test := range []struct {
		file                   string
		requests               int
		span                   time.Duration
		isl, osl               float64
		islP50, islMax, oslP50 int
		// The variance of the counts of 60 s, by their mean.
		dispersion float64
	}{
		{"AzureLLMInferenceTrace_conv.csv", 19366, ms(58.4 * 60e3), 1155, 211, 1020, 14050, 129, 16},
		{"AzureLLMInferenceTrace_code.csv", 8819, ms(57.3 * 60e3), 2048, 28, 1469, 7437, 13, 164},
		{"mooncake_conversation_trace.jsonl", 12031, ms(59 * 60e3), 12035, 343, 6909, 126195, 350, 2.9},
	} {
		t.Run(test.file, func(t *testing.T) {
			list := sharedTrace(t, test.file)
			if len(list) != test.requests {
				t.Errorf("%d requests, want %d", len(list), test.requests)
			}
			if span := list[len(list)-1].At - list[0].At; (span - test.span).Abs() > 5*time.Second {
				t.Errorf("spans %v, want %v", span, test.span)
			}
			isl, osl := lengthsOf(list)
			if math.Round(isl.mean) != test.isl || math.Round(osl.mean) != test.osl {
				t.Errorf("mean ISL %.1f and OSL %.1f, want %v and %v", isl.mean, osl.mean, test.isl, test.osl)
			}
			if isl.at(0.5) != test.islP50 || isl.at(1) != test.islMax || osl.at(0.5) != test.oslP50 {
				t.Errorf("ISL p50 %d and max %d, OSL p50 %d, want %d, %d, %d",
					isl.at(0.5), isl.at(1), osl.at(0.5), test.islP50, test.islMax, test.oslP50)
			}
			if got := dispersion(list, time.Minute); math.Abs(got/test.dispersion-1) > 0.06 {
				t.Errorf("index of dispersion %.1f, want %v", got, test.dispersion)
			}
		})
	}
}

// sortedLengths are the lengths of prompts or outputs.
type sortedLengths struct {
	mean   float64
	sorted []int
}

// at returns the quantile of the nearest rank.
func (l sortedLengths) at(quantile float64) int {
	return l.sorted[max(0, int(math.Ceil(quantile*float64(len(l.sorted))))-1)]
}

func lengthsOf(list []Request) (isl, osl sortedLengths) {
	for _, r := range list {
		isl.sorted, osl.sorted = append(isl.sorted, r.ISL), append(osl.sorted, r.OSL)
	}
	for _, l := range []*sortedLengths{&isl, &osl} {
		slices.Sort(l.sorted)
		for _, n := range l.sorted {
			l.mean += float64(n) / float64(len(l.sorted))
		}
	}
	return isl, osl
}

// dispersion returns the variance of the counts of whole slots, by their mean.
func dispersion(list []Request, slot time.Duration) float64 {
	counts := make([]float64, list[len(list)-1].At/slot+1)
	for _, r := range list {
		counts[r.At/slot]++
	}
	counts = counts[:len(counts)-1]
	mean, variance := 0.0, 0.0
	for _, c := range counts {
		mean += c / float64(len(counts))
	}
	for _, c := range counts {
		variance += (c - mean) * (c - mean) / float64(len(counts)-1)
	}
	return variance / mean
}

// FuzzLoadTrace: whatever the bytes are, there are requests that a fleet takes,
// or one line of error.
func FuzzLoadTrace(f *testing.F) {
	for _, seed := range []string{
		azureSample, mooncakeSample, "t_ms,isl,osl\n0,10,20\n1.5,30,40\n",
		"\uFEFFt_ms,isl,osl\r\n1e3,1,1\r\n", "t_ms,isl,osl\n1,2\n", "{\n", `{"timestamp": 1e300}`, "TIMESTAMP,ContextTokens,GeneratedTokens\n0001-01-01 00:00:00,1,1\n9999-01-01 00:00:00,1,1",
		`{"timestamp": 1, "input_length": 1, "output_length": 1}` + "\n" + `{"timestamp": 1, "input_length": 1, "output_length": 1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := LoadTrace(strings.NewReader(string(data)), "fuzz")
		if err != nil {
			if list != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%d requests, and error %q", len(list), err)
			}
			return
		}
		fleet := newFleet(t, fleetOf("aggregated", RoleConfig{Engine: plainEngine()}), list...)
		advance(t, fleet, maxAt)
		if got := fleet.Totals().Arrived; got != len(list) || got == 0 {
			t.Fatalf("%d of %d requests arrived", got, len(list))
		}
	})
}
