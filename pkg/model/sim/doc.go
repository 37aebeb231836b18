// Package sim is a fleet of LLM inference engines in simulated time: what a
// deployment would have looked like from outside under a workload and a series
// of scalings. It makes simulated observations, demonstrations and what-if
// runs possible on a machine without a GPU.
//
// A [Fleet] is a discrete-event simulation. A router hands each request of the
// [Workload] to the least loaded ready engine of a pool; an engine batches
// continuously, prefills in chunks, and takes as long for an iteration as its
// [Timing] says. Scaling up costs a cold start, scaling down drains.
//
// # Rules of the simulation
//
//   - Routing: the ready engine with the fewest prompt tokens in hand gets the
//     request; among equals the oldest. In hand are the prompts of all requests
//     that the engine holds, less what a prefill engine has computed of them.
//     Without a ready engine requests wait at the router, in order.
//   - Scheduling: in each iteration every decoding sequence makes one token;
//     what is left of max_num_batched_tokens goes to prompts in order of
//     arrival, the last of them cut to fit. Prefilling and decoding sequences
//     together are at most max_num_seqs.
//   - KV cache: an engine admits a request only when the cache holds the prompt
//     and the whole output to come, and so never has to evict one. A request at
//     the head of the queue that does not fit holds up those behind it. Real
//     engines do not know the output length, pack tighter and sometimes
//     recompute; this one shows a longer queue instead.
//   - A request that no engine of its pool could ever hold is rejected on
//     arrival, and counted.
//   - The KV cache moves from a prefill to a decode engine in no time.
//   - Scaling down gives back replicas that cannot be placed, then those that
//     are starting, then ready ones, each time the newest first. A draining
//     replica hands its queue back to the router, finishes what it has begun,
//     and holds its GPUs until then.
//   - An idle engine begins with the request that wakes it; what comes later,
//     at the same instant even, joins after that iteration.
//   - At one instant arrivals come before the ends of iterations, and those in
//     order of role and replica number.
//
// What is left out: prefix caching, network time, tokenizers, sampling,
// failures, and requests that give up.
//
// # Why it is fast, and exact
//
// Tokens are not events. While no sequence joins or leaves a batch, every
// iteration makes one token per sequence, so the KV tokens that it reads, and
// with them its duration, grow by a constant: the time of j iterations is an
// arithmetic series. An engine therefore plans a run of iterations up to the
// first finish and keeps aggregates only: the number of iterations made, the
// KV tokens at that point, and for each sequence the iteration at which it
// finishes. An arrival cuts a run at the first iteration that ends at or after
// it. Two invariants keep this exact:
//
//   - A run is cut only by events of the simulation, never by a caller: looking
//     at a fleet, or advancing in other steps, changes nothing that follows.
//   - Durations are whole picoseconds, and iterations end on the nanosecond
//     that is nearest, counted from the start of the run. Integers make the
//     series exact, and equal on every machine.
//
// The package is pure like the rest of the domain: it reads no clock and no
// file, randomness comes from seeds, and the same input gives the same bits. A
// Fleet is not safe for concurrent use.
package sim
