package schemas

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/text/unicode/norm"
)

func TestPlainText(t *testing.T) {
	tests := []struct{ name, html, want string }{
		{"no html", "a cup  of\ttea ", "a cup of tea"},
		{"markup", "<p>A <b>bold</b> claim.</p><p>And another</p>", "A bold claim.\nAnd another"},
		{"entities", "Salt &amp; pepper &lt;3 &eacute;", "Salt & pepper <3 é"},
		{"line breaks", "one<br>two<br/>three", "one\ntwo\nthree"},
		{"lists", "<ul><li>red</li><li>green</li></ul>", "red\ngreen"},
		{"scripts", "before<script>alert('<p>')</script><style>p{}</style> after", "before after"},
		{"comments", "a<!-- hidden -->b", "ab"},
		{"not closed", "<p>open <i>tags", "open tags"},
		{"a lone angle", "3 < 4 and 5 > 4", "3 < 4 and 5 > 4"},
		{"script not closed", "text<script>var x", "text"},
		{"nothing", "<div></div>", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := PlainText(test.html); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if got := PlainText(test.want); test.name != "entities" && test.name != "a lone angle" && got != test.want {
				t.Errorf("a second time it is %q, was %q", got, test.want)
			}
		})
	}
}

func TestNormalizeItem(t *testing.T) {
	const decomposed, composed = "Cafe\u0301", "Caf\u00e9"
	r := Item{
		ItemID: decomposed, Title: "  " + decomposed + " ", Brand: decomposed, Content: "<p>" + decomposed + "</p>",
		Categories: []string{"Food>Drinks >  Coffee", "Food > Drinks > Coffee", "", "Alone", "> Odd >"},
		Tags:       []string{"b", "a", "b", " a "},
		ImageURIs:  []string{"https://x/2", "https://x/1", "https://x/2"},
		Attributes: []Pair{{"z", "1"}, {"a", decomposed}, {"z", "2"}, {"empty", ""}},
		Numbers:    []Number{{"z", 1}, {"a", 2}, {"z", 3}},
		Extra:      []Pair{{"z", " 1"}, {"a", "2 "}},
	}
	r.Normalize()
	want := Item{
		ItemID: decomposed, // interactions have it like that
		Title:  composed, Brand: composed, Content: composed,
		Categories: []string{"Food > Drinks > Coffee", "Alone", "Odd"},
		Tags:       []string{"a", "b"},
		ImageURIs:  []string{"https://x/2", "https://x/1"},
		Attributes: []Pair{{"a", composed}, {"z", "1"}},
		Numbers:    []Number{{"a", 2}, {"z", 1}},
		Extra:      []Pair{{"a", "2 "}, {"z", " 1"}},
	}
	if diff := cmp.Diff(want, r, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDeletedRowsKeepNothing(t *testing.T) {
	stamp := Stamp{UpdatedTime: Some[int64](5), IsDeleted: Some(true)}
	item := Item{ItemID: "i", Stamp: stamp, Title: "secret", Attributes: []Pair{{"a", "b"}}}
	item.Normalize()
	if diff := cmp.Diff(Item{ItemID: "i", Stamp: stamp}, item, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("item (-want +got):\n%s", diff)
	}
	user := User{UserID: "u", Stamp: stamp, Country: "AT", Segments: []string{"a"}}
	user.Normalize()
	if diff := cmp.Diff(User{UserID: "u", Stamp: stamp}, user, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("user (-want +got):\n%s", diff)
	}
}

func TestNormalizeUser(t *testing.T) {
	r := User{UserID: "u", Country: " AT ", Segments: []string{"new", "big", "new"}, VisitorIDs: []string{"2", "1", "2"}, Consent: []string{"ads", "ads"}}
	r.Normalize()
	want := User{UserID: "u", Country: "AT", Segments: []string{"big", "new"}, VisitorIDs: []string{"1", "2"}, Consent: []string{"ads"}}
	if diff := cmp.Diff(want, r, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Texts that are as they should be take a shorter way, to the same end.
func TestShortWaysEndTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{" ", " ", "\n", "\t", "\r", "\u00a0", "\u2028", "a", "b", "tea", "é", "e\u0301", "\u0301", "Å", "\u212b", "日本", "ʱ", "ͯ", "\xff", "\x85", "\xcb"}
	for range 20_000 {
		var text strings.Builder
		for range random.IntN(8) {
			text.WriteString(pieces[random.IntN(len(pieces))])
		}
		s := text.String()
		if got, want := normal(s), norm.NFC.String(strings.TrimSpace(s)); got != want {
			t.Fatalf("normal(%q) = %q, want %q", s, got, want)
		}
		// The comment is not read, but it is HTML.
		if got, want := PlainText(s), PlainText(s+"<!-- -->"); got != want {
			t.Fatalf("PlainText(%q) = %q, want %q", s, got, want)
		}
		var kept []string
		for line := range strings.SplitSeq(s, "\n") {
			if words := strings.Fields(line); len(words) > 0 {
				kept = append(kept, strings.Join(words, " "))
			}
		}
		if got, want := lines(s), strings.Join(kept, "\n"); got != want {
			t.Fatalf("lines(%q) = %q, want %q", s, got, want)
		}
	}
}
