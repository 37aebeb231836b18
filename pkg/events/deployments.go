package events

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark.dev/pkg/model"
)

// DeploymentTable is the projection of the deployments topic: every revision of
// every deployment, and the freezes. Of two events that claim the same revision, the first one
// in the log stands. What cannot be decoded is logged, counted and left out.
//
// Its methods may be called by several goroutines. What they return is shared
// and must not be written.
type DeploymentTable struct {
	log    Log
	topic  string
	logger *slog.Logger

	mu          sync.Mutex
	deployments map[string]*deploymentRevisions
	// next is the position after the last record that is in the table.
	next map[int32]int64
	// frozen holds the freezes that have not ended, by what they are about.
	frozen  map[string]*model.ScalingFrozen
	skipped int
	changed chan struct{}
}

// deploymentRevisions are the revisions of one deployment. One that retires the
// deployment is nil.
type deploymentRevisions struct {
	revisions map[int]*model.DeploymentConfigured
	last      int
	epoch     int
	// partition is where the newest change of it is in the topic.
	partition int32
}

// NewDeploymentTable returns an empty table.
func NewDeploymentTable(log Log, topics Topics, logger *slog.Logger) *DeploymentTable {
	return &DeploymentTable{
		log: log, topic: topics.Name(TopicDeployments), logger: logger,
		deployments: map[string]*deploymentRevisions{}, next: map[int32]int64{}, frozen: map[string]*model.ScalingFrozen{}, changed: make(chan struct{}),
	}
}

// followPause is the time until a table that cannot follow the log tries again.
const followPause = time.Second

// Start returns once the table is complete as of now. The table then follows
// the topic until the context is done.
func (t *DeploymentTable) Start(ctx context.Context) error {
	if err := t.CatchUp(ctx); err != nil {
		return err
	}
	go func() {
		for ctx.Err() == nil {
			for record, err := range t.log.Follow(ctx, t.topic, Range{From: t.position()}) {
				if err != nil {
					t.logger.Error("deployments are not followed, trying again", "topic", t.topic, "error", err)
					break
				}
				t.fold(record)
			}
			select {
			case <-ctx.Done():
			case <-time.After(followPause):
			}
		}
	}()
	return nil
}

// CatchUp returns once the table holds all that was in the topic when it was
// called.
func (t *DeploymentTable) CatchUp(ctx context.Context) error {
	for record, err := range t.log.Read(ctx, t.topic, Range{From: t.position()}) {
		if err != nil {
			return fmt.Errorf("read deployments: %w", err)
		}
		t.fold(record)
	}
	return nil
}

// position returns where the table goes on reading.
func (t *DeploymentTable) position() Bound {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Bound{Positions: maps.Clone(t.next)}
}

// fold adds a record, unless it is in the table already: several readers may be
// at work, each of which reads a partition in order.
func (t *DeploymentTable) fold(record Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if record.Position < t.next[record.Partition] {
		return
	}
	t.next[record.Partition] = record.Position + 1
	event, err := record.Event()
	var fact any
	if err == nil {
		fact, err = event.Fact()
	}
	switch fact := fact.(type) {
	case *model.DeploymentConfigured:
		t.add(fact.Deployment, fact.Revision, fact, record.Partition)
	case *model.DeploymentRetired:
		t.add(fact.Deployment, fact.Revision, nil, record.Partition)
	case *model.ScalingFrozen:
		t.frozen[fact.Deployment] = fact
		t.tell()
	case *model.ScalingThawed:
		delete(t.frozen, fact.Deployment)
		t.tell()
	default:
		if err == nil {
			err = fmt.Errorf("event %s is a %s, not a change of a deployment", event.ID, event.Type)
		}
		t.skipped++
		t.logger.Warn("entry of the deployments is left out", "topic", record.Topic, "partition", record.Partition, "position", record.Position, "error", err)
	}
}

func (t *DeploymentTable) add(name string, revision int, configured *model.DeploymentConfigured, partition int32) {
	d := t.deployments[name]
	if d == nil {
		d = &deploymentRevisions{revisions: map[int]*model.DeploymentConfigured{}}
		t.deployments[name] = d
	}
	if _, taken := d.revisions[revision]; taken {
		return
	}
	d.revisions[revision], d.partition = configured, partition
	d.last = max(d.last, revision)
	if configured != nil {
		d.epoch = max(d.epoch, configured.Epoch)
	}
	t.tell()
}

// tell wakes those who wait for a change.
func (t *DeploymentTable) tell() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// Frozen returns the freeze that a deployment is under, and whether there is
// one: that of all deployments comes first.
func (t *DeploymentTable) Frozen(name string) (*model.ScalingFrozen, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, scope := range [...]string{"", name} {
		if frozen := t.frozen[scope]; frozen != nil {
			return frozen, true
		}
	}
	return nil, false
}

// Current returns the newest revision of a deployment, and whether there is
// one: there is none of a deployment that is retired.
func (t *DeploymentTable) Current(name string) (*model.DeploymentConfigured, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.deployments[name]
	if d == nil {
		return nil, false
	}
	configured := d.revisions[d.last]
	return configured, configured != nil
}

// Revision returns a revision of a deployment, retired or not, and whether the
// table has it.
func (t *DeploymentTable) Revision(name string, revision int) (*model.DeploymentConfigured, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.deployments[name]
	if d == nil {
		return nil, false
	}
	configured := d.revisions[revision]
	return configured, configured != nil
}

// WaitRevision returns a revision once the table has it, or the context's error.
func (t *DeploymentTable) WaitRevision(ctx context.Context, name string, revision int) (*model.DeploymentConfigured, error) {
	for {
		changed := t.Changed()
		if configured, ok := t.Revision(name, revision); ok {
			return configured, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for revision %d of %s: %w", revision, name, ctx.Err())
		}
	}
}

// All returns the newest revisions of the deployments that are not retired, by
// name.
func (t *DeploymentTable) All() []*model.DeploymentConfigured {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*model.DeploymentConfigured
	for _, d := range t.deployments {
		if configured := d.revisions[d.last]; configured != nil {
			all = append(all, configured)
		}
	}
	slices.SortFunc(all, func(a, b *model.DeploymentConfigured) int { return strings.Compare(a.Deployment, b.Deployment) })
	return all
}

// Partition returns the partition of the topic that a deployment's changes are
// in, and whether the table knows the deployment.
func (t *DeploymentTable) Partition(name string) (int32, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.deployments[name]
	if d == nil {
		return 0, false
	}
	return d.partition, true
}

// Changed returns a channel that is closed at the next change of the table. A
// caller that takes the channel before it looks at the table misses none.
func (t *DeploymentTable) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// NextRevision returns the number of a deployment's next revision: 1 for one
// that never was.
func (t *DeploymentTable) NextRevision(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.deployments[name]; d != nil {
		return d.last + 1
	}
	return 1
}

// LastEpoch returns the highest epoch that a deployment ever had, and 0 for one
// that never was: an epoch is never given twice.
func (t *DeploymentTable) LastEpoch(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.deployments[name]; d != nil {
		return d.epoch
	}
	return 0
}

// Skipped counts the entries that could not be decoded.
func (t *DeploymentTable) Skipped() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skipped
}
