package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"backbone/testing/faults"
	"backbone/transforms/lake/store"
)

func TestURLs(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	cwd, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("STORAGE_EMULATOR_HOST", "localhost:1") // No credentials are looked for.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	for _, test := range []struct {
		name, url string
		want      string // URL() of the store
		err       string
	}{
		{name: "Path", url: "/lake/a b?%#", want: "/lake/a b?%#"},
		{name: "RelativePath", url: "lake", want: filepath.Join(cwd, "lake")},
		{name: "File", url: "file:///lake/a%20b", want: "/lake/a b"},
		{name: "Empty", url: "", err: `the path of a local store is empty`},
		{name: "FileWithHost", url: "file://lake/a", err: `store "file://lake/a": unexpected host "lake": write file:///path, or just the path`},
		{name: "FileWithParameter", url: "file:///lake?sync=no", err: `store "file:///lake": unknown parameter "sync": there are none for file://`},
		{name: "GCS", url: "gs://bucket/lake/", want: "gs://bucket/lake"},
		{name: "GCSBucket", url: "gs://bucket", want: "gs://bucket"},
		{name: "GCSWithParameter", url: "gs://bucket/lake?endpoint=x", err: `store "gs://bucket/lake": unknown parameter "endpoint": there are none for gs://`},
		{name: "GCSWithoutBucket", url: "gs:///lake", err: `store "gs:///lake": the bucket is missing: write gs://bucket/prefix`},
		{name: "GCSPrefixLeavesBucket", url: "gs://bucket/a/../b", err: `store "gs://bucket/a/../b": key "a/../b" has a part "." or ".."`},
		{name: "S3", url: "s3://bucket/lake?region=eu-west-1", want: "s3://bucket/lake?region=eu-west-1"},
		{name: "S3Service", url: "s3://bucket?region=x&path_style=false&endpoint=https://s3.example.com", want: "s3://bucket?endpoint=https%3A%2F%2Fs3.example.com&path_style=false&region=x"},
		{name: "S3WithoutRegion", url: "s3://bucket/lake", err: `store "s3://bucket/lake": no region: set ?region= in the URL, or AWS_REGION`},
		{name: "S3WithoutBucket", url: "s3:///lake?region=x", err: `store "s3:///lake": the bucket is missing: write s3://bucket/prefix`},
		{name: "S3UnknownParameter", url: "s3://bucket/lake?regoin=x", err: `store "s3://bucket/lake": unknown parameter "regoin": s3:// has region, endpoint, path_style`},
		{name: "S3ParameterTwice", url: "s3://bucket/lake?region=x&region=y", err: `store "s3://bucket/lake": parameter "region" is given 2 times`},
		{name: "S3Endpoint", url: "s3://bucket/lake?region=x&endpoint=localhost:1", err: `store "s3://bucket/lake": endpoint must be a URL like https://host:port, without credentials`},
		{name: "S3SecretInURL", url: "s3://bucket/lake?secret_access_key=hush", err: `store "s3://bucket/lake": unknown parameter "secret_access_key": s3:// has region, endpoint, path_style`},
		{name: "S3PathStyle", url: "s3://bucket/lake?region=x&path_style=maybe", err: `store "s3://bucket/lake": path_style "maybe" must be true or false`},
		{name: "UnknownScheme", url: "ftp://a/b", err: `store "ftp://a/b": unknown scheme "ftp": use a path, file://, gs:// or s3://`},
		{name: "Password", url: "s3://key:secret@bucket/lake", err: `store "s3://bucket/lake": credentials do not belong in a URL: set them in the environment`},
		{name: "PasswordInBadURL", url: "s3://key:secret@bu cket/lake", err: `store URL: invalid character " " in host name`},
		{name: "Fragment", url: "gs://bucket/a#b", err: `store "gs://bucket/a": unexpected "#b": write # as %23`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := store.Open(t.Context(), test.url)
			if err != nil {
				if err.Error() != test.err {
					t.Fatalf("got error %q, want %q", err, test.err)
				}
				return
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			if got := s.URL(); got != test.want || test.err != "" {
				t.Errorf("got %q, want %q, error %q", got, test.want, test.err)
			}
		})
	}
}

