package windowmodel

import (
	"cmp"
	"math"
	"slices"

	"backbone/schemas"
)

// Compute returns the rows of all windows that have any.
func Compute(events []Event, s Settings) (r Results) {
	s = s.withDefaults()
	events = slices.Clone(events)
	for i := range events {
		e := &events[i]
		e.Items = distinct(append([]string{e.Item}, e.Items...))
	}
	slices.SortFunc(events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Type, b.Type), slices.Compare(a.Items, b.Items), cmp.Compare(a.Surface, b.Surface))
	})
	r.Sessions = sessions(events, s)
	minutes := map[int64]bool{} // a window has an event if it has the minute of one
	mentions := map[place][]mention{}
	for i := range events {
		e := &events[i]
		minutes[floor(e.Time, minute)] = true
		for _, item := range e.Items {
			all, country := place{schemas.ScopeAll, "", item}, place{schemas.ScopeCountry, e.Country, item}
			if mentions[all] = append(mentions[all], mention{e.Time, e.Type}); e.Country != "" {
				mentions[country] = append(mentions[country], mention{e.Time, e.Type})
			}
		}
	}
	whole := map[Span]bool{} // all windows, and whether they are of those that do not overlap
	for _, w := range s.Windows {
		size, period := w.Size.Microseconds(), w.Period.Microseconds()
		for t := range minutes {
			for start := floor(t, period); start+size > t; start -= period {
				whole[Span{start, start + size}] = whole[Span{start, start + size}] || size <= period
			}
		}
	}
	for w, alone := range whole {
		r.Trending = append(r.Trending, trends(mentions, w, s)...)
		if alone {
			r.Funnel = append(r.Funnel, funnels(within(events, w, func(e Event) int64 { return e.Time }), w)...)
			ended := within(r.Sessions, w, func(r schemas.Session) int64 { return r.EndTime.V })
			r.CoOccurrence = append(r.CoOccurrence, pairs(ended, w, s)...)
		}
	}
	return r
}

// sessions returns all sessions in the order of their ends.
func sessions(events []Event, s Settings) (all []schemas.Session) {
	his := map[[2]string][]*Event{} // by user and visitor, of which one is empty
	for i := range events {
		e := &events[i]
		who := [2]string{e.User, ""}
		if e.User == "" || s.ByVisitor && e.Visitor != "" {
			who = [2]string{"", e.Visitor}
		}
		his[who] = append(his[who], e)
	}
	for who, events := range his {
		for first, i := 0, 1; i <= len(events); i++ {
			if i == len(events) || events[i].Time-events[i-1].Time >= s.Gap.Microseconds() {
				all = append(all, session(who, events[first:i], s))
				first = i
			}
		}
	}
	slices.SortFunc(all, func(a, b schemas.Session) int {
		return cmp.Or(cmp.Compare(a.EndTime.V, b.EndTime.V), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.VisitorID, b.VisitorID))
	})
	return all
}

func session(who [2]string, events []*Event, s Settings) schemas.Session {
	start, end := events[0].Time, events[len(events)-1].Time
	r := schemas.Session{
		UserID: who[0], VisitorID: who[1], StartTime: schemas.Some(start), EndTime: schemas.Some(end),
		Duration: schemas.Some(float64(end-start) / 1e6), Events: schemas.Some(int64(len(events))), EventsByType: byType(events, func(e *Event) string { return e.Type }),
		EntrySurface: events[0].Surface, Pane: pane(s.Partition(end)),
		Converted: schemas.Some(slices.ContainsFunc(events, func(e *Event) bool { return e.Type == "purchase" })),
	}
	for _, e := range events {
		if e.Kind != schemas.Exposure {
			r.Items = append(r.Items, e.Items...)
		}
	}
	r.Items = slices.Compact(r.Items)
	r.Items = r.Items[:min(1000, len(r.Items))]
	return r
}

// place is where an item may have a rank.
type place struct{ scope, value, item string }

// mention is what counts of an event in a place.
type mention struct {
	time      int64
	eventType string
}

