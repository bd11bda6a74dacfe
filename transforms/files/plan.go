package files

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sync/errgroup"

	"backbone/schemas/mappings"
	"backbone/transforms/lake/store"
)

// looking is how many files Plan looks into at once.
const looking = 16

// Plan finds the files that the globs match and cuts them into tasks, sorted by URL and place. A file that several globs match is read once.
//
// A glob is a path, file://, gs:// or s3:// URL with "*" and "?" (within a part of the path), "[a-z]", "{a,b}" and "**" (any number of
// parts). Names that begin with "." or "_", and what is in folders of such names, are matched only where the glob has a part that
// begins with it. Parameters of package store may follow a URL of an object store: s3://shop/events/*.jsonl?region=eu-west-1.
//
// There is a task at least for each file. A glob that matches no file is an error. Only a file that is large enough to be cut is looked into.
func Plan(ctx context.Context, globs []string, o Options) ([]Task, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("options of files: %w", err)
	}
	if len(globs) == 0 {
		return nil, errors.New("no input files: give at least one path or glob")
	}
	open := stores{}
	parts, err := plan(ctx, open, globs, func(string) Options { return o })
	if err = errors.Join(err, open.Close()); err != nil {
		return nil, err
	}
	return slices.Concat(parts...), nil
}

// PlanParts is Plan for the files of a mapping that may have side files: it returns the tasks of each part of the mapping, by the number
// that Mapping.For gives. Of o the sizes are taken; the rest is as the part says, whose tasks are to be read with ForPart.
func PlanParts(ctx context.Context, globs []string, m *mappings.Mapping, o Options) ([][]Task, error) {
	if err := ForPart(m, o).Validate(); err != nil {
		return nil, fmt.Errorf("options of files: %w", err)
	}
	if len(globs) == 0 {
		return nil, errors.New("no input files: give at least one path or glob")
	}
	open := stores{}
	found, err := plan(ctx, open, globs, func(url string) Options {
		sub, _ := m.For(url)
		return ForPart(sub, o)
	})
	if err = errors.Join(err, open.Close()); err != nil {
		return nil, err
	}
	tasks := make([][]Task, 1+len(m.Join))
	for _, of := range found {
		_, part := m.For(of[0].URL)
		tasks[part] = append(tasks[part], of...)
	}
	return tasks, nil
}

