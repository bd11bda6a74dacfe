package pubsubserver

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	deletedTopic     = "_deleted-topic_" // what the API calls the topic of a subscription that outlived it
	defaultRetention = 7 * 24 * time.Hour
	minRetention     = 10 * time.Minute
	maxRetention     = 31 * 24 * time.Hour
	snapshotLife     = 7 * 24 * time.Hour
	maxBackoff       = 600 * time.Second
	defaultPage      = 1000
)

// publisher is the Publisher service.
type publisher struct {
	pubsubpb.UnimplementedPublisherServer
	server *Server
}

// subscriber is the Subscriber service.
type subscriber struct {
	pubsubpb.UnimplementedSubscriberServer
	server *Server
}

// publisherService is the generated service, with a Publish that leaves messages encoded.
func publisherService() *grpc.ServiceDesc {
	d := pubsubpb.Publisher_ServiceDesc
	d.Methods = slices.Clone(d.Methods)
	for i := range d.Methods {
		if d.Methods[i].MethodName == "Publish" {
			d.Methods[i].Handler = handlePublish
		}
	}
	return &d
}

// subscriberService is the generated service, with a Pull that leaves messages encoded.
func subscriberService() *grpc.ServiceDesc {
	d := pubsubpb.Subscriber_ServiceDesc
	d.Methods = slices.Clone(d.Methods)
	for i := range d.Methods {
		if d.Methods[i].MethodName == "Pull" {
			d.Methods[i].Handler = handlePull
		}
	}
	return &d
}

// The signature is gRPC's; this server has no interceptors.
func handlePublish(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the order of arguments is gRPC's
	s := srv.(publisher).server
	var req publishRequest
	defer req.free()
	if err := decode(&req); err != nil {
		return nil, err
	}
	if spend(&s.faults.refusals) {
		return nil, status.Error(codes.Unavailable, "publish: refused by order of a test")
	}
	if n := req.bytes(); n > maxRequestBytes+maxRequestMessages*16 {
		return nil, invalid("publish: a request of %d bytes: at most %d", n, maxRequestBytes)
	}
	first, err := s.publish(ctx, req.topic, req.messages)
	if err != nil {
		return nil, err
	}
	if spend(&s.faults.replies) {
		return nil, status.Error(codes.Unavailable, "publish: stored, but its reply was lost by order of a test")
	}
	return encodeIDs(first, len(req.messages)), nil
}

func handlePull(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the order of arguments is gRPC's
	var req pubsubpb.PullRequest
	if err := decode(&req); err != nil {
		return nil, err
	}
	return srv.(subscriber).server.pull(ctx, &req)
}

func (x subscriber) StreamingPull(stream pubsubpb.Subscriber_StreamingPullServer) error {
	return x.server.streamingPull(stream)
}

// Topics

func (x publisher) CreateTopic(_ context.Context, req *pubsubpb.Topic) (*pubsubpb.Topic, error) {
	s := x.server
	if err := checkName(req.GetName(), "topics"); err != nil {
		return nil, err
	}
	if err := checkTopic(req); err != nil {
		return nil, err
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	if _, err := s.topic(req.GetName()); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "topic %q exists", req.GetName())
	}
	config := proto.CloneOf(req)
	config.State = pubsubpb.Topic_ACTIVE
	// Ids start at the time in microseconds: a topic that is made again, by a server without a log too, gives no
	// id a second time.
	state := topicState{ID: s.newID(), Config: settings(config), Next: uint64(time.Now().UnixMicro())}
	return config, s.commit(change{PutTopic: &state})
}

// checkTopic refuses what would be silently without effect.
func checkTopic(t *pubsubpb.Topic) error {
	switch {
	case t.GetMessageRetentionDuration() != nil:
		return unsupported("message_retention_duration of a topic", "use retain_acked_messages of its subscriptions")
	case t.GetSchemaSettings() != nil:
		return unsupported("schema_settings", "check messages where they are made")
	case t.GetIngestionDataSourceSettings() != nil:
		return unsupported("ingestion_data_source_settings", "publish by a client")
	case len(t.GetMessageTransforms()) > 0:
		return unsupported("message_transforms", "transform messages in a client")
	}
	return nil
}

