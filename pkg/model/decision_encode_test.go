package model_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"tidemark.dev/pkg/model"
)

// TestDecisionEncode holds the encoder to the bytes of encoding/json, or to its
// error, for decisions whose every field is drawn, those of later versions among
// them.
func TestDecisionEncode(t *testing.T) {
	random := rand.New(rand.NewPCG(20261126, 1)) //nolint:gosec // not for secrets
	plain := 0
	for range 30_000 {
		var decision model.ScalingDecision
		draw(random, reflect.ValueOf(&decision).Elem())
		want, wantErr := json.Marshal(decision)
		got, err := decision.Encode()
		if string(got) != string(want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("encoded otherwise than encoding/json does:\n%s (%v)\n%s (%v)", got, err, want, wantErr)
		}
		if err == nil {
			plain++
			if appended, err := decision.AppendEncoded([]byte("before ")); err != nil || string(appended) != "before "+string(want) {
				t.Fatalf("appended %s (%v)", appended, err)
			}
		}
	}
	if plain < 10_000 {
		t.Errorf("only %d decisions could be encoded", plain)
	}
}

var (
	texts  = []string{"", "chat-70b", "scale_up", "measured", "a b", "ü", "<&>", `"`, `\`, "\u2028", "\x00", "\xff", "{", "~", "\x7f"}
	floats = []float64{
		0, math.Copysign(0, -1), 1, -1, 0.1, 1.0 / 3, 1e-6, 9.9e-7, 1e-9, 1.5e-12, 1e-123, 5e-324, 1e20, 1e21, 1.7e300, 123456789, -2.5e-8, 611.0,
	}
	instants = []time.Time{
		{},
		time.Date(2026, 11, 23, 20, 0, 5, 0, time.UTC), time.Date(2026, 11, 23, 20, 0, 5, 120_000_000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
	}
	strange = []time.Time{
		time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 5400)),
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 30*3600)),
	}
)

// draw fills a value with what may be there: mostly what is plain.
func draw(random *rand.Rand, v reflect.Value) {
	rare := random.IntN(400) == 0
	switch v.Interface().(type) {
	case time.Time:
		if rare {
			v.Set(reflect.ValueOf(strange[random.IntN(len(strange))]))
		} else {
			v.Set(reflect.ValueOf(instants[random.IntN(len(instants))]))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		if n := 5; rare {
			v.SetString(texts[random.IntN(len(texts))])
		} else {
			v.SetString(texts[random.IntN(n)])
		}
	case reflect.Int:
		v.SetInt(random.Int64N(1000) - 500)
	case reflect.Float64:
		switch {
		case rare:
			v.SetFloat([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}[random.IntN(3)])
		case random.IntN(2) == 0:
			v.SetFloat(floats[random.IntN(len(floats))])
		default:
			v.SetFloat(random.NormFloat64() * math.Pow(10, float64(random.IntN(60)-30)))
		}
	case reflect.Pointer:
		if random.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			draw(random, v.Elem())
		}
	case reflect.Slice:
		if random.IntN(5) > 0 {
			v.Set(reflect.MakeSlice(v.Type(), random.IntN(3), 3))
		}
		for i := range v.Len() {
			draw(random, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			draw(random, v.Field(i))
		}
	default:
		panic("no value is drawn for " + v.Type().String())
	}
}

func BenchmarkDecisionEncode(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // not for secrets
	decision := model.ScalingDecision{Deployment: "chat-70b", ObservedAt: instants[1], ValidUntil: instants[2], Chain: []model.ChainEntry{}, Warnings: []model.Warning{}}
	draw(random, reflect.ValueOf(&decision.Estimates).Elem())
	decision.Target.Set(model.Prefill, 3)
	decision.Current, decision.Desired, decision.Delta, decision.Floors = decision.Target, decision.Target, decision.Target, decision.Target
	decision.Forecast = &model.Forecast{Predictor: "arima", Requests: 430.25, RPS: 2.39, ISL: 1160.5, OSL: 209.125}
	for name, encode := range map[string]func() ([]byte, error){"plain": decision.Encode, "encoding-json": func() ([]byte, error) { return json.Marshal(decision) }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
