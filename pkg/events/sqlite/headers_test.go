package sqlite

import (
	"encoding/json"
	"maps"
	"testing"
)

// FuzzDecodeHeaders holds the decoder to encoding/json, for any bytes.
func FuzzDecodeHeaders(f *testing.F) {
	for _, text := range []string{
		`{"ce_id":"1","ce_type":"t.v1"}`, `{}`, `{"a":""}`, `{"a":"\n"}`, `{"a":"é"}`, "{\"a\":\"\xff\"}", `{"a": "1"}`, `{"a":"1",}`,
		`{"a":"1","a":"2"}`, `{"a":1}`, `{"a":"1"} `, `null`, `[]`, ``, `{"a":"1"}x`, `{"a"`, `{"a":"1""b":"2"}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want map[string]string
		wantErr := json.Unmarshal([]byte(text), &want)
		got, err := decodeHeaders([]byte(text))
		if (err == nil) != (wantErr == nil) || err == nil && !maps.Equal(got, want) {
			t.Fatalf("%q gives %v (%v), encoding/json gives %v (%v)", text, got, err, want, wantErr)
		}
	})
}
