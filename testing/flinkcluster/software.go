package flinkcluster

import (
	"archive/tar"
	"archive/zip"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"backbone/testing/provision"
)

// What is fetched, and what it has to be. Flink's own distribution is also a package of Python's index, which has all of its jars.
const (
	flinkVersion = "1.19.3"
	flinkSHA256  = "4a58e3a1fb7d83340bc96b6c080624c6d792d69fae5d294b96224775204a9c60"
	// jobServerDigest is that of digestJar: all classes of the job server, of Beam and of what they need.
	jobServerDigest = "7f5090b9672cd499b219305ff2ef8f33c8b574e4ab40a6de71f1067deefb04ee"
)

//go:embed pom.xml
var pom []byte

// mended is a class of Beam that is wrong in that version, and what is right.
//
//go:embed mended/BundleCheckpointHandlers.java
var mended []byte

// Software is what a cluster consists of. Path names are absolute.
type Software struct {
	// Libraries is the folder of Flink's jars.
	Libraries string
	// JobServer is the jar of Beam's job server for Flink, which needs nothing else.
	JobServer string
}

// Fetch returns the software of a cluster. On first use it takes Flink from the Python Package Index with pip and builds the job server
// with Maven, both checked against what they have to be: 400 MB and a minute or two. After that, both are in the user's cache folder.
//
// Its error Is exec.ErrNotFound where java, mvn or python3 is missing.
func Fetch(ctx context.Context) (s Software, err error) {
	if _, err := exec.LookPath("java"); err != nil {
		return s, fmt.Errorf("a Flink cluster needs Java 17: %w", err)
	}
	key := strings.Join(append([]string{flinkVersion, flinkSHA256, jobServerDigest, string(pom), string(mended)}, needed...), "\n")
	dir, err := provision.Once("flink", []byte(key), func(dir string) error {
		if err := fetchFlink(ctx, dir); err != nil {
			return fmt.Errorf("fetch Flink %s: %w", flinkVersion, err)
		}
		if err := buildJobServer(ctx, dir); err != nil {
			return fmt.Errorf("build Beam's job server: %w", err)
		}
		return nil
	})
	return Software{Libraries: filepath.Join(dir, "lib"), JobServer: filepath.Join(dir, "job-server.jar")}, err
}

// fetchFlink puts the jars of a Flink process into dir/lib.
func fetchFlink(ctx context.Context, dir string) error {
	wanted := filepath.Join(dir, "requirements.txt")
	line := fmt.Sprintf("apache-flink-libraries==%s --hash=sha256:%s\n", flinkVersion, flinkSHA256)
	if err := os.WriteFile(wanted, []byte(line), 0o600); err != nil {
		return err
	}
	err := patiently(ctx, dir, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary=:all:",
		"--require-hashes", "--dest", dir, "-r", wanted)
	if err != nil {
		return err
	}
	archive := filepath.Join(dir, "apache-flink-libraries-"+flinkVersion+".tar.gz")
	if err := unpackLibraries(archive, filepath.Join(dir, "lib")); err != nil {
		return err
	}
	return errors.Join(os.Remove(archive), os.Remove(wanted))
}

// needed are the beginnings of the names of the jars that a process needs to run jobs of Beam, and to tell Prometheus of them: not Flink's SQL.
var needed = []string{"flink-dist-", "log4j-", "flink-metrics-prometheus-"}

func unpackLibraries(archive, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Base(header.Name)
		isNeeded := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if header.Typeflag != tar.TypeReg || !slices.ContainsFunc(needed, isNeeded) {
			continue
		}
		if err := write(filepath.Join(dir, name), files); err != nil {
			return err
		}
	}
}

func write(path string, from io.Reader) error {
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// buildJobServer makes dir/job-server.jar.
func buildJobServer(ctx context.Context, dir string) (err error) {
	build := filepath.Join(dir, "build")
	if err := os.Mkdir(build, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(build)) }()
	if err := os.WriteFile(filepath.Join(build, "pom.xml"), pom, 0o600); err != nil {
		return err
	}
	if err := patiently(ctx, build, "mvn", "--quiet", "--batch-mode", "--strict-checksums", "package"); err != nil {
		return err
	}
	jar := filepath.Join(build, "target", "job-server.jar")
	got, err := digestJar(jar)
	if err != nil {
		return err
	}
	if got != jobServerDigest {
		return fmt.Errorf("the jar's digest is %s, want %s: a jar from the repository is not what it was; see ~/.m2 and its settings", got, jobServerDigest)
	}
	if err := mend(ctx, build, jar); err != nil {
		return fmt.Errorf("mend it: %w", err)
	}
	return os.Rename(jar, filepath.Join(dir, "job-server.jar"))
}

// mend puts what is right into the jar, in the place of what is wrong.
func mend(ctx context.Context, dir, jar string) error {
	source, classes := filepath.Join(dir, "BundleCheckpointHandlers.java"), filepath.Join(dir, "classes")
	if err := os.WriteFile(source, mended, 0o600); err != nil {
		return err
	}
	if err := provision.Run(ctx, dir, "javac", "-nowarn", "--release", "11", "-cp", jar, "-d", classes, source); err != nil {
		return err
	}
	return provision.Run(ctx, dir, "jar", "--update", "--file", jar, "-C", classes, ".")
}

// digestJar returns a SHA-256 of the names and bytes of all files in a jar but its manifest, which names the JDK of the build.
func digestJar(path string) (string, error) {
	jar, err := zip.OpenReader(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = jar.Close() }() // only read
	files := slices.DeleteFunc(slices.Clone(jar.File), func(f *zip.File) bool {
		return strings.HasSuffix(f.Name, "/") || f.Name == "META-INF/MANIFEST.MF"
	})
	slices.SortFunc(files, func(a, b *zip.File) int { return cmp.Compare(a.Name, b.Name) })
	all := sha256.New()
	for _, f := range files {
		body, err := f.Open()
		if err != nil {
			return "", err
		}
		one := sha256.New()
		_, err = io.Copy(one, body)
		if err = errors.Join(err, body.Close()); err != nil {
			return "", fmt.Errorf("%s in %s: %w", f.Name, path, err)
		}
		_, _ = fmt.Fprintf(all, "%x  %s\n", one.Sum(nil), f.Name) // a hash never fails
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// patiently runs a program that fetches from a registry, which may fail for a while. What it has fetched stays.
func patiently(ctx context.Context, dir, name string, args ...string) (err error) {
	for try := range 4 {
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(time.Duration(try) * 10 * time.Second):
		}
		if err = provision.Run(ctx, dir, name, args...); err == nil || errors.Is(err, exec.ErrNotFound) {
			return err
		}
	}
	return err
}
