package flink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"backbone/runners/child"
)

// JobServer is Beam's job server for Flink as a process of this machine: it turns pipelines into jobs of Flink.
//
// Beam lets it listen on every interface of the machine, without authentication, whatever it is told.
type JobServer struct {
	// Jar has the main class org.apache.beam.runners.flink.FlinkJobServerDriver. Required.
	Jar string
	// Master is HOST:PORT of the job manager's REST service. Required.
	Master string
	// Conf is a folder with Flink's config.yaml, for jobs and for the client. Default: none.
	Conf string
	// Dir is a folder for its log and for what is staged, which has to be there. Required.
	Dir string
	// Port is where it takes jobs. Default: one that is free.
	Port int

	process *child.Process
}

// Start starts the server and waits until it takes jobs.
func (s *JobServer) Start(ctx context.Context) error {
	java, err := exec.LookPath("java")
	if err != nil {
		return fmt.Errorf("the job server needs Java 17 in the PATH: %w", err)
	}
	if _, err := os.Stat(s.Jar); err != nil {
		return fmt.Errorf("the jar of the job server: %w", err)
	}
	ports, err := FreePorts(2)
	if err != nil {
		return err
	}
	if s.Port == 0 {
		s.Port = ports[0]
	}
	tmp := filepath.Join(s.Dir, "job-server")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	args := append(JavaOptions(), "-Xmx512m", "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-Djava.io.tmpdir="+tmp, "-jar", s.Jar, "--job-host=127.0.0.1", "--job-port="+strconv.Itoa(s.Port), "--artifact-port="+strconv.Itoa(ports[1]),
		"--expansion-port=-1", "--flink-master="+s.Master, "--artifacts-dir="+filepath.Join(tmp, "artifacts"))
	if s.Conf != "" {
		args = append(args, "--flink-conf-dir="+s.Conf)
	}
	s.process, err = child.Start("the job server", s.log(), &exec.Cmd{Path: java, Args: append([]string{"java"}, args...)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("after %v", startTime))
	defer cancel()
	if err := s.process.Await(ctx, func() error { return answers(ctx, s.Endpoint()) }); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// startTime is how long a server may take to start, on a machine that has other things to do.
const startTime = 2 * time.Minute

// Endpoint is where it takes jobs.
func (s *JobServer) Endpoint() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

func (s *JobServer) log() string { return filepath.Join(s.Dir, "job-server.log") }

// logged is the beginning of a line of the server's log.
var logged = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d+ \[[^\]]*\] ([A-Z]+) .*\n`)

// explain adds to an error that only says so what the server's log has of it.
func (s *JobServer) explain(err error) error {
	if !errors.Is(err, errRefused) {
		return err
	}
	text, readErr := os.ReadFile(s.log())
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	lines := logged.FindAllSubmatchIndex(text, -1)
	for i := len(lines) - 1; i >= 0; i-- {
		if string(text[lines[i][2]:lines[i][3]]) != "ERROR" {
			continue
		}
		end := len(text)
		if i+1 < len(lines) {
			end = lines[i+1][0]
		}
		return fmt.Errorf("the job server refuses the job: %s", causeOf(string(text[lines[i][1]:end])))
	}
	return err
}

// Process is that of the server, or nil if it has not been started.
func (s *JobServer) Process() *child.Process { return s.process }

// Close ends the server. Jobs that run on the cluster go on.
func (s *JobServer) Close() error {
	if s.process == nil {
		return nil
	}
	return errors.Join(s.process.Stop(5*time.Second), os.RemoveAll(filepath.Join(s.Dir, "job-server")))
}

// answers tells whether somebody listens at an address.
func answers(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// FreePorts returns ports that nobody listens on now.
func FreePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // at the end, so that all are different
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// JavaOptions are those that Flink and Beam need on Java 17: to look into classes of the JDK.
func JavaOptions() []string {
	var options []string
	for _, p := range []string{
		"java.base/sun.net.util", "java.rmi/sun.rmi.registry", "jdk.compiler/com.sun.tools.javac.api", "java.security.jgss/sun.security.krb5",
	} {
		options = append(options, "--add-exports="+p+"=ALL-UNNAMED")
	}
	for _, p := range []string{
		"java.base/java.lang", "java.base/java.net", "java.base/java.io", "java.base/java.nio", "java.base/sun.nio.ch", "java.base/java.lang.reflect",
		"java.base/java.text", "java.base/java.time", "java.base/java.util", "java.base/java.util.concurrent",
		"java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks",
	} {
		options = append(options, "--add-opens="+p+"=ALL-UNNAMED")
	}
	return options
}
