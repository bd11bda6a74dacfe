package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"backbone/testing/pubsubserver"
)

// pubsubOptions are what pubsub was asked for.
type pubsubOptions struct {
	pubsubserver.Options
	memory string
	create []string
	stats  time.Duration
}

func newPubSubCommand(env *environment) *cobra.Command {
	options := pubsubOptions{Options: pubsubserver.Options{Addr: "127.0.0.1:8085"}}
	cmd := &cobra.Command{
		Use:     "pubsub",
		GroupID: groupLocal,
		Short:   "Run a Pub/Sub server on this machine, for development and tests",
		Long: `Pubsub runs a server that speaks the gRPC API of Google Cloud Pub/Sub: topics, subscriptions, publishing, streaming
pull, acknowledgement deadlines and redelivery, ordering keys, dead-letter topics, retry policies, snapshots and seek.
What it does not have (push, filters, exactly-once delivery, schemas) it refuses by name. There is no authentication:
let it listen on this machine only.

Client libraries, and the other commands, find it by PUBSUB_EMULATOR_HOST. When it is ready to be called, it prints the
line to set that with, and nothing else, to stdout.

Without --data_dir, messages are in memory and end with the server. With it, a message is on disk before it is
confirmed, and survives a crash; all of them are held in memory, too. SIGINT or SIGTERM ends the server.

A message that was delivered to a client which died comes again when its deadline has passed, which can take up to 10
minutes, as with the real service. --max_lease makes that sooner.`,
		Example: `  backbone pubsub
  backbone pubsub --create projects/shop/topics/events:projects/shop/subscriptions/lake --stats 5s
  backbone pubsub --addr 127.0.0.1:9085 --data_dir /tmp/pubsub --max_lease 30s
  PUBSUB_EMULATOR_HOST=127.0.0.1:8085 backbone generate --events 600000 --topic projects/shop/topics/events --rate 1000`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Addr, "addr", options.Addr, "`HOST:PORT` to listen on; port 0 is any that is free")
	flags.StringVar(&options.DataDir, "data_dir", "", "`DIR` to keep messages in (default in memory)")
	flags.StringSliceVar(&options.create, "create", nil, "`TOPIC[:SUBSCRIPTION]` to make unless they are there, by their full names; may be repeated")
	flags.StringVar(&options.memory, "max_memory", "1GiB", "`SIZE` of all messages that are not acknowledged; publishers wait for more")
	flags.DurationVar(&options.MaxLease, "max_lease", 0, "end every acknowledgement deadline after this time at the latest (default no limit)")
	flags.DurationVar(&options.stats, "stats", 0, "log counts at this interval (default never)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runPubSub(cmd.Context(), env, options) }
	return cmd
}

func runPubSub(ctx context.Context, env *environment, o pubsubOptions) error {
	if err := o.complete(); err != nil {
		return &UsageError{Err: err}
	}
	o.Logger = env.log
	drain, ctx, stop := notifyDrain(ctx)
	defer stop()
	server, err := pubsubserver.New(o.Options)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	return errors.Join(o.serve(ctx, env, server, drain, served), server.Close())
}

// serve makes what there is to be, says that the server is ready, and waits for its end.
func (o *pubsubOptions) serve(ctx context.Context, env *environment, server *pubsubserver.Server, drain <-chan struct{}, served <-chan error) error {
	for _, names := range o.create {
		topic, subscription := cutNames(names)
		if err := server.Create(ctx, topic, subscription); err != nil {
			return fmt.Errorf("create %q: %w", names, err)
		}
	}
	if _, err := fmt.Fprintf(env.stdout, "export PUBSUB_EMULATOR_HOST=%s\n", server.Addr()); err != nil {
		return err
	}
	var tick <-chan time.Time
	if o.stats > 0 {
		ticker := time.NewTicker(o.stats)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-tick:
			logStats(env, server.Stats())
		case <-drain:
			logStats(env, server.Stats())
			return nil
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		}
	}
}

func logStats(env *environment, s pubsubserver.Stats) {
	for _, name := range slices.Sorted(maps.Keys(s.Published)) {
		env.log.Info("topic", "name", name, "published", s.Published[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Subscriptions)) {
		c := s.Subscriptions[name]
		env.log.Info("subscription", "name", name, "delivered", c.Delivered, "redelivered", c.Redelivered, "acked", c.Acked,
			"dead_lettered", c.DeadLettered, "expired", c.Expired, "backlog", c.Backlog, "outstanding", c.Outstanding, "streams", c.Streams)
	}
	env.log.Info("server", "memory_bytes", s.MemoryBytes, "log_bytes", s.LogBytes)
}

// complete fills in what follows from flags, and refuses what cannot be.
func (o *pubsubOptions) complete() error {
	var errs []error
	bytes, err := humanize.ParseBytes(o.memory)
	if err != nil || bytes == 0 || int64(bytes) < 0 {
		errs = append(errs, fmt.Errorf("max_memory is %q; it must be a size such as 500MB or 4GiB", o.memory))
	}
	o.MaxBytes = int64(bytes)
	if o.MaxLease < 0 {
		errs = append(errs, fmt.Errorf("max_lease is %v; it must not be negative", o.MaxLease))
	}
	if o.stats < 0 {
		errs = append(errs, fmt.Errorf("stats is %v; it must not be negative", o.stats))
	}
	for _, names := range o.create {
		topic, subscription := cutNames(names)
		if !strings.Contains(topic, "/topics/") || subscription != "" && !strings.Contains(subscription, "/subscriptions/") {
			errs = append(errs, fmt.Errorf("create is %q; it must be projects/PROJECT/topics/TOPIC or that:projects/PROJECT/subscriptions/SUBSCRIPTION", names))
		}
	}
	return errors.Join(errs...)
}

// cutNames splits TOPIC[:SUBSCRIPTION]. A project may have a colon in its name, so that the next name has to follow.
func cutNames(names string) (topic, subscription string) {
	const next = ":projects/"
	if i := strings.LastIndex(names, next); i >= 0 {
		return names[:i], names[i+1:]
	}
	return names, ""
}
