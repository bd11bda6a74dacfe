package pubsubserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Options says where a server listens and what it keeps. The zero value is a server in memory on a free port.
type Options struct {
	// Addr is the TCP address to listen on, host:port. Default: "127.0.0.1:0", a free port of this machine.
	Addr string
	// DataDir is the folder of the log that makes messages survive a crash. It is made if need be; one server at a
	// time may have it. Default: "", all is in memory.
	DataDir string
	// MaxBytes bounds the memory that unacknowledged messages take. Default: 1 GiB.
	MaxBytes int64
	// PublishPatience is how long a Publish waits for memory before it answers ResourceExhausted. Default: 10 s.
	PublishPatience time.Duration
	// MaxLease cuts every acknowledgement deadline, whatever subscriptions and clients ask for, so that
	// messages of a client that died come again soon. Default: 0, no cut.
	MaxLease time.Duration
	// SegmentBytes is the size at which a new file of the log is begun. Default: 64 MiB.
	SegmentBytes int64
	// Logger is told what an operator should know. Default: silence.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.PublishPatience == 0 {
		o.PublishPatience = 10 * time.Second
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports every mistake at once.
func (o Options) Validate() error {
	var errs []error
	for _, bound := range []struct {
		name  string
		value int64
	}{{"max bytes", o.MaxBytes}, {"publish patience", int64(o.PublishPatience)}, {"max lease", int64(o.MaxLease)}, {"segment bytes", o.SegmentBytes}} {
		if bound.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d; it must not be negative", bound.name, bound.value))
		}
	}
	return errors.Join(errs...)
}

// Server is a Pub/Sub server. Its methods may be called by many goroutines.
type Server struct {
	options  Options
	listener net.Listener
	grpc     *grpc.Server
	budget   *budget
	journal  *journal // nil in memory
	faults   faults

	admin  sync.Mutex    // held while topics, subscriptions and snapshots change
	lastID atomic.Uint64 // of a topic, subscription or snapshot

	mu            sync.RWMutex // guards the maps, and what they lead to as far as said there
	topics        map[string]*topic
	topicByID     map[uint64]*topic // deleted ones too, as long as a subscription or snapshot has them
	subscriptions map[string]*subscription
	snapshots     map[string]*snapshot

	closing    context.Context // done when Close begins
	stop       context.CancelFunc
	background sync.WaitGroup
	closeOnce  sync.Once
	closeErr   error
}

// topic is where messages get their numbers.
type topic struct {
	id      uint64
	config  *pubsubpb.Topic // never changed in place; guarded by Server.mu
	deleted bool            // guarded by Server.mu

	mu   sync.Mutex // held from giving numbers until they are in the journal
	next uint64     // sequence number of the next message
	last time.Time  // when the newest message was published

	consumers sync.RWMutex // guards the two lists; held for reading while a batch is handed out
	readers   []*subscription
	snapshots []*snapshot

	published atomic.Int64
}

// snapshot is a backlog that nobody takes from.
type snapshot struct {
	id     uint64
	topic  *topic
	config *pubsubpb.Snapshot // never changed in place; guarded by Server.mu

	mu    sync.Mutex
	queue *queue
}

// New opens the log, if there is to be one, and listens. Serve has to be called next, and Close at the end.
func New(o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("pubsub server: %w", err)
	}
	o = o.withDefaults()
	s := &Server{
		options:       o,
		budget:        &budget{max: o.MaxBytes},
		topics:        map[string]*topic{},
		topicByID:     map[uint64]*topic{},
		subscriptions: map[string]*subscription{},
		snapshots:     map[string]*snapshot{},
	}
	s.closing, s.stop = context.WithCancel(context.Background())
	// The address comes first: it is what fails most, and nothing has to be undone then.
	var err error
	if s.listener, err = net.Listen("tcp", o.Addr); err != nil {
		return nil, fmt.Errorf("pubsub server: %w", err)
	}
	if o.DataDir != "" {
		if err := s.recover(); err != nil {
			return nil, errors.Join(fmt.Errorf("pubsub server: %w", err), s.listener.Close())
		}
	}
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(newCodec()),
		grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(2*maxRequestBytes), // what is a little too large is refused by us, with a reason
		grpc.MaxSendMsgSize(4*maxMessageBytes),
		grpc.InitialWindowSize(4<<20), grpc.InitialConnWindowSize(8<<20),
		grpc.ReadBufferSize(256<<10), grpc.WriteBufferSize(256<<10),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	s.grpc.RegisterService(publisherService(), publisher{server: s})
	s.grpc.RegisterService(subscriberService(), subscriber{server: s})
	s.background.Go(s.watch)
	return s, nil
}

// Addr is the address that the server listens on, host:port: the value for PUBSUB_EMULATOR_HOST.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve answers calls until Close. It returns nil after Close.
func (s *Server) Serve() error {
	err := s.grpc.Serve(s.listener)
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// Close ends all calls, writes the log to disk and closes it. Messages that are not acknowledged stay in the log.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.stop()
		s.grpc.Stop()
		s.background.Wait()
		_ = s.listener.Close() // Stop has closed it if Serve was called
		if s.journal != nil {
			s.closeErr = s.journal.close()
		}
	})
	return s.closeErr
}

