// Command flinkcluster runs a Flink cluster on this machine until it is interrupted, and prints the flags by which backbone finds it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"backbone/testing/flinkcluster"
)

func main() {
	var o flinkcluster.Options
	var isolated bool
	flags(flag.CommandLine, &o, &isolated)
	flag.Parse()
	o.Prometheus = o.PrometheusPort != 0
	if o.Restarts == 0 {
		o.Restarts = -1
	}
	if err := run(o, isolated); err != nil {
		fmt.Fprintln(os.Stderr, "flinkcluster:", err)
		os.Exit(1)
	}
}

func flags(set *flag.FlagSet, o *flinkcluster.Options, isolated *bool) {
	set.IntVar(&o.TaskManagers, "task_managers", 1, "how many task managers there are")
	set.IntVar(&o.Slots, "slots", 2, "how many parts of jobs each works on at once")
	set.IntVar(&o.Port, "port", 8081, "port of Flink's REST service and web pages; 0: one that is free")
	set.IntVar(&o.JobServerPort, "job_server_port", 8099, "port of Beam's job server; 0: one that is free")
	set.StringVar(&o.Dir, "dir", "", "folder for logs, checkpoints and savepoints (default a temporary one)")
	set.IntVar(&o.Restarts, "restarts", 3, "how often a job that fails is begun again, unless it says so itself")
	set.StringVar(&o.WorkerPool, "worker_pool", "", "`path` of a backbone to run a pool of workers of (default no pool)")
	set.IntVar(&o.WorkerPoolPort, "worker_pool_port", 50000, "port of the pool; 0: one that is free")
	set.IntVar(&o.PrometheusPort, "prometheus_port", 0, "port where Prometheus reads the job manager's metrics; those of task managers follow (default no metrics)")
	set.BoolVar(&o.HighAvailability, "high_availability", false, "run ZooKeeper, too, so that jobs go on when the job manager was started again")
	set.BoolVar(isolated, "isolated", false, "run in a network namespace of its own, where nobody else reaches it (Linux)")
}

func run(o flinkcluster.Options, isolated bool) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var enter string
	if isolated {
		if !isInside() {
			if _, err := flinkcluster.Fetch(ctx); err != nil { // inside, there is no network
				return err
			}
			return isolate(ctx)
		}
		if enter, err = settle(); err != nil {
			return err
		}
	}
	cluster, err := flinkcluster.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	fmt.Printf("--runner=flink --endpoint=%s --flink_master=%s", cluster.Endpoint, cluster.Master)
	if cluster.WorkerPool != "" {
		fmt.Printf(" --environment_type=EXTERNAL --environment_config=%s", cluster.WorkerPool)
	}
	fmt.Println()
	for _, name := range slices.Sorted(maps.Keys(cluster.Metrics)) {
		fmt.Fprintf(os.Stderr, "metrics of %s are at http://%s\n", name, cluster.Metrics[name])
	}
	if enter != "" {
		fmt.Fprintf(os.Stderr, "only programs in its network namespace reach it; run them by: %s\n", enter)
	}
	fmt.Fprintf(os.Stderr, "logs are in %s; Flink's pages are at http://%s; interrupt to stop\n", cluster.Dir, cluster.Master)
	<-ctx.Done()
	return nil
}
