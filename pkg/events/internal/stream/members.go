package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Members are the subscribers that a log has given out: each ends when it is
// closed, or before the log does. The zero Members is ready for use.
type Members struct {
	mu     sync.Mutex
	all    map[*member]struct{}
	closed bool
}

// Deliver delivers the messages of a topic until the context is done.
type Deliver func(ctx context.Context, topic string, out chan *message.Message)

// Join returns a subscriber of a consumer group.
func (m *Members) Join(group string, deliver Deliver) (message.Subscriber, error) {
	if group == "" {
		return nil, errors.New("subscribe: the consumer group has no name")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fmt.Errorf("subscribe as %s: %w", group, ErrClosed)
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := &member{members: m, group: group, deliver: deliver, open: ctx, shut: cancel}
	if m.all == nil {
		m.all = map[*member]struct{}{}
	}
	m.all[joined] = struct{}{}
	return joined, nil
}

// Close ends the subscribers, and lets none join any more. It reports whether
// this is the first time.
func (m *Members) Close() bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	m.closed = true
	all := maps.Clone(m.all)
	m.mu.Unlock()
	var ending sync.WaitGroup
	for each := range all {
		ending.Go(each.end)
	}
	ending.Wait()
	return true
}

// member is a member of a consumer group.
type member struct {
	members *Members
	group   string
	deliver Deliver
	open    context.Context
	shut    context.CancelFunc

	mu            sync.Mutex
	subscriptions sync.WaitGroup
}

func (m *member) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open.Err() != nil {
		return nil, fmt.Errorf("subscribe to %s as %s: the subscriber is closed", topic, m.group)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(m.open, cancel)
	out := make(chan *message.Message)
	m.subscriptions.Go(func() {
		defer cancel()
		defer stop()
		defer close(out)
		m.deliver(ctx, topic, out)
	})
	return out, nil
}

// Close ends the subscriptions. It waits a while for the acknowledgement of
// messages in hand, and commits.
func (m *member) Close() error {
	m.end()
	m.members.mu.Lock()
	defer m.members.mu.Unlock()
	delete(m.members.all, m)
	return nil
}

func (m *member) end() {
	m.mu.Lock()
	m.shut()
	m.mu.Unlock()
	m.subscriptions.Wait()
}
