// Command flinkcluster runs a Flink cluster on this machine until it is interrupted, and prints the flags by which backbone finds it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"backbone/testing/flinkcluster"
)

func main() {
	var o flinkcluster.Options
	flag.IntVar(&o.TaskManagers, "task_managers", 1, "how many task managers there are")
	flag.IntVar(&o.Slots, "slots", 2, "how many parts of jobs each works on at once")
	flag.IntVar(&o.Port, "port", 8081, "port of Flink's REST service and web pages; 0: one that is free")
	flag.IntVar(&o.JobServerPort, "job_server_port", 8099, "port of Beam's job server; 0: one that is free")
	flag.StringVar(&o.Dir, "dir", "", "folder for logs, checkpoints and savepoints (default a temporary one)")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "flinkcluster:", err)
		os.Exit(1)
	}
}

func run(o flinkcluster.Options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cluster, err := flinkcluster.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	fmt.Printf("--runner=flink --endpoint=%s --flink_master=%s\n", cluster.Endpoint, cluster.Master)
	fmt.Fprintf(os.Stderr, "logs are in %s; Flink's pages are at http://%s; interrupt to stop\n", cluster.Dir, cluster.Master)
	<-ctx.Done()
	return nil
}
