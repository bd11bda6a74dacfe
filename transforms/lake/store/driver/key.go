package driver

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxKey is the greatest length of a key, in bytes (that of GCS and S3).
	MaxKey = 1024
	// MaxSegment is the greatest length of one part of a key, in bytes (that of local file systems).
	MaxSegment = 255
	// TempPrefix begins the names that a backend may use for files that are not whole yet. No key may have a part like it.
	TempPrefix = ".tmp-"
)

// CheckKey returns an ErrPermanent that says what is wrong with key, or nil.
//
// A key is a relative path with "/" between its parts, at most MaxKey bytes of UTF-8 without control characters and backslashes.
// No part is empty, ".", "..", longer than MaxSegment bytes, or begins with TempPrefix. So a key made of data cannot
// leave the store, and means the same on each backend.
func CheckKey(key string) error {
	if why := wrong(key); why != "" {
		if len(key) > 2*MaxSegment {
			key = strings.ToValidUTF8(key[:2*MaxSegment], "") + "..."
		}
		return Markf(ErrPermanent, "key %q %s", key, why)
	}
	return nil
}

// CheckPrefix is CheckKey for what List takes: "", a key, the beginning of one, or a folder with "/" at its end.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckKey(strings.TrimSuffix(prefix, "/"))
}

func wrong(key string) string {
	switch {
	case key == "":
		return "is empty"
	case len(key) > MaxKey:
		return "is longer than 1024 bytes"
	case key[0] == '/':
		return "is absolute: keys are relative to the store"
	case !utf8.ValidString(key):
		return "is not valid UTF-8"
	case strings.ContainsRune(key, '\\'):
		return "has a backslash: parts are separated by /"
	case strings.ContainsFunc(key, unicode.IsControl):
		return "has a control character"
	}
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return "has an empty part"
		case part == "." || part == "..":
			return `has a part "." or ".."`
		case len(part) > MaxSegment:
			return "has a part longer than 255 bytes"
		case strings.HasPrefix(part, TempPrefix):
			return `has a part that begins with ".tmp-": those are files that are not whole yet`
		}
	}
	return ""
}
