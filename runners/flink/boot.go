package flink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/artifact"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
)

// bootFlag is one of the flags by which a task manager, or a pool of workers, starts a worker: it names where the rest can be asked for.
const bootFlag = "provision_endpoint"

// statusFlag is the one that only a pool of workers gives: the number of an open file, in which it is told whether there is a worker.
const statusFlag = "status_fd"

// starting is in that file as soon as all is there that a worker needs. What else is there says why there is no worker.
const starting = "starting\n"

// folderVariable names to a worker the folder that its binary was staged to, and to a boot the one that its pool has made for that.
const folderVariable = "BACKBONE_WORKER_FOLDER"

// parentVariable tells a worker the process that has started it, which may be gone before it looks.
const parentVariable = "BACKBONE_WORKER_PARENT"

// IsBoot tells whether args, a command line without the program's name, are those of a task manager that starts a worker.
func IsBoot(args []string) bool {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") || arg == "--" {
			return false
		}
		if name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); name == bootFlag {
			return true
		}
	}
	return false
}

// Boot makes this process the worker that a task manager asks for with args; it returns only if it can't. Where this binary is not the one
// that submitted the job, that one is fetched into a folder of its own: two jobs that start at once never share a file.
//
// The worker takes the place of this process. So what the task manager stops is the worker itself.
func Boot(args []string) (err error) {
	parent := strconv.Itoa(os.Getppid())
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	id := flags.String("id", "", "")
	provision := flags.String(bootFlag, "", "")
	logging := flags.String("logging_endpoint", "", "")
	control := flags.String("control_endpoint", "", "")
	staged := flags.String("artifact_endpoint", "", "")
	status := flags.Int(statusFlag, -1, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pool := io.Discard
	if *status >= 0 {
		syscall.CloseOnExec(*status) // so that the pool sees its end
		pool = os.NewFile(uintptr(*status), "status")
	}
	defer func() { _, _ = io.WriteString(pool, err.Error()) }() // the error is returned as well
	ctx := grpcx.WriteWorkerID(context.Background(), *id)
	info, err := tools.ProvisionInfo(ctx, *provision)
	if err != nil {
		return fmt.Errorf("worker %s: what is to be run: %w", *id, err)
	}
	for at, said := range map[*string]string{
		logging: info.GetLoggingEndpoint().GetUrl(), control: info.GetControlEndpoint().GetUrl(), staged: info.GetArtifactEndpoint().GetUrl(),
	} {
		if said != "" {
			*at = said
		}
	}
	options, err := tools.ProtoToJSON(info.GetPipelineOptions())
	if err != nil {
		return fmt.Errorf("worker %s: options: %w", *id, err)
	}
	binary, folder, err := fetchBinary(ctx, info, *staged)
	if err != nil {
		return fmt.Errorf("worker %s: its binary: %w", *id, errors.Join(err, remove(folder)))
	}
	env := append([]string{ // of two with a name, the first counts
		folderVariable + "=" + folder, parentVariable + "=" + parent, "STATUS_ENDPOINT=" + info.GetStatusEndpoint().GetUrl(),
		"RUNNER_CAPABILITIES=" + strings.Join(info.GetRunnerCapabilities(), " "),
	}, os.Environ()...)
	argv := []string{os.Args[0], "--worker=true", "--id=" + *id, "--logging_endpoint=" + *logging, "--control_endpoint=" + *control, "--options=" + options}
	if _, err := io.WriteString(pool, starting); err != nil {
		return fmt.Errorf("worker %s: tell its pool: %w", *id, errors.Join(err, remove(folder)))
	}
	err = syscall.Exec(binary, argv, env)
	return fmt.Errorf("worker %s: start %s: %w", *id, binary, errors.Join(err, remove(folder)))
}

// fetchBinary returns the path of the binary that the job was submitted with, and the folder that was made for it, or "" if there is none.
func fetchBinary(ctx context.Context, info *fnpb.ProvisionInfo, endpoint string) (path, folder string, err error) {
	folder = os.Getenv(folderVariable)
	self, err := os.Executable()
	if err != nil {
		return "", folder, err
	}
	ours, err := hashOf(self)
	if err != nil {
		return "", folder, err
	}
	if submittedWith(info) == ours {
		return self, folder, nil
	}
	if folder == "" {
		if folder, err = os.MkdirTemp("", "backbone-worker-"); err != nil {
			return "", "", err
		}
	}
	files, err := artifact.Materialize(ctx, endpoint, info.GetDependencies(), info.GetRetrievalToken(), folder)
	if err != nil {
		return "", folder, err
	}
	for _, f := range files {
		if f.GetRoleUrn() == artifact.URNGoWorkerBinaryRole || len(files) == 1 {
			name, _ := artifact.MustExtractFilePayload(f)
			path = filepath.Join(folder, name)
		}
	}
	if path == "" {
		return "", folder, fmt.Errorf("none of the job's %d files is a worker binary", len(files))
	}
	return path, folder, os.Chmod(path, 0o700)
}

// submittedWith returns the hash of the binary that the job was submitted with. It is an option, because a job server keeps no hashes of
// the files of jobs.
func submittedWith(info *fnpb.ProvisionInfo) string {
	return info.GetPipelineOptions().GetFields()[beamOption(tagPrefix+workerTag)].GetStringValue()
}

func hashOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // only read
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func remove(folder string) error {
	if folder == "" {
		return nil
	}
	return os.RemoveAll(folder)
}

// Attend prepares a process that was started as a worker: it removes the folder of its binary, which it needs no longer, and calls orphaned,
// which has to end the process, once the process that started it is gone. Beam's worker would wait for ever.
func Attend(orphaned func()) {
	_ = remove(os.Getenv(folderVariable)) // among the temporary files
	parent := os.Getenv(parentVariable)
	if parent == "" { // it was not a Boot
		parent = strconv.Itoa(os.Getppid())
	}
	go func() {
		for strconv.Itoa(os.Getppid()) == parent {
			time.Sleep(time.Second)
		}
		orphaned()
	}()
}
