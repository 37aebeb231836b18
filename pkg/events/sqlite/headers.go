package sqlite

import (
	"encoding/json"
	"strings"
)

// decodeHeaders decodes a JSON object of strings. Headers as they are encoded
// here, of printable ASCII without escapes, are cut out of one string; that is
// what reading a log mostly is. Anything else is left to encoding/json.
func decodeHeaders(data []byte) (map[string]string, error) {
	if headers, ok := cutHeaders(string(data)); ok {
		return headers, nil
	}
	var headers map[string]string
	return headers, json.Unmarshal(data, &headers)
}

func cutHeaders(text string) (map[string]string, bool) {
	inner, ok := strings.CutPrefix(text, "{")
	if !ok {
		return nil, false
	}
	headers := make(map[string]string, 12)
	for {
		var name, value string
		if name, inner, ok = cutText(inner); !ok {
			return nil, false
		}
		if inner, ok = strings.CutPrefix(inner, ":"); !ok {
			return nil, false
		}
		if value, inner, ok = cutText(inner); !ok {
			return nil, false
		}
		headers[name] = value
		if inner == "}" {
			return headers, true
		}
		if inner, ok = strings.CutPrefix(inner, ","); !ok {
			return nil, false
		}
	}
}

// cutText cuts a quoted text off the front.
func cutText(from string) (text, rest string, ok bool) {
	if from == "" || from[0] != '"' {
		return "", "", false
	}
	for i := 1; i < len(from); i++ {
		switch c := from[i]; {
		case c == '"':
			return from[1:i], from[i+1:], true
		case c < ' ' || c > '~' || c == '\\':
			return "", "", false
		}
	}
	return "", "", false
}
