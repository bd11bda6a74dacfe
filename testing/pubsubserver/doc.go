// Package pubsubserver is a local Google Cloud Pub/Sub: the same gRPC API in a process of its own or inside a test,
// in memory or in a log on disk, fast enough to load a pipeline with.
//
// Client libraries find it by PUBSUB_EMULATOR_HOST and need no other change. Package pubsubtest starts one for a test;
// the command backbone pubsub runs one in a process of its own.
//
// # Guarantees
//
//   - A message whose Publish returned OK is delivered to each subscription that its topic had then, again and
//     again, until it is acknowledged, dead-lettered or older than the subscription's retention.
//   - With DataDir that holds over kill -9 and power loss of the server: Publish returns after an fsync, which
//     concurrent calls share. Acknowledgements are written within about 50 ms and not waited for, so a few
//     acknowledged messages may come again after a crash.
//   - A lease ends no earlier than its deadline, and at most 100 ms after it.
//   - On a subscription with message ordering, the messages of an ordering key are delivered in the order in which they
//     were published, one batch of a key at a time; when one comes again, so do all later ones of its batch, in order.
//   - Message ids of a topic grow, also over restarts.
//   - Memory is bounded by Options.MaxBytes: Publish waits for room, and answers ResourceExhausted after a while.
//
// # Limits
//
//   - All unacknowledged messages are held in memory, with DataDir too: the log is for safety, not for size.
//   - Push, BigQuery and Cloud Storage subscriptions, filters, exactly-once delivery, schemas, message transforms, ingestion
//     and retention by topic are refused by name, not ignored. Labels, tags, storage policies and expiry policies are
//     kept and have no effect.
//   - Delivery attempts are counted from zero again after a restart.
//   - One node, no replication, no authentication: for development and tests.
//
// # Metrics
//
// [Server.Stats] counts, for the server and each subscription: published, delivered, acked, redelivered,
// dead-lettered, expired by retention, backlog and outstanding.
package pubsubserver