func (x publisher) UpdateTopic(_ context.Context, req *pubsubpb.UpdateTopicRequest) (*pubsubpb.Topic, error) {
	s := x.server
	if len(req.GetUpdateMask().GetPaths()) == 0 {
		return nil, invalid("update topic: the update mask is empty: name the fields to change")
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	t, err := s.topic(req.GetTopic().GetName())
	if err != nil {
		return nil, err
	}
	config := proto.CloneOf(s.topicConfig(t))
	for _, path := range req.GetUpdateMask().GetPaths() {
		switch path {
		case "labels":
			config.Labels = req.GetTopic().GetLabels()
		case "tags":
			config.Tags = req.GetTopic().GetTags()
		case "message_storage_policy":
			config.MessageStoragePolicy = req.GetTopic().GetMessageStoragePolicy()
		case "message_retention_duration":
			config.MessageRetentionDuration = req.GetTopic().GetMessageRetentionDuration()
		case "schema_settings":
			config.SchemaSettings = req.GetTopic().GetSchemaSettings()
		case "message_transforms":
			config.MessageTransforms = req.GetTopic().GetMessageTransforms()
		default:
			return nil, invalid("update topic: field %q cannot be changed", path)
		}
	}
	if err := checkTopic(config); err != nil {
		return nil, err
	}
	return config, s.commit(change{PutTopic: &topicState{ID: t.id, Config: settings(config)}})
}

func (x publisher) GetTopic(_ context.Context, req *pubsubpb.GetTopicRequest) (*pubsubpb.Topic, error) {
	t, err := x.server.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	return x.server.topicConfig(t), nil
}

func (s *Server) topicConfig(t *topic) *pubsubpb.Topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return t.config
}

func (x publisher) ListTopics(_ context.Context, req *pubsubpb.ListTopicsRequest) (*pubsubpb.ListTopicsResponse, error) {
	s := x.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	names, next := selectPage(slices.Collect(maps.Keys(s.topics)), req.GetProject()+"/", req.GetPageSize(), req.GetPageToken())
	out := &pubsubpb.ListTopicsResponse{NextPageToken: next}
	for _, name := range names {
		out.Topics = append(out.Topics, s.topics[name].config)
	}
	return out, nil
}

func (x publisher) ListTopicSubscriptions(_ context.Context, req *pubsubpb.ListTopicSubscriptionsRequest) (*pubsubpb.ListTopicSubscriptionsResponse, error) {
	s := x.server
	t, err := s.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	t.consumers.RLock()
	defer t.consumers.RUnlock()
	var names []string
	for _, sub := range t.readers {
		names = append(names, sub.name)
	}
	names, next := selectPage(names, "", req.GetPageSize(), req.GetPageToken())
	return &pubsubpb.ListTopicSubscriptionsResponse{Subscriptions: names, NextPageToken: next}, nil
}

func (x publisher) ListTopicSnapshots(_ context.Context, req *pubsubpb.ListTopicSnapshotsRequest) (*pubsubpb.ListTopicSnapshotsResponse, error) {
	s := x.server
	t, err := s.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var names []string
	for name, snap := range s.snapshots {
		if snap.topic == t {
			names = append(names, name)
		}
	}
	names, next := selectPage(names, "", req.GetPageSize(), req.GetPageToken())
	return &pubsubpb.ListTopicSnapshotsResponse{Snapshots: names, NextPageToken: next}, nil
}

func (x publisher) DeleteTopic(_ context.Context, req *pubsubpb.DeleteTopicRequest) (*emptypb.Empty, error) {
	s := x.server
	s.admin.Lock()
	defer s.admin.Unlock()
	t, err := s.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.commit(change{DeleteTopic: t.id})
}

func (x publisher) DetachSubscription(_ context.Context, req *pubsubpb.DetachSubscriptionRequest) (*pubsubpb.DetachSubscriptionResponse, error) {
	s := x.server
	s.admin.Lock()
	defer s.admin.Unlock()
	sub, err := s.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	config := proto.CloneOf(s.subscriptionConfig(sub))
	config.Detached = true
	return &pubsubpb.DetachSubscriptionResponse{}, s.putSubscription(sub.id, config)
}

// Subscriptions