// trends returns the ranks of a window. The numbers of an item in a category are those that it has among all.
func trends(mentions map[place][]mention, w Span, s Settings) (all []schemas.Trend) {
	type candidate struct {
		item              string
		types             []schemas.Number
		events            int
		score, popularity float64
	}
	categories := s.Categories(w.End)
	scopes := map[[2]string][]candidate{}
	for p, events := range mentions {
		events = within(events, w, func(m mention) int64 { return m.time })
		c := candidate{item: p.item, events: len(events), types: byType(events, func(m mention) string { return m.eventType })}
		for _, n := range c.types {
			c.score += n.Value * s.Weights[n.Key]
		}
		if c.score <= 0 {
			continue
		}
		for _, e := range events {
			if weight := s.Weights[e.eventType]; weight != 0 {
				age := float64(w.End - floor(e.time, minute))
				c.popularity += weight * math.Exp2(-age/float64(s.HalfLife.Microseconds()))
			}
		}
		in := [2]string{p.scope, p.value}
		scopes[in] = append(scopes[in], c)
		if p.scope == schemas.ScopeAll {
			for _, category := range paths(categories[p.item]) {
				in := [2]string{schemas.ScopeCategory, category}
				scopes[in] = append(scopes[in], c)
			}
		}
	}
	for in, top := range scopes {
		slices.SortFunc(top, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(b.popularity, a.popularity), cmp.Compare(a.item, b.item))
		})
		for i, c := range top[:min(s.Top, len(top))] {
			all = append(all, schemas.Trend{
				Scope: in[0], ScopeValue: in[1], Rank: schemas.Some(int64(i + 1)), ItemID: c.item, Popularity: schemas.Some(c.popularity),
				Score: schemas.Some(c.score), Events: schemas.Some(int64(c.events)), EventsByType: c.types, Pane: pane(w),
			})
		}
	}
	return all
}

func funnels(events []Event, w Span) (all []schemas.Funnel) {
	counts := map[string]map[string]int64{} // by item and event type
	for _, e := range events {
		if slices.Contains([]string{"impression", "view", "click", "add_to_cart", "purchase"}, e.Type) {
			for _, item := range e.Items {
				if counts[item] == nil {
					counts[item] = map[string]int64{}
				}
				counts[item][e.Type]++
			}
		}
	}
	for item, n := range counts {
		r := schemas.Funnel{
			ItemID: item, Impressions: schemas.Some(n["impression"]), Views: schemas.Some(n["view"]), Clicks: schemas.Some(n["click"]),
			Carts: schemas.Some(n["add_to_cart"]), Purchases: schemas.Some(n["purchase"]), Pane: pane(w),
		}
		if shown, clicks := float64(n["impression"]), float64(n["click"]); shown > 0 {
			low, high := wilson(min(clicks, shown), shown)
			r.CTR, r.CTRLow, r.CTRHigh = schemas.Some(clicks/shown), schemas.Some(low), schemas.Some(high)
		}
		all = append(all, r)
	}
	return all
}

// pairs returns the pairs of sessions that ended in a window. Of one rank by sessions and similarity, the lesser id is first.
func pairs(ended []schemas.Session, w Span, s Settings) (all []schemas.CoOccurrence) {
	having := map[string][][]string{} // by item, the items of each session that has it
	for _, r := range ended {
		items := distinct(r.Items)
		items = items[:min(100, len(items))]
		for _, item := range items {
			having[item] = append(having[item], items)
		}
	}
	for item, sessions := range having {
		both := map[string]int{}
		for _, other := range slices.Concat(sessions...) {
			both[other]++
		}
		var top []schemas.CoOccurrence
		for other, n := range both {
			if other != item {
				top = append(top, schemas.CoOccurrence{
					ItemID: item, OtherItemID: other, Sessions: schemas.Some(int64(n)), ItemSessions: schemas.Some(int64(len(sessions))),
					OtherSessions: schemas.Some(int64(len(having[other]))), Pane: pane(w),
					Similarity: schemas.Some(float64(n) / math.Sqrt(float64(len(sessions))*float64(len(having[other])))),
				})
			}
		}
		slices.SortFunc(top, func(a, b schemas.CoOccurrence) int {
			return cmp.Or(cmp.Compare(b.Sessions.V, a.Sessions.V), cmp.Compare(b.Similarity.V, a.Similarity.V), cmp.Compare(a.OtherItemID, b.OtherItemID))
		})
		top = top[:min(s.TopPairs, len(top))]
		for i := range top {
			top[i].Rank = schemas.Some(int64(i + 1))
		}
		all = append(all, top...)
	}
	return all
}
