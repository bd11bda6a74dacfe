// Command backbone carries what happens in a shop or on a site into a lake of Parquet files, as Apache Beam
// pipelines. The same binary launches a pipeline and is the worker that a runner starts; see "backbone --help".
package main

import (
	"os"

	"backbone/runners/command"
)

func main() {
	command.InitBeam(os.Args[1:]) // does not return where a runner started this binary as its worker
	os.Exit(command.Main())
}
