package sim

// fifo is a queue that reuses its memory. The zero value is empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

// all returns the items from the oldest to the newest. It is good until the
// queue changes.
func (q *fifo[T]) all() []T { return q.items[q.head:] }

func (q *fifo[T]) push(item T) { q.items = append(q.items, item) }

// pop removes and returns the oldest item of a queue that is not empty.
func (q *fifo[T]) pop() T {
	item := q.items[q.head]
	q.drop(1)
	return item
}

// drop removes the n oldest items. Dropped places are kept until they are half
// of the memory, so that moving the rest costs constant time per item.
func (q *fifo[T]) drop(n int) {
	clear(q.items[q.head : q.head+n])
	q.head += n
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
	case q.head >= 64 && q.head*2 >= len(q.items):
		kept := copy(q.items, q.items[q.head:])
		clear(q.items[kept:])
		q.items, q.head = q.items[:kept], 0
	}
}
