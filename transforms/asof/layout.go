package asof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"backbone/schemas"
	"backbone/transforms/lake/store"
)

// The names in a table's folder. Those that begin with "_" are no data.
const (
	logFolder   = "_versions"
	successName = "_SUCCESS"
	planPrefix  = "_plan-"
)

// folderTime is how the time of a version is written in the name of its folder.
const folderTime = "20060102T150405Z"

// FolderOf returns the name of the folder of a version, within its table. Times are whole seconds.
func FolderOf(asOf time.Time) string { return "as_of=" + asOf.UTC().Format(folderTime) }

// parseFolder reads what FolderOf wrote.
func parseFolder(name string) (asOf time.Time, ok bool) {
	text, ok := strings.CutPrefix(name, "as_of=")
	if !ok {
		return time.Time{}, false
	}
	asOf, err := time.Parse(folderTime, text)
	return asOf, err == nil
}

// partName returns the name of the file of a shard.
func partName(shard, shards int) string {
	return fmt.Sprintf("part-%05d-of-%05d.parquet", shard, shards)
}

// Part is a file of a version.
type Part struct {
	Shard int   `json:"shard"`
	Rows  int64 `json:"rows"`
	Live  int64 `json:"live"` // of Rows: not deleted
	Bytes int64 `json:"bytes"`
}

// Counts say what an export has changed, in rows.
type Counts struct {
	Live      int64 `json:"live"`      // in the version, not deleted
	Deleted   int64 `json:"deleted"`   // tombstones in the version
	Closed    int64 `json:"closed"`    // versions of rows added to the history
	Inserted  int64 `json:"inserted"`  // new, or there again
	Updated   int64 `json:"updated"`   // changed
	Removed   int64 `json:"removed"`   // deleted by the export's word
	Absent    int64 `json:"absent"`    // deleted since a full export did not have them
	Late      int64 `json:"late"`      // put into the history: older than what was known
	Unchanged int64 `json:"unchanged"` // known, or one of several for an id
	Joined    int64 `json:"joined"`    // records that were added to rows of the same id
	Unjoined  int64 `json:"unjoined"`  // those for which there was no row
	Before    int64 `json:"before"`    // live rows in the version before
}

// Add adds up.
func (c *Counts) Add(o Counts) {
	c.Live += o.Live
	c.Deleted += o.Deleted
	c.Closed += o.Closed
	c.Inserted += o.Inserted
	c.Updated += o.Updated
	c.Removed += o.Removed
	c.Absent += o.Absent
	c.Late += o.Late
	c.Unchanged += o.Unchanged
	c.Joined += o.Joined
	c.Unjoined += o.Unjoined
	c.Before += o.Before
}

// Version is one version of a table, as its line in the log says: the file <table>/_versions/<number>.json. To make that file is
// to commit the version; nothing in it differs between two runs over the same exports.
type Version struct {
	Number int    `json:"number"` // from 1
	AsOf   string `json:"as_of"`  // as in the name of its folder
	Mode   Mode   `json:"mode"`
	Input  string `json:"input"` // fingerprint of mode, mapping and exports
	Shards int    `json:"shards"`
	Schema int    `json:"schema_version"`
	Counts Counts `json:"counts"`
	// Current are the files of the state, History those of the versions of rows that were closed.
	Current []Part `json:"current"`
	History []Part `json:"history"`
	// Histories are the times of all versions with a history, this one's included.
	Histories []string `json:"histories"`
}

// Time returns the time that the version is as of.
func (v *Version) Time() time.Time {
	t, err := time.Parse(folderTime, v.AsOf)
	if err != nil {
		return time.Time{} // readVersion has refused it
	}
	return t
}

// Folder returns the folder of the version's state.
func (v *Version) Folder(table string) string { return table + "/as_of=" + v.AsOf }

func logKey(table string, number int) string {
	return fmt.Sprintf("%s/%s/%06d.json", table, logFolder, number)
}

// Newest returns the newest version of a table; nil where there is none.
func Newest(ctx context.Context, st *store.Store, table string) (*Version, error) {
	numbers, err := versionNumbers(ctx, st, table)
	if err != nil || len(numbers) == 0 {
		return nil, err
	}
	return readVersion(ctx, st, table, numbers[len(numbers)-1])
}