// Create makes a topic and, unless its name is empty, a subscription to it with default settings. What is there already
// stays as it is, but a subscription to another topic is an error.
func (s *Server) Create(ctx context.Context, topic, subscription string) error {
	if _, err := (publisher{server: s}).CreateTopic(ctx, &pubsubpb.Topic{Name: topic}); err != nil && status.Code(err) != codes.AlreadyExists {
		return err
	}
	if subscription == "" {
		return nil
	}
	_, err := subscriber{server: s}.CreateSubscription(ctx, &pubsubpb.Subscription{Name: subscription, Topic: topic})
	if status.Code(err) != codes.AlreadyExists {
		return err
	}
	sub, err := s.subscription(subscription)
	if err != nil {
		return err
	}
	if of := s.subscriptionConfig(sub).GetTopic(); of != topic {
		return status.Errorf(codes.AlreadyExists, "subscription %q is there, and is of topic %q: delete it, or choose another name", subscription, of)
	}
	return nil
}

// Publish stores messages in a topic as a client's Publish would, and returns their ids.
func (s *Server) Publish(ctx context.Context, topic string, messages ...*pubsubpb.PubsubMessage) ([]string, error) {
	wires := make([][]byte, len(messages))
	for i, m := range messages {
		var err error
		if wires[i], err = proto.Marshal(m); err != nil {
			return nil, fmt.Errorf("publish: message %d: %w", i, err)
		}
	}
	ids := make([]string, 0, len(messages))
	for part := range slices.Chunk(wires, maxRequestMessages) {
		first, err := s.publish(ctx, topic, part)
		if err != nil {
			return ids, err
		}
		for i := range part {
			ids = append(ids, messageID(first+uint64(i)))
		}
	}
	return ids, nil
}

// publish checks and stores encoded messages, and returns the sequence number of the first. It keeps none of the bytes.
func (s *Server) publish(ctx context.Context, name string, wires [][]byte) (uint64, error) {
	if name == "" {
		return 0, invalid("publish: no topic is given")
	}
	if len(wires) == 0 {
		return 0, invalid("publish: no messages are given")
	}
	if len(wires) > maxRequestMessages {
		return 0, invalid("publish: %d messages in a request: at most %d", len(wires), maxRequestMessages)
	}
	in := make([]incoming, len(wires))
	for i, w := range wires {
		var err error
		if in[i], err = parseMessage(w); err != nil {
			return 0, err
		}
	}
	t, err := s.topic(name)
	if err != nil {
		return 0, err
	}
	return s.store(ctx, t, in, false)
}

// store numbers messages, makes them durable and hands them to the subscriptions. Where forced it does not wait for memory.
func (s *Server) store(ctx context.Context, t *topic, in []incoming, forced bool) (uint64, error) {
	size := int64(len(in) * perMessage)
	for i := range in {
		size += int64(len(in[i].wire))
	}
	if forced {
		s.budget.force(size)
	} else if err := s.budget.take(ctx, size, s.options.PublishPatience); err != nil {
		return 0, err
	}
	t.mu.Lock()
	first := t.next
	t.next += uint64(len(in))
	// Times grow with the numbers, so that a seek to a time cuts a topic in two.
	if now := time.Now(); now.After(t.last) {
		t.last = now
	}
	b := newBatch(first, t.last, in, s.budget, size)
	if s.journal == nil {
		s.handOut(t, b)
		t.mu.Unlock()
		return first, nil
	}
	stored := s.journal.publish(t.id, b, func() { s.handOut(t, b) })
	t.mu.Unlock()
	if err := <-stored; err != nil {
		b.release()
		return 0, status.Errorf(codes.Unavailable, "publish: %v", err)
	}
	return first, nil
}

// handOut gives a batch to all that read its topic. It ends the caller's hold of the batch.
func (s *Server) handOut(t *topic, b *batch) {
	t.published.Add(int64(len(b.msgs)))
	t.consumers.RLock()
	for _, sub := range t.readers {
		sub.add(b)
	}
	for _, snap := range t.snapshots {
		snap.mu.Lock()
		for i := range b.msgs {
			snap.queue.add(b.first+uint64(i), &b.msgs[i], ready)
		}
		snap.mu.Unlock()
	}
	t.consumers.RUnlock()
	b.release()
}

// watch does what is due: leases that end, retention, dead letters, files of the log that nobody needs.
func (s *Server) watch() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.closing.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		hourglass := n%20 == 0 // once a second
		for _, sub := range s.allSubscriptions() {
			sub.advance(now, hourglass)
			s.forward(sub)
		}
		if hourglass {
			s.expireSnapshots(now)
			if s.journal != nil {
				s.journal.tidy()
			}
		}
	}
}

func (s *Server) allSubscriptions() []*subscription {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*subscription, 0, len(s.subscriptions))
	for _, sub := range s.subscriptions {
		all = append(all, sub)
	}
	return all
}

func (s *Server) topic(name string) (*topic, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.topics[name]; t != nil {
		return t, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no topic %q: create it first", name)
}

func (s *Server) subscription(name string) (*subscription, error) {
	if name == "" {
		return nil, invalid("no subscription is given")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if sub := s.subscriptions[name]; sub != nil {
		return sub, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no subscription %q: create it first", name)
}
