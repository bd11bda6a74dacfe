// Package rowfile makes Parquet files of rows, and rows of Parquet files.
//
// The schema of a file is that of its table (package schemas): a column each, dots in names make groups, lists and maps are
// as Parquet's own conventions have them, times are TIMESTAMP(MICROS, UTC). Pages are compressed with zstd.
//
// # Guarantees
//
// What a Writer was given, Each gives back. The same rows make the same bytes.
//
// # Limits
//
// A file is made in memory. Empty texts and lists are absent ones.
package rowfile
