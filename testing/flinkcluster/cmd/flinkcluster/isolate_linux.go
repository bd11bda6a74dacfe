package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideVariable is set in the environment of a process that runs in a namespace of its own, to the user who has begun it.
const insideVariable = "FLINKCLUSTER_INSIDE"

func isInside() bool { return os.Getenv(insideVariable) != "" }

// isolate runs this command again in a new network namespace, until it ends or ctx is done. Who is not root gets it in a user namespace.
func isolate(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"="+strconv.Itoa(os.Geteuid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	runtime.LockOSThread() // by whose end the kernel knows that this process is gone
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("this system allows no network namespace (%w): leave -isolated out, and keep the cluster behind a firewall", err)
	}
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the cluster in the namespace: %w", err)
	}
	return nil
}

// settle brings up the loopback interface of the namespace, and returns the beginning of a command line that runs a program in it.
func settle() (enter string, err error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(socket) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return "", err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return "", fmt.Errorf("bring up the loopback interface: %w", err)
	}
	enter = "nsenter --target " + strconv.Itoa(os.Getpid()) + " --net"
	if os.Getenv(insideVariable) != "0" {
		enter += " --user --preserve-credentials"
	}
	return enter, nil
}
