package windows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/pubsub/v2"

	"backbone/schemas"
	source "backbone/transforms/pubsub"
)

// Update is a message about what is trending in one scope of a window. It comes at least once, and of two about the same scope and window the
// one with the greater revision is the newer.
type Update struct {
	Table       string       `json:"table"`
	WindowStart time.Time    `json:"window_start"`
	WindowEnd   time.Time    `json:"window_end"`
	Revision    int64        `json:"revision"`
	Pane        string       `json:"pane"`
	Scope       string       `json:"scope"`
	ScopeValue  string       `json:"scope_value,omitempty"`
	Items       []UpdateItem `json:"items"` // by rank
}

// UpdateItem is an item of an Update.
type UpdateItem struct {
	ItemID     string  `json:"item_id"`
	Popularity float64 `json:"popularity"`
	Score      float64 `json:"score"`
	Events     int64   `json:"events"`
}

// publisher sends updates.
type publisher struct {
	client *pubsub.Client
	topic  *pubsub.Publisher
}

func openPublisher(ctx context.Context, topic string) (*publisher, error) {
	project, _ := source.ProjectOf(topic) // Validate has seen it
	client, err := pubsub.NewClient(context.WithoutCancel(ctx), project)
	if err != nil {
		return nil, fmt.Errorf("connect to Pub/Sub: %w", err)
	}
	return &publisher{client: client, topic: client.Publisher(topic)}, nil
}

// Close ends the connection.
func (p *publisher) Close() error {
	p.topic.Stop()
	return p.client.Close()
}

// publish sends the trends of a window, a message for each scope, and waits until the service has them.
func (p *publisher) publish(ctx context.Context, u Unit, pane schemas.Pane, trends []schemas.Trend) error {
	var sent []*pubsub.PublishResult
	for len(trends) > 0 {
		first := trends[0]
		m := Update{
			Table: u.Table, WindowStart: time.UnixMicro(u.Start).UTC(), WindowEnd: time.UnixMicro(u.End).UTC(), Revision: pane.Revision.V,
			Pane: pane.Timing, Scope: first.Scope, ScopeValue: first.ScopeValue,
		}
		for len(trends) > 0 && trends[0].Scope == first.Scope && trends[0].ScopeValue == first.ScopeValue {
			t := trends[0]
			m.Items = append(m.Items, UpdateItem{t.ItemID, t.Popularity.V, t.Score.V, t.Events.V})
			trends = trends[1:]
		}
		body, err := json.Marshal(m)
		if err != nil {
			return err
		}
		sent = append(sent, p.topic.Publish(ctx, &pubsub.Message{
			Data: body, Attributes: map[string]string{"table": u.Table, "scope": m.Scope, "pane": m.Pane},
		}))
	}
	var errs []error
	for _, s := range sent {
		_, err := s.Get(ctx)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("publish to %s: %w", p.topic, err)
	}
	return nil
}
