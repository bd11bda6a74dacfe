package pubsubserver

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// faults counts the failures that tests have ordered.
type faults struct {
	acks, refusals, replies atomic.Int64
}

// spend takes one of what is left.
func spend(left *atomic.Int64) bool {
	for n := left.Load(); n > 0; n = left.Load() {
		if left.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

func (f *faults) dropAck() bool { return spend(&f.acks) }

// DropAcks makes the server answer OK to the next n acknowledged messages, and forget that they were acknowledged.
func (s *Server) DropAcks(n int) { s.faults.acks.Store(int64(n)) }

// RefusePublishes makes the next n Publish calls of clients store nothing and answer Unavailable.
func (s *Server) RefusePublishes(n int) { s.faults.refusals.Store(int64(n)) }

// LosePublishReplies makes the next n Publish calls of clients store their messages and answer Unavailable, so
// that a client which tries again publishes twice.
func (s *Server) LosePublishReplies(n int) { s.faults.replies.Store(int64(n)) }

// CloseStreams ends all StreamingPull and Pull calls with Unavailable, and returns how many there were. Their leases go on.
func (s *Server) CloseStreams() int {
	n := 0
	for _, sub := range s.allSubscriptions() {
		sub.mu.Lock()
		for _, t := range sub.takers {
			t.quit(status.Error(codes.Unavailable, "the server closed the stream: open it again"))
			n++
		}
		sub.mu.Unlock()
	}
	return n
}

// ExpireLeases ends all leases of a subscription as if their deadlines had passed, and returns how many there were.
func (s *Server) ExpireLeases(subscription string) (int, error) {
	sub, err := s.subscription(subscription)
	if err != nil {
		return 0, err
	}
	sub.mu.Lock()
	n := sub.queue.expireLeases(time.Now())
	sub.rouse()
	sub.mu.Unlock()
	s.forward(sub)
	return n, nil
}
