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
	mentions := map[place][]*Event{}
	for i := range events {
		e := &events[i]
		minutes[floor(e.Time, minute)] = true
		for _, item := range e.Items {
			all, country := place{schemas.ScopeAll, "", item}, place{schemas.ScopeCountry, e.Country, item}
			if mentions[all] = append(mentions[all], e); e.Country != "" {
				mentions[country] = append(mentions[country], e)
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
		Duration: schemas.Some(float64(end-start) / 1e6), Events: schemas.Some(int64(len(events))), EventsByType: byType(events),
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

// trends returns the ranks of a window. The numbers of an item in a category are those that it has among all.
func trends(mentions map[place][]*Event, w Span, s Settings) (all []schemas.Trend) {
	categories := s.Categories(w.End)
	scopes := map[place][]schemas.Trend{}
	for p, events := range mentions {
		events = within(events, w, func(e *Event) int64 { return e.Time })
		r := schemas.Trend{Scope: p.scope, ScopeValue: p.value, ItemID: p.item, Pane: pane(w)}
		score, popularity := 0.0, 0.0
		for _, e := range events {
			if weight := s.Weights[e.Type]; weight != 0 {
				score += weight
				popularity += weight * math.Exp2(-float64(w.End-floor(e.Time, minute))/float64(s.HalfLife.Microseconds()))
			}
		}
		if score <= 0 {
			continue
		}
		r.Score, r.Popularity = schemas.Some(score), schemas.Some(popularity)
		r.Events, r.EventsByType = schemas.Some(int64(len(events))), byType(events)
		in := place{p.scope, p.value, ""}
		scopes[in] = append(scopes[in], r)
		if p.scope == schemas.ScopeAll {
			for _, r.ScopeValue = range paths(categories[p.item]) {
				r.Scope = schemas.ScopeCategory
				in = place{r.Scope, r.ScopeValue, ""}
				scopes[in] = append(scopes[in], r)
			}
		}
	}
	for _, top := range scopes {
		slices.SortFunc(top, func(a, b schemas.Trend) int {
			return cmp.Or(cmp.Compare(b.Popularity.V, a.Popularity.V), cmp.Compare(a.ItemID, b.ItemID))
		})
		top = top[:min(s.Top, len(top))]
		for i := range top {
			top[i].Rank = schemas.Some(int64(i + 1))
		}
		all = append(all, top...)
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
