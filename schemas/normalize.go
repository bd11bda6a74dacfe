package schemas

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/text/unicode/norm"
)

// Normalize brings a row into its normal form, so that a source that writes the same otherwise has not changed it. It is Clean
// and Arrange.
func (r *Item) Normalize() {
	r.Clean()
	r.Arrange()
}

// Clean gives texts that mean the same the same form: NFC (Unicode TR15), no white space around them, paths of categories
// with " > ", content as plain text. Ids are left alone: interactions have them as they are. Of a deleted row it keeps nothing
// but its id and stamp. Elements of lists stay where they are, so what Check says of one is true for who sent it.
func (r *Item) Clean() {
	if r.Stamp.IsDeleted.V {
		id, stamp := r.ItemID, r.Stamp
		r.Reset()
		r.ItemID, r.Stamp = id, stamp
		return
	}
	for _, s := range []*string{&r.ItemType, &r.Title, &r.Brand, &r.Currency, &r.Availability, &r.Language, &r.URI} {
		*s = normal(*s)
	}
	r.Content = normal(PlainText(r.Content))
	for i, c := range r.Categories {
		r.Categories[i] = categoryPath(normal(c))
	}
	normalAll(r.Tags)
	normalAll(r.ImageURIs)
	normalPairs(r.Attributes)
	normalNumbers(r.Numbers)
}

// Arrange sorts what is a set or a map, and removes from lists what is empty or there twice.
func (r *Item) Arrange() {
	r.Categories = distinct(r.Categories)
	r.Tags = set(r.Tags)
	r.ImageURIs = distinct(r.ImageURIs)
	r.Attributes, r.Numbers = sortPairs(r.Attributes), sortNumbers(r.Numbers)
	sortExtra(r.Extra)
}

// Normalize brings a row into its normal form; see that of Item.
func (r *User) Normalize() {
	r.Clean()
	r.Arrange()
}

// Clean gives texts that mean the same the same form; see that of Item.
func (r *User) Clean() {
	if r.Stamp.IsDeleted.V {
		id, stamp := r.UserID, r.Stamp
		r.Reset()
		r.UserID, r.Stamp = id, stamp
		return
	}
	for _, s := range []*string{&r.Country, &r.Region, &r.Language, &r.Timezone, &r.AgeBand, &r.Plan} {
		*s = normal(*s)
	}
	normalAll(r.Segments)
	normalAll(r.Consent)
	normalPairs(r.Attributes)
	normalNumbers(r.Numbers)
}

// Arrange sorts what is a set or a map; see that of Item.
func (r *User) Arrange() {
	r.VisitorIDs, r.Segments, r.Consent = set(r.VisitorIDs), set(r.Segments), set(r.Consent)
	r.Attributes, r.Numbers = sortPairs(r.Attributes), sortNumbers(r.Numbers)
	sortExtra(r.Extra)
}

func normalAll(list []string) {
	for i, s := range list {
		list[i] = normal(s)
	}
}

func normalPairs(pairs []Pair) {
	for i, p := range pairs {
		pairs[i] = Pair{normal(p.Key), normal(p.Value)}
	}
}

func normalNumbers(numbers []Number) {
	for i := range numbers {
		numbers[i].Key = normal(numbers[i].Key)
	}
}

// normal returns a text in NFC without white space around it.
func normal(s string) string {
	s = strings.TrimSpace(s)
	if isLatin(s) || norm.NFC.IsNormalString(s) {
		return s
	}
	return norm.NFC.String(s)
}

// isLatin tells if a text has no character from U+0300 on. All of those before are in NFC, whatever is beside them.
func isLatin(s string) bool {
	for i := range len(s) {
		if s[i] >= 0xcc { // the first byte of U+0300 in UTF-8
			return false
		}
	}
	return true
}

