// Package flink runs a pipeline on a cluster of Apache Flink, through Beam's job server for Flink.
//
//	Submit --> job server --> job manager --> task managers --> workers
//	   ^                                                           |
//	   +------------- states, messages, counts <-------------------+
//
// A worker is this same binary, which a task manager starts again (Boot), or a [Pool] that it asks to. It is one process: nothing is left of it
// when the task manager stops it or dies, neither a process nor a file.
//
// # Guarantees
//
// Submit returns nil only when Flink says that the job has ended well. When ctx is cancelled, the job is cancelled, too. What a job of
// files has counted is what its last attempt has counted.
//
// Three options of Beam's runner are always set, because without them jobs that look healthy do nothing: a checkpoint that falls into a
// bundle would hold its output back until the next one (finish_bundle_before_checkpointing), a source that never ends would be asked
// again thousands of times a second (checkpointing_interval), and streaming is set for such sources and for no other, since a streaming
// job does not end by itself.
package flink
