//go:build unix

package localstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"backbone/transforms/lake/store/driver"
	"backbone/transforms/lake/store/localstore"
)

// onSmallDisk returns a driver on a file system of 3 MiB. Where the test may not mount one, writes that do not fit are made to fail as there.
func onSmallDisk(t *testing.T, o localstore.Options) driver.Driver {
	t.Helper()
	const size = 3 << 20
	dir := t.TempDir()
	unmount, err := mount(dir, size)
	if err != nil {
		t.Logf("mount a small disk: %v; its errors are injected instead", err)
		wrapped := &smallDisk{room: size}
		o.Before = wrapped.before
		return wrapped.open(t, dir, o)
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Errorf("unmount %q: %v", dir, err)
		}
	})
	return open(t, dir, o)
}

// smallDisk refuses bodies larger than its room at the moment of their write.
type smallDisk struct {
	driver.Driver
	room, next int
}

func (s *smallDisk) open(t *testing.T, dir string, o localstore.Options) driver.Driver {
	s.Driver = open(t, dir, o)
	return s
}

func (s *smallDisk) Create(ctx context.Context, key string, body []byte) error {
	s.next = len(body)
	return s.Driver.Create(ctx, key, body)
}

func (s *smallDisk) before(op localstore.Op, _ string) error {
	if op == localstore.OpWrite && s.next > s.room {
		return syscall.ENOSPC
	}
	return nil
}

func open(t testing.TB, root string, o localstore.Options) *localstore.Driver {
	t.Helper()
	d, err := localstore.New(root, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// victimEnv makes this test binary a process that creates an object and waits for its death before the link.
const victimEnv = "BACKBONE_LOCALSTORE_VICTIM"

func TestMain(m *testing.M) {
	if root := os.Getenv(victimEnv); root != "" {
		fmt.Println(victim(root))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func victim(root string) error {
	hidden, err := strconv.ParseBool(os.Args[1])
	if err != nil {
		return err
	}
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	d, err := localstore.New(root, localstore.Options{
		HiddenFiles: hidden,
		Before: func(op localstore.Op, _ string) error {
			if op == localstore.OpLink {
				// The strictest moment, and no need to meet it from outside.
				return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), errors.New("still alive"))
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	return d.Create(context.Background(), os.Args[2], body)
}

func killBeforeLink(t *testing.T, root string, o localstore.Options, key string, body []byte) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self, strconv.FormatBool(o.HiddenFiles), key)
	child.Env = append(os.Environ(), victimEnv+"="+root)
	child.Stdin = bytes.NewReader(body)
	output, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v\n%s", err, output)
	}
}
