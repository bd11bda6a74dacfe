package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"backbone/transforms/lake/store/driver"
	"backbone/transforms/lake/store/gcsstore"
	"backbone/transforms/lake/store/localstore"
	"backbone/transforms/lake/store/s3store"
)

// Open returns the store at rawURL, with the default options. It does not look whether the place is there: a
// local folder is made by the first commit, a missing bucket is an error of the first operation.
//
//	/path, relative/path, file:///path   a folder of a local disk
//	gs://bucket/prefix                   Google Cloud Storage; STORAGE_EMULATOR_HOST is honoured
//	s3://bucket/prefix                   Amazon S3, and what speaks its language and honours If-None-Match; parameters:
//	                                       region      Default: as the AWS environment has it
//	                                       endpoint    URL of another S3 service. Default: as the AWS environment has it
//	                                       path_style  true: bucket names in the path, not in the host. Default: true with an endpoint
//
// Credentials come from the environment as the clouds' own tools take them, never from the URL. A parameter that is not known is refused.
func Open(ctx context.Context, rawURL string) (*Store, error) {
	return OpenWith(ctx, rawURL, Defaults())
}

// OpenWith is Open with options.
func OpenWith(ctx context.Context, rawURL string, o Options) (*Store, error) {
	d, err := OpenDriver(ctx, rawURL)
	if err != nil {
		return nil, err
	}
	s, err := New(d, o)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return s, nil
}

// OpenDriver is the part of Open that chooses the backend: for tests that put something between it and New.
func OpenDriver(ctx context.Context, rawURL string) (Driver, error) {
	if !strings.Contains(rawURL, "://") {
		return openDriver(ctx, &url.URL{Scheme: "file", Path: rawURL})
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		// url.Error repeats the URL, which may hold a password that does not belong there.
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, fmt.Errorf("store URL: %w", err)
	}
	if u.User != nil {
		return nil, fmt.Errorf("store %q: credentials do not belong in a URL: set them in the environment", u.Scheme+"://"+u.Host+u.Path)
	}
	d, err := openDriver(ctx, u)
	if err != nil {
		// Without the query: who has put a secret there by mistake does not want it in a log.
		return nil, fmt.Errorf("store %q: %w", u.Scheme+"://"+u.Host+u.Path, err)
	}
	return d, nil
}

func openDriver(ctx context.Context, u *url.URL) (driver.Driver, error) {
	if u.Fragment != "" {
		return nil, fmt.Errorf("unexpected %q: write # as %%23", "#"+u.Fragment)
	}
	switch u.Scheme {
	case "file":
		if err := onlyParameters(u); err != nil {
			return nil, err
		}
		if u.Host != "" && u.Host != "localhost" {
			return nil, fmt.Errorf("unexpected host %q: write file:///path, or just the path", u.Host)
		}
		return localstore.New(u.Path, localstore.Options{})
	case "gs":
		if err := onlyParameters(u); err != nil {
			return nil, err
		}
		return gcsstore.New(ctx, u.Host, strings.TrimPrefix(u.Path, "/"))
	case "s3":
		if err := onlyParameters(u, "region", "endpoint", "path_style"); err != nil {
			return nil, err
		}
		query := u.Query()
		return s3store.New(ctx, u.Host, strings.TrimPrefix(u.Path, "/"), s3store.Options{
			Region:    query.Get("region"),
			Endpoint:  query.Get("endpoint"),
			PathStyle: query.Get("path_style"),
		})
	default:
		return nil, fmt.Errorf("unknown scheme %q: use a path, file://, gs:// or s3://", u.Scheme)
	}
}

// onlyParameters refuses every query parameter that is not one of known.
func onlyParameters(u *url.URL, known ...string) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	var errs []error
next:
	for name, values := range query {
		for _, k := range known {
			if name == k && len(values) == 1 {
				continue next
			}
			if name == k {
				errs = append(errs, fmt.Errorf("parameter %q is given %d times", name, len(values)))
				continue next
			}
		}
		if len(known) == 0 {
			errs = append(errs, fmt.Errorf("unknown parameter %q: there are none for %s://", name, u.Scheme))
		} else {
			errs = append(errs, fmt.Errorf("unknown parameter %q: %s:// has %s", name, u.Scheme, strings.Join(known, ", ")))
		}
	}
	return errors.Join(errs...)
}
