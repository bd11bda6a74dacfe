package command

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"backbone/runners/flink"
)

func newWorkerPoolCommand(env *environment) *cobra.Command {
	addr := "127.0.0.1:50000"
	cmd := &cobra.Command{
		Use:     "worker-pool",
		GroupID: groupLocal,
		Short:   "Start workers for the task managers of Flink, where those cannot start processes",
		Long: `Worker-pool starts and stops workers when a task manager of Flink asks it to: the other end of --environment_type=EXTERNAL.
It runs beside each task manager, as in a container of the same pod. A worker is a process of this program, or of the one that the
job was submitted with, which it fetches. What workers need from the environment, such as credentials, is that of the pool.

When it is ready it prints the flags by which a job finds it, and nothing else, to stdout; what workers print goes to stderr. None outlives
the pool, or the task manager that has asked for it. SIGINT or SIGTERM ends it, and all of them.

There is no authentication: who reaches the pool runs programs on its machine. Let it listen on this machine only, or where nobody
but task managers reaches it.`,
		Example: `  backbone worker-pool
  backbone worker-pool --addr 127.0.0.1:50001`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&addr, "addr", addr, "`HOST:PORT` to listen on; port 0 is any that is free")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, port, err := net.SplitHostPort(addr); err != nil || !isPort(port) {
			return usageErrorf("addr is %q; it must be HOST:PORT", addr)
		}
		drain, ctx, stop := notifyDrain(cmd.Context())
		defer stop()
		pool, err := flink.NewPool(addr)
		if err != nil {
			return err
		}
		served := make(chan error, 1)
		go func() { served <- pool.Serve() }()
		if _, err := fmt.Fprintf(env.stdout, "--environment_type=EXTERNAL --environment_config=%s\n", pool.Addr()); err != nil {
			return errors.Join(err, pool.Close())
		}
		select {
		case <-drain:
		case <-ctx.Done():
		case err := <-served:
			return errors.Join(err, pool.Close())
		}
		return pool.Close()
	}
	return cmd
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}