func (x subscriber) CreateSubscription(_ context.Context, req *pubsubpb.Subscription) (*pubsubpb.Subscription, error) {
	s := x.server
	if err := checkName(req.GetName(), "subscriptions"); err != nil {
		return nil, err
	}
	config := proto.CloneOf(req)
	config.State, config.Detached = pubsubpb.Subscription_ACTIVE, false
	if config.AckDeadlineSeconds == 0 {
		config.AckDeadlineSeconds = minDeadline
	}
	if config.MessageRetentionDuration == nil {
		config.MessageRetentionDuration = durationpb.New(defaultRetention)
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	if _, err := s.subscription(req.GetName()); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "subscription %q exists", req.GetName())
	}
	if err := s.checkSubscription(config); err != nil {
		return nil, err
	}
	if req.GetTopic() == "" {
		return nil, invalid("create subscription %q: no topic is given", req.GetName())
	}
	t, err := s.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	return config, s.commit(change{PutSubscription: &subscriptionState{ID: s.newID(), Topic: t.id, Config: settings(config)}})
}

// checkSubscription checks settings and fills in what follows from them.
func (s *Server) checkSubscription(c *pubsubpb.Subscription) error {
	switch {
	case c.GetPushConfig().GetPushEndpoint() != "":
		return unsupported("push_config", "pull instead")
	case c.GetBigqueryConfig() != nil, c.GetCloudStorageConfig() != nil, c.GetBigtableConfig() != nil:
		return unsupported("export to BigQuery, Bigtable or Cloud Storage", "pull instead")
	case c.GetFilter() != "":
		return invalid("filter %q: this server has no filters: filter in the client", c.GetFilter())
	case c.GetEnableExactlyOnceDelivery():
		return unsupported("enable_exactly_once_delivery", "make the client idempotent")
	case len(c.GetMessageTransforms()) > 0:
		return unsupported("message_transforms", "transform messages in a client")
	}
	if err := checkStreamDeadline(c.GetAckDeadlineSeconds()); err != nil {
		return err
	}
	if d := c.GetMessageRetentionDuration().AsDuration(); d < minRetention || d > maxRetention {
		return invalid("message_retention_duration is %v: at least %v, at most %v", d, minRetention, maxRetention)
	}
	if d := c.GetDeadLetterPolicy(); d != nil {
		if d.MaxDeliveryAttempts == 0 {
			d.MaxDeliveryAttempts = 5
		}
		if n := d.MaxDeliveryAttempts; n < 5 || n > 100 {
			return invalid("max_delivery_attempts is %d: at least 5, at most 100", n)
		}
		if _, err := s.topic(d.GetDeadLetterTopic()); err != nil {
			return err
		}
	}
	if r := c.GetRetryPolicy(); r != nil {
		if r.MinimumBackoff == nil {
			r.MinimumBackoff = durationpb.New(10 * time.Second)
		}
		if r.MaximumBackoff == nil {
			r.MaximumBackoff = durationpb.New(maxBackoff)
		}
		least, most := r.GetMinimumBackoff().AsDuration(), r.GetMaximumBackoff().AsDuration()
		if least < 0 || most < least || most > maxBackoff {
			return invalid("retry_policy is %v to %v: at least 0, at most %v, the smaller one first", least, most, maxBackoff)
		}
	}
	return nil
}

