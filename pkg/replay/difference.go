package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Field is one field in which two decisions differ. A value that is not there
// is empty.
type Field struct {
	// Path leads to the field: reasons.roles.prefill.load, chain[0].to.
	Path     string `json:"path"`
	Recorded string `json:"recorded"`
	Now      string `json:"now"`
}

// Compare returns the fields in which two JSON documents differ, in the order
// of their paths. Documents with equal values and unequal bytes differ too:
// one field, without a path, says where.
func Compare(recorded, now []byte) []Field {
	if bytes.Equal(recorded, now) {
		return nil
	}
	var a, b any
	if err := decode(recorded, &a); err != nil {
		return []Field{{Recorded: fmt.Sprintf("no JSON: %v", err), Now: string(now)}}
	}
	if err := decode(now, &b); err != nil {
		return []Field{{Recorded: string(recorded), Now: fmt.Sprintf("no JSON: %v", err)}}
	}
	var fields []Field
	walk("", a, b, &fields)
	if len(fields) == 0 {
		i := 0
		for i < len(recorded) && i < len(now) && recorded[i] == now[i] {
			i++
		}
		fields = append(fields, Field{Recorded: around(recorded, i), Now: around(now, i)})
	}
	return fields
}

func decode(data []byte, into *any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// around shows the bytes at an offset.
func around(data []byte, at int) string {
	const reach = 20
	return fmt.Sprintf("the same values, other bytes at offset %d: %q", at, data[max(at-reach, 0):min(at+reach, len(data))])
}

func walk(path string, a, b any, fields *[]Field) {
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			names := slices.Collect(maps.Keys(a))
			for name := range b {
				if _, both := a[name]; !both {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			for _, name := range names {
				at := name
				if path != "" {
					at = path + "." + name
				}
				x, inA := a[name]
				y, inB := b[name]
				walkField(at, x, y, inA, inB, fields)
			}
			return
		}
	case []any:
		if b, ok := b.([]any); ok {
			for i := range max(len(a), len(b)) {
				var x, y any
				if i < len(a) {
					x = a[i]
				}
				if i < len(b) {
					y = b[i]
				}
				walkField(path+"["+strconv.Itoa(i)+"]", x, y, i < len(a), i < len(b), fields)
			}
			return
		}
	}
	if x, y := text(a), text(b); x != y {
		*fields = append(*fields, Field{Path: path, Recorded: x, Now: y})
	}
}

func walkField(path string, a, b any, inA, inB bool, fields *[]Field) {
	switch {
	case inA && inB:
		walk(path, a, b, fields)
	case inA:
		*fields = append(*fields, Field{Path: path, Recorded: text(a)})
	default:
		*fields = append(*fields, Field{Path: path, Now: text(b)})
	}
}

func text(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(data)
}