// plan returns the tasks of each file.
func plan(ctx context.Context, open stores, globs []string, options func(url string) Options) ([][]Task, error) {
	var files []Task
	for _, glob := range globs {
		found, err := find(ctx, open, glob)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	slices.SortFunc(files, func(a, b Task) int { return strings.Compare(a.URL, b.URL) })
	files = slices.CompactFunc(files, func(a, b Task) bool { return a.URL == b.URL })

	parts := make([][]Task, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(looking)
	for i, f := range files {
		group.Go(func() (err error) {
			parts[i], err = split(ctx, open, f, options(f.URL))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return parts, nil
}

// find returns a whole task without a format for each file that a glob matches.
func find(ctx context.Context, open stores, glob string) ([]Task, error) {
	var files []Task
	var err error
	scheme, rest, isURL := strings.Cut(glob, "://")
	switch {
	case !isURL:
		files, err = findLocal(glob)
	case scheme == "file":
		var name string
		if name, err = url.PathUnescape(strings.TrimPrefix(rest, "localhost")); err == nil {
			files, err = findLocal(name)
		}
	case isRemote(glob):
		files, err = findRemote(ctx, open, glob)
	default:
		err = fmt.Errorf("unknown scheme %q: use a path, file://, gs:// or s3://", scheme)
	}
	if err == nil && len(files) == 0 {
		err = errors.New("no file matches")
	}
	if err != nil {
		return nil, fmt.Errorf("input %q: %w", glob, err)
	}
	return files, nil
}

func findLocal(glob string) ([]Task, error) {
	if !doublestar.ValidatePathPattern(glob) {
		return nil, errors.New("the glob is not well-formed: a [ or { is not closed")
	}
	// A name that stands there as it is may hold characters that mean something in a glob.
	if info, err := os.Stat(glob); err == nil {
		if info.IsDir() {
			return nil, fmt.Errorf("is a folder: for the files in it write %q", filepath.Join(glob, "*"))
		}
		file, err := localTask(glob)
		return []Task{file}, err
	}
	names, err := doublestar.FilepathGlob(glob, doublestar.WithFilesOnly(), doublestar.WithFailOnIOErrors())
	if err != nil {
		return nil, withoutPath(err)
	}
	base, pattern := doublestar.SplitPattern(filepath.ToSlash(glob))
	var files []Task
	for _, name := range names {
		rel, err := filepath.Rel(filepath.FromSlash(base), name)
		if err != nil {
			return nil, err
		}
		if hidden(filepath.ToSlash(rel), pattern) {
			continue
		}
		file, err := localTask(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

func localTask(name string) (Task, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return Task{}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return Task{}, err
	}
	return Task{URL: name, Size: info.Size(), Modified: info.ModTime().UnixMicro()}, nil
}

// parameters tells those of a URL from a "?" of a glob.
var parameters = regexp.MustCompile(`\?([a-z_]+=[^?&/]*(?:&[a-z_]+=[^?&]*)*|[a-z_]+=.*://.*)$`)

func findRemote(ctx context.Context, open stores, glob string) ([]Task, error) {
	params := ""
	if at := parameters.FindStringSubmatchIndex(glob); at != nil {
		params, glob = glob[at[2]:], glob[:at[0]]
	}
	root, keys := splitRemote(glob)
	if !doublestar.ValidatePattern(keys) {
		return nil, errors.New("the glob is not well-formed: a [ or { is not closed")
	}
	bucket, err := open.bucket(ctx, root, params)
	if err != nil {
		return nil, err
	}
	base, pattern := doublestar.SplitPattern(keys)
	prefix := base + "/"
	if base == "." {
		base, prefix = "", ""
	}
	// The plain text that the first part with a wildcard begins with makes the list shorter. Package store does not list by all texts.
	plain, _, _ := strings.Cut(pattern, "/")
	if i := strings.IndexAny(plain, `*?[{\`); i >= 0 {
		plain = plain[:i]
	}
	if plain != "" && store.CheckKey(prefix+plain) == nil {
		prefix += plain
	}
	var files []Task
	for entry, err := range bucket.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		matches := entry.Key == keys || doublestar.MatchUnvalidated(keys, entry.Key) && !hidden(strings.TrimPrefix(strings.TrimPrefix(entry.Key, base), "/"), pattern)
		if matches {
			files = append(files, Task{URL: root + "/" + entry.Key, Parameters: params, Size: entry.Size, Modified: entry.Modified.UnixMicro()})
		}
	}
	return files, nil
}

// hidden tells if a name that a pattern matches is one that other programs keep for themselves, such as "_SUCCESS", ".part" or
// "_temporary/part-0", and that the pattern does not ask for.
func hidden(name, pattern string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] != '.' && part[0] != '_' {
			continue
		}
		asked := false
		for p := range strings.SplitSeq(pattern, "/") {
			asked = asked || p != "" && p[0] == part[0]
		}
		if !asked {
			return true
		}
	}
	return false
}

// split cuts a file into tasks.
func split(ctx context.Context, open stores, f Task, o Options) (tasks []Task, err error) {
	var named mappings.Format
	f.Format, named, f.Compression, err = byName(f.URL, o)
	if err != nil {
		return nil, err
	}
	f.Whole, f.End = true, f.Size
	if f.Format == mappings.CSV || f.Format == mappings.TSV {
		f.Columns = o.Columns
	}
	if f.Size <= o.RangeBytes {
		return []Task{f}, nil
	}

	file, err := open.open(ctx, f.URL, f.Parameters)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	head, err := readHead(file)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", f.URL, err)
	}
	if f.Compression = byHead(head); f.Compression != Plain {
		return []Task{f}, nil
	}
	f.Format = formatByHead(f.Format, named, head)
	switch {
	case f.Format == mappings.Parquet:
		return splitParquet(f, file, o.RangeBytes)
	case f.Format == mappings.JSONL, f.Format == mappings.TSV, f.Format == mappings.CSV && o.Splittable:
		return splitLines(ctx, f, file, o)
	default:
		return []Task{f}, nil
	}
}

// splitLines cuts a file that has one record a line into ranges.
func splitLines(ctx context.Context, f Task, file store.Object, o Options) ([]Task, error) {
	start := int64(0)
	if f.Format != mappings.JSONL && f.Columns == nil {
		w := &window{src: &exactly{file: file, size: f.Size}, buf: make([]byte, tailBytes), step: tailBytes}
		columns, err := NewReader(o).header(ctx, f, w)
		if err != nil {
			return nil, failed(f, w, err)
		}
		f.Columns, start = columns, w.at()
	}
	f.Whole = false
	tasks := make([]Task, 0, (f.Size-start)/o.RangeBytes+1)
	for {
		f.Start, f.End = start, min(start+o.RangeBytes, f.Size)
		tasks = append(tasks, f)
		if start = f.End; start == f.Size {
			return tasks, nil
		}
	}
}
