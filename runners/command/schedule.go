package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	launches "backbone/runners/launch"
	"backbone/runners/launch/schedulers"
)

func newScheduleCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "schedule",
		GroupID: groupSchedules,
		Short:   "Launch pipelines when they are due, here or by the scheduler that you have",
		Long: `Schedule launches the ticks of launch files when they come (run), or writes what another scheduler takes to do so: a crontab, a CronJob of
Kubernetes, a DAG of Airflow, a job of Cloud Scheduler. All but the last call "backbone launch", so that a tick runs once whoever calls, and
is recorded in the lake.`,
		Example: `  backbone schedule run nightly.yaml hourly.yaml
  backbone schedule cron nightly.yaml
  backbone schedule k8s nightly.yaml --image my-registry/backbone:latest`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(env.stderr)
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("a command is missing")
		},
	}
	cmd.AddCommand(newScheduleRunCommand(env), newScheduleCronCommand(env), newScheduleKubernetesCommand(env), newScheduleAirflowCommand(env), newScheduleCloudCommand(env))
	return cmd
}

func newScheduleRunCommand(env *environment) *cobra.Command {
	var catchUp bool
	cmd := &cobra.Command{
		Use:   "run FILE...",
		Short: "Launch the ticks of launch files as they come, until it is stopped",
		Long: `Run launches each tick of each launch file when it comes, on this machine. At the start it says what was missed since the last
success, and runs that with --catch_up, as many ticks as the file allows. Ticks of one file run one after the other; those that
pass meanwhile run after it, as many as the file allows to catch up, and the latest.

It may run on several machines: one of them runs a tick, and when it dies another takes over. Files are read at the start. SIGTERM or SIGINT ends
it when what runs has ended, which is told to: a stream drains, a batch stops. What fails is in the log and in the record, and the next tick
comes all the same.`,
		Example: "  backbone schedule run nightly.yaml hourly.yaml\n  backbone schedule run /etc/backbone/*.yaml --catch_up",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSchedule(cmd.Context(), env, args, catchUp)
		},
	}
	cmd.Flags().BoolVar(&catchUp, "catch_up", false, "run what was missed before it began")
	return cmd
}

func runSchedule(ctx context.Context, env *environment, paths []string, catchUp bool) (err error) {
	drain, hard, stop := notifyDrain(ctx)
	defer stop()
	var files []*launches.File
	var errs []error
	seen := map[string]string{}
	for _, path := range paths {
		f, err := loadLaunch(path)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case f.Schedule == nil:
			errs = append(errs, fmt.Errorf("%s: schedule: it is missing", path))
		case seen[f.Name] != "":
			errs = append(errs, fmt.Errorf("%s: name: %q is that of %s, too", path, f.Name, seen[f.Name]))
		}
		seen[f.Name] = path
		files = append(files, f)
	}
	if err := errors.Join(errs...); err != nil {
		return &UsageError{Err: err}
	}
	var running sync.WaitGroup
	for _, f := range files {
		l, openErr := env.launcher(hard, f, "", drain)
		if openErr != nil {
			stop()
			err = openErr
			break
		}
		defer func() { err = errors.Join(err, l.Store.Close()) }()
		running.Go(func() { l.Follow(hard, catchUp) })
		env.log.Info("scheduled", "launch", f.Name, "cron", f.Schedule.Expression(), "time_zone", f.Schedule.Zone(), "lake", f.Lake())
	}
	running.Wait()
	return err
}

// placeOptions say where things are on the machine of the scheduler.
type placeOptions struct {
	schedulers.Options
}

func (o *placeOptions) with(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&o.Binary, "binary", "/usr/local/bin/backbone", "`PATH` of this command where the scheduler runs it")
	cmd.Flags().StringVar(&o.Path, "path", "", "`PATH` of the launch file where the scheduler runs it (default where it is here)")
	return cmd
}

