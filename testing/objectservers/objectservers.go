// Package objectservers starts object stores on this machine for tests: one that speaks Google Cloud Storage, one that speaks S3.
//
// Each Start function returns the URL of an empty lake, sets the environment that clients need for the length of the test (so the test cannot
// be parallel), and stops the server at its end.
package objectservers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

const (
	bucket    = "lake"
	region    = "us-east-1"
	accessKey = "access"
	secretKey = "secret"
)

// StartGCS starts fake-gcs-server in this process, with its objects in memory, and points STORAGE_EMULATOR_HOST to it.
func StartGCS(t testing.TB) (lake string) {
	t.Helper()
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{Scheme: "http"})
	if err != nil {
		t.Fatalf("start fake-gcs-server: %v", err)
	}
	t.Cleanup(server.Stop)
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	t.Setenv("STORAGE_EMULATOR_HOST", server.URL())
	return "gs://" + bucket
}

// StartS3 starts versitygw in a process of its own, with its objects in a temporary folder, and sets AWS credentials for it.
func StartS3(t testing.TB) (lake string) {
	t.Helper()
	dir := t.TempDir()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID":           accessKey,
		"AWS_SECRET_ACCESS_KEY":       secretKey,
		"AWS_SESSION_TOKEN":           "",
		"AWS_PROFILE":                 "",
		"AWS_CONFIG_FILE":             filepath.Join(dir, "none"), // Nothing of the person who runs the test.
		"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "none"),
		"AWS_EC2_METADATA_DISABLED":   "true",
	} {
		t.Setenv(name, value)
	}
	endpoint := startChild(t, filepath.Join(dir, "objects"))
	makeBucket(t, endpoint)
	return "s3://" + bucket + "?" + url.Values{"endpoint": {endpoint}, "region": {region}}.Encode()
}

// childEnv makes a test binary an S3 server: its value is the folder for the objects.
const childEnv = "BACKBONE_TESTING_S3_SERVER"

// The gateway changes the working directory of its process, and there can be one only in a process. So it gets one of its own: this
// same test binary, which is started again and comes no further than here.
func init() {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := serveS3(dir, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// startChild returns the URL of the server. The child stops when its standard input ends: also if this process is killed.
func startChild(t testing.TB, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), childEnv+"="+dir)
	var log bytes.Buffer
	child.Stderr = &log
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatalf("start the S3 server: %v", err)
	}
	t.Cleanup(func() {
		err := errors.Join(stdin.Close(), child.Wait())
		if err != nil || t.Failed() && log.Len() > 0 {
			t.Logf("S3 server: %v\n%s", err, log.String())
		}
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if endpoint, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			go func() { _, _ = io.Copy(io.Discard, stdout) }() // Until Wait closes it.
			return endpoint
		}
	}
	t.Fatal("the S3 server has ended; its log follows")
	return ""
}

// serveS3 runs the gateway until stdin ends.
func serveS3(dir string, stdin io.Reader, stdout io.Writer) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	backend, err := posix.New(dir, meta.XattrMeta{}, posix.PosixOpts{})
	if err != nil {
		return fmt.Errorf("S3 server in %q: %w", dir, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		stop()
	}()
	// The gateway takes no listener, so a port that was free may be taken by now: try another one.
	for range 5 {
		var address string
		if address, err = freePort(); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() {
			ended <- embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
				RootUserAccess:    accessKey,
				RootUserSecret:    secretKey,
				Region:            region,
				Ports:             []string{address},
				MaxConnections:    10_000,
				MaxRequests:       1_000,
				MultipartMaxParts: 10_000,
				KeepAlive:         true,
				Quiet:             true,
			})
		}()
		if err = wait(address, ended); err == nil {
			if _, err := fmt.Fprintf(stdout, "listening on http://%s\n", address); err != nil {
				return err
			}
			err = <-ended
			select {
			case <-ctx.Done(): // as was asked for
				return nil
			default:
				return err
			}
		}
	}
	return fmt.Errorf("S3 server: %w", err)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// wait returns when somebody listens at address, or the gateway has ended.
func wait(address string, ended <-chan error) error {
	for {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			return connection.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("ended: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func makeBucket(t testing.TB, endpoint string) {
	t.Helper()
	env, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(region), config.WithBaseEndpoint(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	client := s3.NewFromConfig(env, func(o *s3.Options) { o.UsePathStyle = true })
	name := bucket
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatalf("make bucket %q: %v", bucket, err)
	}
}