func TestNoAWSCredentialsIsAnErrorAtOnce(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	if _, err := store.Open(t.Context(), "s3://bucket/lake?region=x"); err == nil {
		t.Error("no error")
	}
}

// A disk that has lost the end of a file is noticed before the file counts.
func TestCommitReadsBackWhatItHasCreated(t *testing.T) {
	root := t.TempDir()
	for name, damage := range map[string]func(file string) error{
		"Shorter": func(file string) error { return os.Truncate(file, 10) },
		"OtherEnd": func(file string) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), 999)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := store.OpenDriver(t.Context(), root)
			if err != nil {
				t.Fatal(err)
			}
			s, err := store.New(&damaging{Driver: d, damage: func(key string) error { return damage(filepath.Join(root, key)) }}, store.Defaults())
			if err != nil {
				t.Fatal(err)
			}
			if outcome, err := s.Commit(t.Context(), name, make([]byte, 1000)); outcome != store.Unknown || !errors.Is(err, store.ErrPermanent) {
				t.Errorf("got %v, %v; want ErrPermanent", outcome, err)
			}
			if n := s.Metrics().Creates.Load(); n != 0 {
				t.Errorf("%d creates are counted", n)
			}
		})
	}
}

// damaging is a driver that damages what it has created.
type damaging struct {
	store.Driver
	damage func(key string) error
}

func (d *damaging) Create(ctx context.Context, key string, body []byte) error {
	return errors.Join(d.Driver.Create(ctx, key, body), d.damage(key))
}

// A connection that is closed instead of a reply is an EOF, too, and so is a reply without a body. It is not the end of the object: it is read again. Where it
// stays so, nobody can take the error for the end.
func TestBrokenConnectionIsNotTheEnd(t *testing.T) {
	for name, broken := range map[string]error{
		"NoReply": &url.Error{Op: "Get", URL: "http://bucket/object", Err: io.EOF},
		"NoBody":  fmt.Errorf("after 0 of 5 bytes: %w", io.EOF),
	} {
		for _, times := range []int{1, 1000} {
			t.Run(fmt.Sprintf("%s/%d", name, times), func(t *testing.T) {
				d, err := store.OpenDriver(t.Context(), t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				failed := 0
				options := store.Defaults()
				options.BaseDelay, options.MaxDelay = time.Microsecond, time.Microsecond
				s, err := store.New(faults.Wrap(d, func(_ int, op faults.Op, _ string) faults.Fault {
					if op != faults.ReadAt || failed == times {
						return faults.Fault{}
					}
					failed++
					return faults.Fault{Err: broken}
				}), options)
				if err != nil {
					t.Fatal(err)
				}
				if err := d.Create(t.Context(), "object", []byte("bytes")); err != nil {
					t.Fatal(err)
				}
				o, err := s.Open(t.Context(), "object")
				if err != nil {
					t.Fatal(err)
				}
				p := make([]byte, 5)
				n, err := o.ReadAt(p, 0)
				switch {
				case times == 1 && (n != 5 || string(p) != "bytes" || err != nil && err != io.EOF): //nolint:errorlint // the end itself
					t.Errorf("read %d bytes, %q, error %v", n, p, err)
				case times > 1 && (err == nil || errors.Is(err, io.EOF) || !errors.Is(err, store.ErrTransient)):
					t.Errorf("read %d bytes, error %v; want one that is transient, and no end", n, err)
				}
				if err := o.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestOptionsSayAllThatIsWrong(t *testing.T) {
	if err := store.Defaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	const want = "MaxAttempts (0) must be at least 1\nBaseDelay (-1s) must not be negative\nMaxDelay (-2s) must be at least BaseDelay (-1s)\nAttemptTimeout (0s) must be above 0"
	err := store.Options{BaseDelay: -time.Second, MaxDelay: -2 * time.Second}.Validate()
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
