// Package dataflowfake is Google Cloud Dataflow on this machine, for tests: the part of its REST service that has to do with jobs, and the
// jobs themselves, which it runs.
//
// A job is run as Dataflow does it, by what was staged: the fake reads the pipeline and the worker binary from Cloud Storage, checks their
// hashes, and starts that binary, unchanged, as a worker process. Beam's prism, in this process, is what the worker works for. Cloud Storage is
// fake-gcs-server, started with the fake.
//
// Dataflow has a source of its own for Pub/Sub. The fake puts one in its place that reads a local server, and acknowledges a message as soon as
// it has it, since what Dataflow has it does not lose.
//
// A worker that ends before its job does, or a function that fails, has its work done again, as often as Dataflow does: four times. Here that is
// all of the job's work. Messages that were acknowledged come again with it, out of the memory of the fake.
//
// Templates are launched, too. Of a classic one the job is what the template has. Of a Flex Template a program makes it that stands for its image, called as
// Google's launcher is known to call one.
//
// What goes wrong can be ordered: see [Server.Order].
//
// # Limits
//
//   - A job has one worker. There is no autoscaling, no Streaming Engine, and no state that an update could take over but messages: they all
//     come again to the job that takes the place of another.
//   - Of a request, it is checked what Dataflow is known to refuse. Most options of workers have no effect.
//   - Which flags Google's launcher gives, and in which form, is after its pages and those of Beam. Parameters of a template are those of its metadata and no
//     others.
//   - Credentials are neither needed nor looked at.
//   - The state of jobs is in memory.
package dataflowfake
