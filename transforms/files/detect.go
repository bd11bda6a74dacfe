package files

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"backbone/schemas/mappings"
)

// Compression is how a whole file is packed.
type Compression string

// The compressions.
const (
	Plain Compression = ""
	Gzip  Compression = "gz"
	Zstd  Compression = "zst"
)

var (
	gzipMagic    = []byte{0x1f, 0x8b}
	zstdMagic    = []byte{0x28, 0xb5, 0x2f, 0xfd}
	parquetMagic = []byte("PAR1")
	bom          = []byte{0xef, 0xbb, 0xbf}
)

// headBytes is how many of the first bytes of a file detect looks at.
const headBytes = 64

var extensions = map[string]mappings.Format{
	".jsonl": mappings.JSONL, ".ndjson": mappings.JSONL,
	".json":    mappings.JSON,
	".csv":     mappings.CSV,
	".tsv":     mappings.TSV,
	".parquet": mappings.Parquet,
	".yaml":    mappings.YAML, ".yml": mappings.YAML,
}

// byName tells format and compression by the options and the name of a file. named is the format that the name says, "" for none.
func byName(name string, o Options) (format, named mappings.Format, compression Compression, err error) {
	name = strings.ToLower(path.Base(name))
	switch {
	case strings.HasSuffix(name, ".gz"):
		compression = Gzip
	case strings.HasSuffix(name, ".zst"):
		compression = Zstd
	}
	named = extensions[path.Ext(strings.TrimSuffix(name, "."+string(compression)))]
	switch {
	case o.Format == "" && named == "":
		return "", "", "", fmt.Errorf("file %q: its name does not tell the format: use .jsonl, .ndjson, .json, .csv, .tsv, .parquet or .yaml (also with .gz or .zst), or a mapping that has a format", name)
	case o.Format == "", named == mappings.Parquet && isJSON(o.Format):
		format = named
	default:
		format = o.Format
	}
	return format, named, compression, nil
}

// byHead corrects the compression by the first bytes of a file.
func byHead(head []byte) Compression {
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return Gzip
	case bytes.HasPrefix(head, zstdMagic):
		return Zstd
	default:
		return Plain
	}
}

// formatByHead corrects the format by the first bytes of what a file unpacks to.
func formatByHead(format, named mappings.Format, head []byte) mappings.Format {
	switch {
	case isJSON(format) && bytes.HasPrefix(head, parquetMagic):
		return mappings.Parquet
	case format == mappings.JSONL && named == mappings.JSON && bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(head, bom), " \t\r\n"), []byte("[")):
		return mappings.JSON
	default:
		return format
	}
}

func isJSON(f mappings.Format) bool {
	return f == mappings.JSONL || f == mappings.JSON || f == mappings.Parquet
}