// categoryPath writes a path of categories with " > " between its levels, and without empty ones.
func categoryPath(s string) string {
	if !strings.Contains(s, ">") {
		return s
	}
	levels := strings.Split(s, ">")
	kept := levels[:0]
	for _, l := range levels {
		if l = strings.TrimSpace(l); l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, " > ")
}

// set returns the distinct elements of a list, sorted.
func set(list []string) []string {
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) > 0 && list[0] == "" {
		list = list[1:]
	}
	return list
}

// distinct removes what is empty or was there before. It keeps the order.
func distinct(list []string) []string {
	kept := list[:0]
	for _, s := range list {
		if s != "" && !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	return kept
}

// sortPairs sorts by name. Of a name that is there twice, the first is kept.
func sortPairs(pairs []Pair) []Pair {
	kept := pairs[:0]
	for _, p := range pairs {
		if p.Key != "" && p.Value != "" {
			kept = append(kept, p)
		}
	}
	slices.SortStableFunc(kept, func(a, b Pair) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(kept, func(a, b Pair) bool { return a.Key == b.Key })
}

// sortExtra sorts what has no column: a source that writes its members in another order has not changed it.
func sortExtra(extra []Pair) {
	slices.SortStableFunc(extra, func(a, b Pair) int { return strings.Compare(a.Key, b.Key) })
}

func sortNumbers(numbers []Number) []Number {
	slices.SortStableFunc(numbers, func(a, b Number) int { return cmp.Compare(a.Key, b.Key) })
	return slices.CompactFunc(numbers, func(a, b Number) bool { return a.Key == b.Key })
}

// blocks are the elements that begin a line of their own.
var blocks = map[atom.Atom]bool{
	atom.P: true, atom.Br: true, atom.Div: true, atom.Li: true, atom.Ul: true, atom.Ol: true, atom.Tr: true, atom.Table: true,
	atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true, atom.Hr: true, atom.Blockquote: true,
	atom.Section: true, atom.Article: true, atom.Header: true, atom.Footer: true, atom.Pre: true, atom.Dt: true, atom.Dd: true,
}

// PlainText returns the text of HTML as people read it: without markup, scripts and styles, with its entities resolved, a
// line for each block and one space between words. A text that is no HTML is only freed of needless white space.
func PlainText(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(s))
	hidden := 0 // elements around whose text is not read
	for {
		switch z.Next() {
		case html.ErrorToken:
			return lines(b.String())
		case html.TextToken:
			if hidden == 0 {
				b.Write(z.Text())
			}
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
			t := z.Token()
			switch {
			case t.DataAtom == atom.Script || t.DataAtom == atom.Style:
				if t.Type == html.StartTagToken {
					hidden++
				} else if t.Type == html.EndTagToken && hidden > 0 {
					hidden--
				}
			case blocks[t.DataAtom]:
				b.WriteByte('\n')
			}
		}
	}
}

// lines puts one space between the words of a line, and drops lines without any.
func lines(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	gap := byte(0) // what is between the last word and the next
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\n':
			gap = '\n'
		case unicode.IsSpace(r):
			if gap == 0 {
				gap = ' '
			}
		default:
			if gap != 0 && b.Len() > 0 {
				b.WriteByte(gap)
			}
			gap = 0
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// isPlain tells if a text is as PlainText would make it: without anything that HTML reads otherwise, and with one space or
// line break between words. It may be wrong about one that is.
func isPlain(s string) bool {
	before := byte('\n')
	for i := range len(s) {
		switch c := s[i]; c {
		case ' ', '\n':
			if before == ' ' || before == '\n' {
				return false
			}
		case '<', '&', '\r', '\t', '\v', '\f', 0:
			return false
		case 0xc2, 0xe1, 0xe2, 0xe3: // in UTF-8, all other spaces begin with one of these
			if r, _ := utf8.DecodeRuneInString(s[i:]); unicode.IsSpace(r) {
				return false
			}
		}
		before = s[i]
	}
	return s == "" || before != ' ' && before != '\n'
}
