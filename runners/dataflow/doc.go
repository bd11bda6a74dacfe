// Package dataflow hands pipelines over to Google Cloud Dataflow, and follows them to their end.
//
// A job is submitted by what Dataflow needs for it: the portable pipeline and the worker binary, both in Cloud Storage, and a request to its REST
// service that says where they are. Mistakes are found before the binary is sent, which is large; it is sent once, and found by its hash after
// that.
//
// # Guarantees
//
// A launch starts one job at most, also where the reply to the request is lost: the request has an id, and the job a label, by which it is
// found again. Where a job of the name runs, none is started.
//
// What goes wrong is one error, with the cause that Dataflow has logged.
//
// # Limits
//
// All of it was run against testing/dataflowfake, and never on Google's service.
package dataflow
