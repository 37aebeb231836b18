// Package e2e holds what is tested across modules and processes: the rules
// that the whole tree keeps, and, under the build tag e2e, the suites that run
// the real parts together.
//
// It ships nothing, and nothing imports it.
package e2e
