package events

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// reading is a fact of a test catalogue. Version 1 had a temperature in
// Fahrenheit under the name t, version 2 named its unit, version 3 is Celsius.
type reading struct {
	Sensor string  `json:"sensor"`
	TempC  float64 `json:"temp_c"`
	Note   string  `json:"note,omitempty"`
}

func upcastFields(change func(fields map[string]json.RawMessage) error) upcaster {
	return func(data json.RawMessage) (json.RawMessage, error) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			return nil, err
		}
		if err := change(fields); err != nil {
			return nil, err
		}
		return json.Marshal(fields)
	}
}

func readings(order *[]int) *catalogue {
	return newCatalogue(define("org.example.reading.v3", "readings", func(r *reading) identity {
		return identity{id: r.Sensor, subject: r.Sensor, key: r.Sensor, time: time.Unix(0, 0), err: required("sensor", r.Sensor)}
	},
		upcastFields(func(fields map[string]json.RawMessage) error {
			*order = append(*order, 1)
			fields["temp_f"] = fields["t"]
			delete(fields, "t")
			return nil
		}),
		upcastFields(func(fields map[string]json.RawMessage) error {
			*order = append(*order, 2)
			var f float64
			if err := json.Unmarshal(fields["temp_f"], &f); err != nil {
				return err
			}
			c, err := json.Marshal((f - 32) / 1.8)
			fields["temp_c"] = c
			return err
		}),
	))
}

func TestUpcastersLeadToThePresentVersion(t *testing.T) {
	for _, test := range []struct {
		version, data string
		steps         int
	}{
		{"v1", `{"sensor": "s1", "t": 212, "note": "kept"}`, 2},
		{"v2", `{"sensor": "s1", "temp_f": 212, "note": "kept"}`, 1},
		{"v3", `{"sensor": "s1", "temp_c": 100, "note": "kept"}`, 0},
	} {
		var order []int
		data := []byte(test.data)
		fact, err := readings(&order).open(Event{ID: "A1", Type: "org.example.reading." + test.version, Data: data})
		if err != nil {
			t.Fatalf("%s: %v", test.version, err)
		}
		if got, ok := fact.(*reading); !ok || *got != (reading{Sensor: "s1", TempC: 100, Note: "kept"}) {
			t.Errorf("%s is upcast to %+v", test.version, fact)
		}
		if len(order) != test.steps || len(order) == 2 && order[0] != 1 {
			t.Errorf("%s takes the steps %v", test.version, order)
		}
		if string(data) != test.data {
			t.Errorf("upcasting wrote into the event's data: %s", data)
		}
	}
}

func TestUpcasterErrorNamesTheStep(t *testing.T) {
	var order []int
	_, err := readings(&order).open(Event{ID: "A1", Type: "org.example.reading.v2", Data: []byte(`{"sensor": "s1", "temp_f": "hot"}`)})
	if !errors.Is(err, ErrPermanent) || !strings.Contains(err.Error(), "upcast event A1 from org.example.reading.v2") {
		t.Errorf("error is %v", err)
	}
}

func TestChainHasNoGap(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a type of version 2 without an upcaster is accepted")
		}
	}()
	define("org.example.reading.v2", "readings", func(*reading) identity { return identity{} })
}
