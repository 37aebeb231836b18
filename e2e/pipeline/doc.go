// Package pipeline holds the suites of Tidemark's programs as they are run: the
// demo to its end, and the four services as processes of their own on one log,
// killed, restarted and fed what they cannot read.
//
// The suites stand under the build tag e2e. They build the programs from the
// tree, and look at what was left in the log with the log's own readers.
package pipeline
