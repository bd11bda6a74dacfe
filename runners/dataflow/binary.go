package dataflow

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// binary is the program that is sent to workers.
type binary struct {
	path   string
	sha256 string // in hex
	crc32c uint32
	size   int64
}

// machinesOf are the architectures of programs by Go's words.
var machinesOf = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkBinary refuses a file that workers could not run.
func checkBinary(flag, path, arch string) (err error) {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is %q, which is no program for Linux: %w", flag, path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Machine != machinesOf[arch] {
		return fmt.Errorf("%s is %q, a program for %v; the workers' machines need one for linux/%s", flag, path, f.Machine, arch)
	}
	return nil
}

// worker returns the program that is sent to workers, and removes what was made for it with stop.
func (o Options) worker(ctx context.Context) (b binary, stop func(), err error) {
	stop = func() {}
	path := o.WorkerBinary
	switch {
	case path != "":
	case runtime.GOOS == "linux" && runtime.GOARCH == o.arch():
		path, err = os.Executable()
	default:
		path, stop, err = build(ctx, o.arch())
	}
	if err == nil {
		b, err = describe(path)
	}
	if err != nil {
		stop()
		return b, func() {}, fmt.Errorf("worker binary: %w", err)
	}
	return b, stop, nil
}

// build makes a program for workers of the sources in the working directory, if they are those of this one.
func build(ctx context.Context, arch string) (path string, stop func(), err error) {
	stop = func() {}
	by := fmt.Sprintf("GOOS=linux GOARCH=%s CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o worker .", arch)
	advice := fmt.Sprintf("workers need a program for linux/%s, and this one is for %s/%s: name one with --worker_binary, made by %s", arch, runtime.GOOS, runtime.GOARCH, by)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", stop, errors.New(advice)
	}
	module, err := exec.CommandContext(ctx, "go", "list", "-m").Output()
	if err != nil || strings.TrimSpace(string(module)) != info.Main.Path {
		return "", stop, fmt.Errorf("%s, in the folder of its sources", advice)
	}
	dir, err := os.MkdirTemp("", "backbone-worker-")
	if err != nil {
		return "", stop, err
	}
	stop = func() { _ = os.RemoveAll(dir) } // it is among the temporary files
	path = filepath.Join(dir, "worker")
	slog.Info("building the worker binary, which takes minutes the first time", "for", "linux/"+arch)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, info.Main.Path) // main is at the top of the module
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		stop()
		return "", func() {}, fmt.Errorf("%s: %w: %s", by, err, strings.TrimSpace(string(out)))
	}
	return path, stop, nil
}

// describe reads a file for its hashes.
func describe(path string) (b binary, err error) {
	f, err := os.Open(path)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	secure, quick := sha256.New(), crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.Copy(io.MultiWriter(secure, quick), f)
	if err != nil {
		return b, err
	}
	return binary{path: path, sha256: hex.EncodeToString(secure.Sum(nil)), crc32c: quick.Sum32(), size: n}, nil
}