func (x subscriber) UpdateSubscription(_ context.Context, req *pubsubpb.UpdateSubscriptionRequest) (*pubsubpb.Subscription, error) {
	s := x.server
	if len(req.GetUpdateMask().GetPaths()) == 0 {
		return nil, invalid("update subscription: the update mask is empty: name the fields to change")
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	from := req.GetSubscription()
	sub, err := s.subscription(from.GetName())
	if err != nil {
		return nil, err
	}
	config := proto.CloneOf(s.subscriptionConfig(sub))
	for _, path := range req.GetUpdateMask().GetPaths() {
		switch path {
		case "ack_deadline_seconds":
			config.AckDeadlineSeconds = from.GetAckDeadlineSeconds()
		case "retain_acked_messages":
			config.RetainAckedMessages = from.GetRetainAckedMessages()
		case "message_retention_duration":
			config.MessageRetentionDuration = from.GetMessageRetentionDuration()
		case "labels":
			config.Labels = from.GetLabels()
		case "tags":
			config.Tags = from.GetTags()
		case "expiration_policy":
			config.ExpirationPolicy = from.GetExpirationPolicy()
		case "dead_letter_policy":
			config.DeadLetterPolicy = proto.CloneOf(from.GetDeadLetterPolicy())
		case "retry_policy":
			config.RetryPolicy = proto.CloneOf(from.GetRetryPolicy())
		case "push_config":
			config.PushConfig = from.GetPushConfig()
		case "bigquery_config":
			config.BigqueryConfig = from.GetBigqueryConfig()
		case "cloud_storage_config":
			config.CloudStorageConfig = from.GetCloudStorageConfig()
		case "bigtable_config":
			config.BigtableConfig = from.GetBigtableConfig()
		case "enable_exactly_once_delivery":
			config.EnableExactlyOnceDelivery = from.GetEnableExactlyOnceDelivery()
		case "message_transforms":
			config.MessageTransforms = from.GetMessageTransforms()
		default:
			return nil, invalid("update subscription: field %q cannot be changed", path)
		}
	}
	if err := s.checkSubscription(config); err != nil {
		return nil, err
	}
	return config, s.putSubscription(sub.id, config)
}

func (s *Server) putSubscription(id uint64, config *pubsubpb.Subscription) error {
	return s.commit(change{PutSubscription: &subscriptionState{ID: id, Config: settings(config)}})
}

func (s *Server) subscriptionConfig(sub *subscription) *pubsubpb.Subscription {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return sub.config
}

func (x subscriber) GetSubscription(_ context.Context, req *pubsubpb.GetSubscriptionRequest) (*pubsubpb.Subscription, error) {
	sub, err := x.server.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	return x.server.subscriptionConfig(sub), nil
}

func (x subscriber) ListSubscriptions(_ context.Context, req *pubsubpb.ListSubscriptionsRequest) (*pubsubpb.ListSubscriptionsResponse, error) {
	s := x.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	names, next := selectPage(slices.Collect(maps.Keys(s.subscriptions)), req.GetProject()+"/", req.GetPageSize(), req.GetPageToken())
	out := &pubsubpb.ListSubscriptionsResponse{NextPageToken: next}
	for _, name := range names {
		out.Subscriptions = append(out.Subscriptions, s.subscriptions[name].config)
	}
	return out, nil
}

func (x subscriber) DeleteSubscription(_ context.Context, req *pubsubpb.DeleteSubscriptionRequest) (*emptypb.Empty, error) {
	s := x.server
	s.admin.Lock()
	defer s.admin.Unlock()
	sub, err := s.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.commit(change{DeleteSubscription: sub.id})
}

func (x subscriber) ModifyPushConfig(context.Context, *pubsubpb.ModifyPushConfigRequest) (*emptypb.Empty, error) {
	return nil, unsupported("push_config", "pull instead")
}

// Seek and snapshots

func (x subscriber) Seek(_ context.Context, req *pubsubpb.SeekRequest) (*pubsubpb.SeekResponse, error) {
	s := x.server
	s.admin.Lock()
	defer s.admin.Unlock()
	sub, err := s.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	to := seekState{Subscription: sub.id}
	switch target := req.GetTarget().(type) {
	case *pubsubpb.SeekRequest_Time:
		if err := target.Time.CheckValid(); err != nil {
			return nil, invalid("seek: %v", err)
		}
		to.Time = target.Time.AsTime()
	case *pubsubpb.SeekRequest_Snapshot:
		snap, err := s.snapshot(target.Snapshot)
		if err != nil {
			return nil, err
		}
		if snap.topic != sub.topic {
			return nil, status.Errorf(codes.FailedPrecondition, "seek: snapshot %q is of another topic than subscription %q", target.Snapshot, req.GetSubscription())
		}
		to.Snapshot = snap.id
	default:
		return nil, invalid("seek: give a time or a snapshot")
	}
	return &pubsubpb.SeekResponse{}, s.commit(change{Seek: &to})
}

func (x subscriber) CreateSnapshot(_ context.Context, req *pubsubpb.CreateSnapshotRequest) (*pubsubpb.Snapshot, error) {
	s := x.server
	if err := checkName(req.GetName(), "snapshots"); err != nil {
		return nil, err
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	if _, err := s.snapshot(req.GetName()); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "snapshot %q exists", req.GetName())
	}
	sub, err := s.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	config := &pubsubpb.Snapshot{
		Name: req.GetName(), Topic: s.subscriptionConfig(sub).GetTopic(), Labels: req.GetLabels(),
		ExpireTime: timestamppb.New(time.Now().Add(snapshotLife)),
	}
	return config, s.commit(change{PutSnapshot: &snapshotState{ID: s.newID(), Topic: sub.topic.id, Of: sub.id, Config: settings(config)}})
}