// load reads the launch file, which is where it is unless the options say otherwise.
func (o *placeOptions) load(path string) (*launches.File, error) {
	f, err := loadLaunch(path)
	if err != nil {
		return nil, err
	}
	if o.Path == "" {
		o.Path, err = filepath.Abs(path)
	}
	return f, err
}

// write prints what was made for a scheduler; what keeps it from being made is wrong usage.
func (e *environment) write(text string, err error) error {
	if err != nil {
		return &UsageError{Err: err}
	}
	_, err = e.stdout.Write([]byte(text))
	return err
}

func newScheduleCronCommand(env *environment) *cobra.Command {
	var o placeOptions
	return o.with(&cobra.Command{
		Use:   "cron FILE",
		Short: "Write the lines of a crontab that launch a file",
		Long: `Cron prints the lines of a crontab that launch a file. CRON_TZ, which they set, holds for all lines after it; a cron that does not
know it takes the time of the machine.`,
		Example: "  (crontab -l; backbone schedule cron nightly.yaml) | crontab -",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := o.load(args[0])
			if err != nil {
				return err
			}
			return env.write(schedulers.Cron(f, o.Options))
		},
	})
}

func newScheduleKubernetesCommand(env *environment) *cobra.Command {
	var o schedulers.KubernetesOptions
	cmd := &cobra.Command{
		Use:   "k8s FILE",
		Short: "Write a CronJob of Kubernetes that launches a file",
		Long: `K8s prints a ConfigMap with the launch file and a CronJob that launches it, with the image of runners/flink/docker. Files that the
options name, such as mappings, are not in it: mount them, or take presets.`,
		Example: "  backbone schedule k8s nightly.yaml --image my-registry/backbone:1.0 | kubectl apply -f -",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := loadLaunch(args[0])
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			return env.write(schedulers.Kubernetes(f, text, o))
		},
	}
	cmd.Flags().StringVar(&o.Image, "image", "my-registry/backbone:latest", "`IMAGE` of this command")
	cmd.Flags().StringVar(&o.Namespace, "namespace", "", "`NAMESPACE` of the objects (default that of kubectl)")
	return cmd
}

func newScheduleAirflowCommand(env *environment) *cobra.Command {
	var o placeOptions
	return o.with(&cobra.Command{
		Use:   "airflow FILE",
		Short: "Write a DAG of Airflow that launches a file",
		Long: `Airflow prints a DAG in Python that launches a file with BeamRunGoPipelineOperator, of apache-airflow-providers-apache-beam. Each run of
the DAG is a tick.`,
		Example: "  backbone schedule airflow nightly.yaml --path /etc/backbone/nightly.yaml > dags/nightly.py",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := o.load(args[0])
			if err != nil {
				return err
			}
			return env.write(schedulers.Airflow(f, o.Options))
		},
	})
}

func newScheduleCloudCommand(env *environment) *cobra.Command {
	var o schedulers.CloudOptions
	cmd := &cobra.Command{
		Use:   "cloud-scheduler FILE",
		Short: "Write a job of Cloud Scheduler that has Dataflow launch a Flex Template",
		Long: `Cloud-scheduler prints a job of Google Cloud Scheduler, in JSON, that has Dataflow launch a Flex Template with the options of a launch file. It
sends the same request at each tick, so the file can't have macros, and there is no record of what runs.`,
		Example: "  backbone schedule cloud-scheduler stream.yaml --project shop --region europe-west1 --template gs://shop/backbone.json --service_account runs@shop.iam.gserviceaccount.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := loadLaunch(args[0])
			if err != nil {
				return err
			}
			return env.write(schedulers.CloudScheduler(f, o))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Project, "project", "", "`PROJECT` of Google Cloud")
	f.StringVar(&o.Region, "region", "", "`REGION` of the job")
	f.StringVar(&o.Template, "template", "", "gs:// `URL` of the specification of the Flex Template")
	f.StringVar(&o.ServiceAccount, "service_account", "", "`ADDRESS` of the account that starts the job")
	return cmd
}
