package store_test

import (
	"path/filepath"
	"testing"

	"backbone/transforms/lake/store"
)

func TestURLs(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	cwd, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
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
		{name: "FileWithParameter", url: "file:///lake?sync=no", err: `store "file:///lake?sync=no": unknown parameter "sync": there are none for file://`},
		{name: "UnknownScheme", url: "ftp://a/b", err: `store "ftp://a/b": unknown scheme "ftp": use a path, file://, gs:// or s3://`},
		{name: "Password", url: "s3://key:secret@bucket/lake", err: `store "s3://key:xxxxx@bucket/lake": credentials do not belong in a URL: set them in the environment`},
		{name: "PasswordInBadURL", url: "s3://key:secret@bu cket/lake", err: `store URL: invalid character " " in host name`},
		{name: "Fragment", url: "gs://bucket/a#b", err: `store "gs://bucket/a#b": unexpected "#b": write # as %23`},
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