// Versions returns all versions of a table, the oldest first. The files of old ones may have been removed.
func Versions(ctx context.Context, st *store.Store, table string) ([]*Version, error) {
	versions, _, err := lastVersions(ctx, st, table, math.MaxInt)
	return versions, err
}

// lastVersions returns the newest versions of a table, n at most, the oldest first, and whether they are all there are.
func lastVersions(ctx context.Context, st *store.Store, table string, n int) (versions []*Version, all bool, err error) {
	numbers, err := versionNumbers(ctx, st, table)
	if err != nil {
		return nil, false, err
	}
	all = len(numbers) <= n
	for _, number := range numbers[max(0, len(numbers)-n):] {
		v, err := readVersion(ctx, st, table, number)
		if err != nil {
			return nil, false, err
		}
		versions = append(versions, v)
	}
	return versions, all, nil
}

// versionNumbers returns the numbers of the versions in the log, ascending.
func versionNumbers(ctx context.Context, st *store.Store, table string) ([]int, error) {
	var numbers []int
	for e, err := range st.ListDir(ctx, table+"/"+logFolder) {
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("versions of table %q: %w", table, err)
		}
		name := strings.TrimPrefix(e.Key, table+"/"+logFolder+"/")
		if n, err := strconv.Atoi(strings.TrimSuffix(name, ".json")); err == nil && e.Key == logKey(table, n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// maxLogBytes bounds a line of the log.
const maxLogBytes = 64 << 20

func readVersion(ctx context.Context, st *store.Store, table string, number int) (*Version, error) {
	key := logKey(table, number)
	body, err := st.ReadAll(ctx, key, maxLogBytes)
	if err != nil {
		return nil, fmt.Errorf("version %d of table %q: %w", number, table, err)
	}
	v := &Version{}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("version %d of table %q in %s: %w", number, table, key, err)
	}
	if _, err := time.Parse(folderTime, v.AsOf); err != nil || v.Number != number || v.Shards < 1 {
		return nil, fmt.Errorf("version %d of table %q in %s: number %d, as of %q, %d shards", number, table, key, v.Number, v.AsOf, v.Shards)
	}
	return v, nil
}

// commitVersion adds a version to the log, and says whether it is there now. The other outcome is that somebody else has
// committed another version with its number.
func commitVersion(ctx context.Context, st *store.Store, table string, v *Version) (bool, error) {
	body, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return false, err
	}
	outcome, err := st.Commit(ctx, logKey(table, v.Number), append(body, '\n'))
	if err != nil {
		return false, fmt.Errorf("commit version %d of table %q: %w", v.Number, table, err)
	}
	return outcome == store.Created, nil
}

// mark puts an empty file _SUCCESS into the folders of a version. It is for readers that know no log.
func mark(ctx context.Context, st *store.Store, table string, v *Version) error {
	folders := []string{v.Folder(table)}
	if len(v.History) > 0 {
		folders = append(folders, v.Folder(schemas.HistoryOf(table)))
	}
	for _, folder := range folders {
		key := folder + "/" + successName
		if there, err := st.Exists(ctx, key); err != nil || there {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := st.Commit(ctx, key, nil); err != nil {
			return err
		}
	}
	return nil
}

// removeFolder removes what is in a folder: first the mark that it is complete, so that nobody takes the rest for all of it.
func removeFolder(ctx context.Context, st *store.Store, folder string) error {
	if err := st.Remove(ctx, folder+"/"+successName); err != nil {
		return err
	}
	var keys []string
	for e, err := range st.List(ctx, folder+"/") {
		if err != nil {
			return err
		}
		keys = append(keys, e.Key)
	}
	slices.Reverse(keys) // the plan, whose name begins with "_", goes last: as long as it is there, what is left is known to be old
	for _, key := range keys {
		if err := st.Remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// folders returns the times of the folders that a table has, and their keys.
func folders(ctx context.Context, st *store.Store, table string) (map[string]time.Time, error) {
	all := map[string]time.Time{}
	for e, err := range st.ListDir(ctx, table) {
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		key := strings.TrimSuffix(e.Key, "/")
		if asOf, ok := parseFolder(strings.TrimPrefix(key, table+"/")); ok {
			all[key] = asOf
		}
	}
	return all, nil
}
