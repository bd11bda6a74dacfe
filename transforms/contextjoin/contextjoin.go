// Package contextjoin fills in the context of an event: where, when and on what it happened.
//
// A Deriver takes it from the event itself: device, operating system and browser from the user agent, place from the IP address,
// local time from the offset. Interaction is a plain function of one row, to be called for each row of a chunk.
//
// An Index finds it in a stream of contexts, which is a table of the lake: the latest of the session at or before the event.
//
// # Guarantees
//
//   - What the event itself says is kept; only what is absent is filled in, and no place that contradicts it.
//   - The user agent and the IP address are cleared. No IP address is stored, nor is it part of an error or a log line.
//   - No input is refused: what cannot be understood leaves the row without that piece of context, and is counted.
//   - Strings put into a row are owned by it.
//
// # Limits
//
//   - Of a user agent the first 1,024 bytes are read; its answers are as good as github.com/mileusna/useragent, which knows today's common
//     browsers well, and rare or historic ones poorly.
//   - A place from an IP address is that of the network's exit. The geohash is as short as the accuracy of the database demands.
//
// # Metrics
//
// See Stats.
package contextjoin

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/oschwald/geoip2-golang/v2"

	"backbone/schemas"
)

// Options says what a Deriver knows and how much it remembers.
type Options struct {
	// GeoDB is the path of a MaxMind database (.mmdb) of cities or countries. Default: none, so no place is derived.
	GeoDB string
	// CacheBytes bounds what is remembered of user agents, and again of addresses, in bytes. Default: 16 MiB.
	CacheBytes int
}

// Validate reports what is wrong with o.
func (o Options) Validate() error {
	if o.CacheBytes < 0 {
		return fmt.Errorf("CacheBytes (%d) must not be negative", o.CacheBytes)
	}
	return nil
}

// Deriver derives context. Its methods are safe for many goroutines.
type Deriver struct {
	geo     *geoip2.Reader // nil: none
	devices *cache[device]
	places  *cache[place]
	tally   [lookups]atomic.Int64
	taking  sync.Mutex
	taken   Stats // by TakeStats; guarded by taking
}

// New opens the database. Call Close when done.
func New(o Options) (*Deriver, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("context: %w", err)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 16 << 20
	}
	d := &Deriver{devices: newCache(o.CacheBytes, parseDevice)}
	if o.GeoDB != "" {
		var err error
		if d.geo, err = openGeo(o.GeoDB); err != nil {
			return nil, err
		}
		d.places = newCache(o.CacheBytes, d.locate)
	}
	return d, nil
}

// openGeo opens a database and sees that it can tell places.
func openGeo(path string) (*geoip2.Reader, error) {
	db, err := geoip2.Open(path)
	if err != nil {
		return nil, fmt.Errorf("geo database %q: %w: give a .mmdb file of cities or countries", path, err)
	}
	// City reads databases of countries too. One look-up shows if this database is of another kind, or damaged at its root.
	if _, err = db.City(netip.AddrFrom4([4]byte{1, 1, 1, 1})); err == nil {
		return db, nil
	}
	if kind := (geoip2.InvalidMethodError{}); errors.As(err, &kind) {
		err = fmt.Errorf("it is of type %q, which has no places: give one of cities or countries", kind.DatabaseType)
	}
	return nil, errors.Join(fmt.Errorf("geo database %q: %w", path, err), db.Close())
}

// Close frees the database. Call it once, when no goroutine uses d any more.
func (d *Deriver) Close() error {
	if d.geo == nil {
		return nil
	}
	return d.geo.Close()
}

// Interaction fills in what is absent in r.Context and can be derived from the rest of r, and clears r.Raw.
// It may be called before Check or after it: what it fills in breaks no rule, whatever the row holds.
func (d *Deriver) Interaction(r *schemas.Interaction) { d.derive(&r.Context, &r.Raw, r.EventTime) }

// ContextEvent is Interaction for an event of a context stream.
func (d *Deriver) ContextEvent(r *schemas.ContextEvent) { d.derive(&r.Context, &r.Raw, r.EventTime) }

func (d *Deriver) derive(c *schemas.Context, raw *schemas.Raw, at schemas.Time) {
	if ua := raw.UserAgent; ua != "" && ua != "-" {
		d.devices.get(ua[:min(len(ua), maxUserAgent)]).fill(c)
	}
	if d.geo != nil && raw.IP != "" && raw.IP != "-" {
		p := d.places.get(cutAddresses(raw.IP))
		d.tally[p.lookup].Add(1)
		p.fill(c)
	}
	*raw = schemas.Raw{}
	fillLocalTime(c, at)
	c.Geohash = cutGeohash(c.Geohash)
}

// Stats counts rows by what became of their IP address. Nothing is counted without a database.
type Stats struct {
	Located int64 // the database knows the place, or at least the country
	Unknown int64 // a public address that the database does not know
	Private int64 // addresses, but none of them public
	Garbage int64 // no address at all
	Failed  int64 // the look-up failed: the database is damaged, or has no IPv6
}

// Stats returns the counts so far.
func (d *Deriver) Stats() Stats {
	return Stats{
		Located: d.tally[located].Load(),
		Unknown: d.tally[unknown].Load(),
		Private: d.tally[private].Load(),
		Garbage: d.tally[garbage].Load(),
		Failed:  d.tally[failed].Load(),
	}
}

// TakeStats returns the counts since it was last called, so that several goroutines can add them up elsewhere.
func (d *Deriver) TakeStats() Stats {
	d.taking.Lock()
	defer d.taking.Unlock()
	now, before := d.Stats(), d.taken
	d.taken = now
	return Stats{
		Located: now.Located - before.Located,
		Unknown: now.Unknown - before.Unknown,
		Private: now.Private - before.Private,
		Garbage: now.Garbage - before.Garbage,
		Failed:  now.Failed - before.Failed,
	}
}

// fillLocalTime tells the hour and the day of the week where the user was.
func fillLocalTime(c *schemas.Context, t schemas.Time) {
	if !t.Set || !c.TZOffsetMin.Set || c.LocalHour.Set && c.LocalDow.Set {
		return
	}
	const hourMicros = int64(3600e6)
	hours := floorDiv(t.V+c.TZOffsetMin.V*60e6, hourMicros)
	days := floorDiv(hours, 24)
	if !c.LocalHour.Set {
		c.LocalHour = schemas.Some(hours - days*24)
	}
	if !c.LocalDow.Set {
		// 1970-01-01 was a Thursday, which is day 4.
		weeks := floorDiv(days+3, 7)
		c.LocalDow = schemas.Some(days + 3 - weeks*7 + 1)
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// cutGeohash makes a place coarse enough to be kept, without cutting a character in two.
func cutGeohash(s string) string {
	if len(s) <= maxGeohash {
		return s
	}
	n := maxGeohash
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func setIfEmpty(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
