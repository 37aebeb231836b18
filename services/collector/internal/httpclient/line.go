package httpclient

import "strings"

// maxLine bounds an error in an observation.
const maxLine = 300

// oneLine returns a text without line breaks, cut to what a person reads.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "..."
	}
	return text
}
