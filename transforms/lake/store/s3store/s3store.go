// Package s3store keeps the lake under a prefix of an Amazon S3 bucket, or of another service that speaks S3 and honours "If-None-Match: *".
//
// A create is one PutObject with If-None-Match and a CRC-32C that the service checks, never a multipart upload: some services ignore the condition
// when a multipart upload is completed, and an upload that was cancelled leaves parts that are paid for. The client's own retries are off
// for it: after a lost reply they would report the refusal of the caller's own object, and package store settles that by reading back.
//
// Credentials, region and endpoint are those of the AWS environment (variables, shared files, roles) unless Options say otherwise.
//
// # Limits
//
//   - An object has at most 5 GiB.
//   - The bucket must be a general purpose one: directory buckets (S3 Express) do not list in order.
package s3store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"backbone/transforms/lake/store/driver"
)

// Options say where the bucket is.
type Options struct {
	// Region of the bucket. Default: that of the AWS environment.
	Region string
	// Endpoint is the URL of an S3 service that is not Amazon's, without a path. Default: that of the AWS environment, or else Amazon's.
	Endpoint string
	// PathStyle ("true", "false") tells if the bucket's name goes in the path, not in the host. Default: "true" with an endpoint, else "false".
	PathStyle string
}

// Driver is a prefix of a bucket.
type Driver struct {
	client *s3.Client
	bucket string
	url    string
	prefix string // "" or with "/" at its end
}

var _ driver.Driver = (*Driver)(nil)

// New returns a driver for the prefix ("" is the whole bucket) of a bucket. It asks for credentials, but not for the bucket.
func New(ctx context.Context, bucket, prefix string, o Options) (*Driver, error) {
	if err := driver.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	if bucket == "" {
		return nil, errors.New("the bucket is missing: write s3://bucket/prefix")
	}
	query := url.Values{}
	var load []func(*config.LoadOptions) error
	if o.Region != "" {
		query.Set("region", o.Region)
		load = append(load, config.WithRegion(o.Region))
	}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			return nil, errors.New("endpoint must be a URL like https://host:port, without credentials")
		}
		query.Set("endpoint", o.Endpoint)
	}
	pathStyle, err := strconv.ParseBool(cmp.Or(o.PathStyle, "false"))
	if err != nil {
		return nil, fmt.Errorf("path_style %q must be true or false", o.PathStyle)
	}
	if o.PathStyle != "" {
		query.Set("path_style", o.PathStyle)
	}
	env, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("AWS environment: %w", err)
	}
	if env.Region == "" {
		return nil, errors.New("no region: set ?region= in the URL, or AWS_REGION")
	}
	// Asked now, as a create would take the lack of them for something that passes.
	if _, err := env.Credentials.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("no AWS credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role): %w", err)
	}
	d := &Driver{bucket: bucket, url: "s3://" + bucket}
	if prefix = strings.TrimSuffix(prefix, "/"); prefix != "" {
		d.url += "/" + prefix
		d.prefix = prefix + "/"
	}
	if len(query) > 0 {
		d.url += "?" + query.Encode()
	}
	d.client = s3.NewFromConfig(env, func(s *s3.Options) {
		if o.Endpoint != "" {
			s.BaseEndpoint = &o.Endpoint
		}
		s.UsePathStyle = pathStyle || o.PathStyle == "" && s.BaseEndpoint != nil
	})
	return d, nil
}

// URL returns s3://bucket/prefix and the parameters that were given.
func (d *Driver) URL() string { return d.url }

// Close does nothing: idle connections close by themselves.
func (d *Driver) Close() error { return nil }

func (d *Driver) key(key string) *string { return aws.String(d.prefix + key) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Create implements driver.Driver.
func (d *Driver) Create(ctx context.Context, key string, body []byte) error {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli))
	_, err := d.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      &d.bucket,
		Key:         d.key(key),
		Body:        bytes.NewReader(body),
		IfNoneMatch: aws.String("*"),
		ContentType: aws.String("application/octet-stream"),
		// In a header, not in a trailer, which not every service reads.
		ChecksumCRC32C: aws.String(base64.StdEncoding.EncodeToString(sum)),
	}, func(o *s3.Options) { o.Retryer = aws.NopRetryer{} })
	return classify(err)
}

