package pubsubserver

// Stats counts what happened since the server was made, and says what it holds.
type Stats struct {
	// Published is messages by topic.
	Published map[string]int64
	// Subscriptions is one entry for each subscription, by name.
	Subscriptions map[string]SubscriptionStats
	// MemoryBytes is what messages take of Options.MaxBytes.
	MemoryBytes int64
	// LogBytes is the size of the log on disk.
	LogBytes int64
}

// SubscriptionStats counts messages of one subscription.
type SubscriptionStats struct {
	// Delivered is deliveries, Redelivered those of them that were not the first of their message.
	Delivered, Redelivered int64
	// Acked is messages acknowledged by clients, DeadLettered those given to the dead-letter topic, Expired
	// those that grew older than the retention.
	Acked, DeadLettered, Expired int64
	// Backlog is messages that are not settled; Outstanding those of them that are leased.
	Backlog, Outstanding int64
	// Streams is StreamingPull and Pull calls under way.
	Streams int
}

// Stats returns the counts of now.
func (s *Server) Stats() Stats {
	out := Stats{Published: map[string]int64{}, Subscriptions: map[string]SubscriptionStats{}}
	s.mu.RLock()
	for name, t := range s.topics {
		out.Published[name] = t.published.Load()
	}
	s.mu.RUnlock()
	for _, sub := range s.allSubscriptions() {
		sub.mu.Lock()
		out.Subscriptions[sub.name] = SubscriptionStats{
			Delivered: sub.delivered, Redelivered: int64(sub.queue.redelivered),
			Acked: sub.acked, DeadLettered: sub.deadLettered, Expired: int64(sub.queue.expired),
			Backlog: int64(sub.queue.backlog()), Outstanding: int64(sub.queue.counts[leased]),
			Streams: len(sub.takers),
		}
		sub.mu.Unlock()
	}
	s.budget.mu.Lock()
	out.MemoryBytes = s.budget.used
	s.budget.mu.Unlock()
	if s.journal != nil {
		out.LogBytes = s.journal.bytes()
	}
	return out
}