func (x subscriber) GetSnapshot(_ context.Context, req *pubsubpb.GetSnapshotRequest) (*pubsubpb.Snapshot, error) {
	snap, err := x.server.snapshot(req.GetSnapshot())
	if err != nil {
		return nil, err
	}
	x.server.mu.RLock()
	defer x.server.mu.RUnlock()
	return snap.config, nil
}

func (x subscriber) ListSnapshots(_ context.Context, req *pubsubpb.ListSnapshotsRequest) (*pubsubpb.ListSnapshotsResponse, error) {
	s := x.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	names, next := selectPage(slices.Collect(maps.Keys(s.snapshots)), req.GetProject()+"/", req.GetPageSize(), req.GetPageToken())
	out := &pubsubpb.ListSnapshotsResponse{NextPageToken: next}
	for _, name := range names {
		out.Snapshots = append(out.Snapshots, s.snapshots[name].config)
	}
	return out, nil
}

func (x subscriber) DeleteSnapshot(_ context.Context, req *pubsubpb.DeleteSnapshotRequest) (*emptypb.Empty, error) {
	s := x.server
	s.admin.Lock()
	defer s.admin.Unlock()
	snap, err := s.snapshot(req.GetSnapshot())
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.commit(change{DeleteSnapshot: snap.id})
}

func (s *Server) snapshot(name string) (*snapshot, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if snap := s.snapshots[name]; snap != nil {
		return snap, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no snapshot %q: create it first", name)
}

// expireSnapshots deletes the snapshots whose time is over.
func (s *Server) expireSnapshots(now time.Time) {
	s.mu.RLock()
	var old []uint64
	for _, snap := range s.snapshots {
		if snap.config.GetExpireTime().AsTime().Before(now) {
			old = append(old, snap.id)
		}
	}
	s.mu.RUnlock()
	if len(old) == 0 {
		return
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	for _, id := range old {
		if err := s.commit(change{DeleteSnapshot: id}); err != nil {
			s.options.Logger.Error("a snapshot could not be deleted at its end", "err", err)
		}
	}
}

// newID names a topic, subscription or snapshot for good. The caller holds admin.
func (s *Server) newID() uint64 { return s.lastID.Add(1) }

// resource is the form of all names.
var resource = regexp.MustCompile(`^projects/[^/]+/(topics|subscriptions|snapshots)/([A-Za-z][-A-Za-z0-9._~+%]{0,254})$`)

// checkName wants projects/PROJECT/KIND/ID. Unlike in the real service an id may have fewer than 3 characters.
func checkName(name, kind string) error {
	m := resource.FindStringSubmatch(name)
	if m == nil || m[1] != kind {
		return invalid("name %q is not of the form projects/PROJECT/%s/ID, where ID begins with a letter and goes on with letters, digits and -._~+%%", name, kind)
	}
	if strings.HasPrefix(m[2], "goog") {
		return invalid("name %q: an ID that begins with goog is reserved", name)
	}
	return nil
}

// selectPage returns up to size names, sorted, of those with the prefix that come after the token, and the next token.
func selectPage(names []string, prefix string, size int32, token string) (part []string, next string) {
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) || n <= token })
	slices.Sort(names)
	if size <= 0 || size > defaultPage {
		size = defaultPage
	}
	if len(names) > int(size) {
		return names[:size], names[size-1]
	}
	return names, ""
}

func unsupported(what, instead string) error {
	return status.Errorf(codes.Unimplemented, "%s: this server does not have it: %s", what, instead)
}