// Open implements driver.Driver.
func (d *Driver) Open(ctx context.Context, key string) (driver.Object, error) {
	head, err := d.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &d.bucket, Key: d.key(key)})
	if err != nil {
		return nil, classify(err)
	}
	return &object{ctx: ctx, driver: d, key: key, tag: head.ETag, size: aws.ToInt64(head.ContentLength)}, nil
}

// object reads as long as the object has the tag that it had when it was opened.
type object struct {
	ctx    context.Context
	driver *Driver
	key    string
	tag    *string
	size   int64
}

func (o *object) Size() int64  { return o.size }
func (o *object) Close() error { return nil }

func (o *object) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, driver.Markf(driver.ErrPermanent, "read at %d", off)
	}
	want := min(int64(len(p)), o.size-off)
	if want > 0 {
		got, err := o.driver.client.GetObject(o.ctx, &s3.GetObjectInput{
			Bucket:  &o.driver.bucket,
			Key:     o.driver.key(o.key),
			IfMatch: o.tag,
			Range:   aws.String(fmt.Sprintf("bytes=%d-%d", off, off+want-1)),
		})
		if err != nil {
			if err = classify(err); errors.Is(err, driver.ErrExists) {
				return 0, driver.Markf(driver.ErrNotFound, "replaced since it was opened: %v", err)
			}
			return 0, err
		}
		n, err = io.ReadFull(got.Body, p[:want])
		if err = errors.Join(err, got.Body.Close()); err != nil {
			return n, classify(fmt.Errorf("after %d of %d bytes: %w", n, want, err))
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[driver.Entry, error] {
	return d.list(ctx, prefix, nil)
}

// ListDir implements driver.Driver.
func (d *Driver) ListDir(ctx context.Context, dir string) iter.Seq2[driver.Entry, error] {
	if dir != "" {
		dir += "/"
	}
	return d.list(ctx, dir, aws.String("/"))
}

func (d *Driver) list(ctx context.Context, prefix string, delimiter *string) iter.Seq2[driver.Entry, error] {
	return func(yield func(driver.Entry, error) bool) {
		pages := s3.NewListObjectsV2Paginator(d.client, &s3.ListObjectsV2Input{Bucket: &d.bucket, Prefix: d.key(prefix), Delimiter: delimiter})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(driver.Entry{}, classify(err))
				return
			}
			// Pages are in order, but in a page the folders stand apart.
			entries := make([]driver.Entry, 0, len(page.Contents)+len(page.CommonPrefixes))
			for _, o := range page.Contents {
				entries = append(entries, driver.Entry{
					Key:      strings.TrimPrefix(aws.ToString(o.Key), d.prefix),
					Size:     aws.ToInt64(o.Size),
					Modified: aws.ToTime(o.LastModified),
				})
			}
			for _, p := range page.CommonPrefixes {
				entries = append(entries, driver.Entry{Key: strings.TrimPrefix(aws.ToString(p.Prefix), d.prefix)})
			}
			slices.SortFunc(entries, func(a, b driver.Entry) int { return cmp.Compare(a.Key, b.Key) })
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Sync does nothing: what can be seen in a bucket is durable.
func (d *Driver) Sync(context.Context, string) error { return nil }

// Remove implements driver.Driver.
func (d *Driver) Remove(ctx context.Context, key string) error {
	_, err := d.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &d.bucket, Key: d.key(key)})
	if err = classify(err); errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	return err
}

// classify marks an error with what a caller can do about it. One without an answer of the service stays unknown.
func classify(err error) error {
	var api smithy.APIError
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var noBucket *types.NoSuchBucket
	switch status := answer.HTTPStatusCode(); {
	case errors.As(err, &noBucket), code == "NoSuchBucket":
		return driver.Mark(driver.ErrPermanent, err)
	case status == http.StatusNotFound:
		return driver.Mark(driver.ErrNotFound, err)
	case status == http.StatusPreconditionFailed:
		return driver.Mark(driver.ErrExists, err)
	case status == http.StatusConflict, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return driver.Mark(driver.ErrTransient, err)
	case slices.Contains(passing, code):
		return driver.Mark(driver.ErrTransient, err)
	case status >= 400:
		return driver.Mark(driver.ErrPermanent, err)
	default:
		return err // The answer was good, but could not be read to its end.
	}
}

// passing are the codes of answers 400 that trying again may change: the body came too slowly, or damaged; the session ended.
var passing = []string{"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "ExpiredToken"}
