package generator

import (
	"math"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// vocabulary is the words of a language that does not exist, each as often as it is drawn. They are in NFC.
type vocabulary []string

// draws is how many words a vocabulary holds, the most frequent ones many times.
const draws = 1 << 15

// vocabularyOf returns the vocabulary of a locale, such as de-DE.
func vocabularyOf(locale string) vocabulary {
	if v, ok := vocabularies()[locale[:2]]; ok {
		return v
	}
	return vocabularies()[""]
}

// word returns a word, the one at rank i with a probability in proportion to about 1/i.
func (v vocabulary) word(d *dice) string { return v[d.roll()>>1%draws] }

// vocabularies are those of the languages by their first two letters; "" is that of the others.
var vocabularies = sync.OnceValue(func() map[string]vocabulary {
	latin := strings.Fields("ba be bo da de di do fa fi ga go ha he ja ka ke ki ko la le li lo ma me mi mo na ne ni no pa pe po ra re ri ro sa se si so ta te ti to va ve vi wa wo za")
	with := func(more string) []string { return append(strings.Fields(more), latin...) }
	return map[string]vocabulary{
		"":   newVocabulary(with("the and for"), 1),
		"de": newVocabulary(with("für grö ße schö nä über mü ße lich keit"), 2),
		"fr": newVocabulary(with("é è ê çon à où né cœur eau ât"), 3),
		"sv": newVocabulary(with("å ä ö för på ång ör"), 4),
		"fi": newVocabulary(with("ää yö kää nen llä hyv"), 5),
		"pt": newVocabulary(with("ção ã õ é lh nh vó"), 6),
		"zh": newVocabulary(strings.Fields("的 商 品 新 大 小 红 色 鞋 衣 水 杯 书 山 人 家 电 手 机 木 玉 茶"), 7),
		"ja": newVocabulary(strings.Fields("の 商 品 が ぎ ぱ ガ パ 靴 本 茶 木 水 器 新 しい 赤 い ー ル"), 8),
	}
})

// newVocabulary makes words of one to some nine syllables, the shortest first.
func newVocabulary(syllables []string, seed uint64) vocabulary {
	const count = 2000
	d := newDice(seed)
	var words []string
	seen := map[string]bool{}
	for tries := 0; len(words) < count; tries++ {
		var b strings.Builder
		for range 1 + tries/300 + d.below(2) { // longer as there are no more that are short
			b.WriteString(syllables[d.below(len(syllables))])
		}
		if !seen[b.String()] {
			seen[b.String()] = true
			words = append(words, b.String())
		}
	}
	v := make(vocabulary, draws)
	for i := range v {
		v[i] = words[int(math.Exp((float64(i)+0.5)/draws*math.Log(count)))-1]
	}
	return v
}

// words appends so many words with a space between them.
func (v vocabulary) words(b []byte, d *dice, n int) []byte {
	for i := range n {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, v.word(d)...)
	}
	return b
}

// prose returns a text of sentences and paragraphs that has about so many bytes, at most 2,000. It is in normal form.
func (v vocabulary) prose(d *dice, size int) string {
	b := make([]byte, 0, size+200)
	for len(b) < size {
		if len(b) > 0 {
			b = append(b, "    \n"[d.below(5)])
		}
		start := len(b)
		b = v.words(b, d, 4+d.below(12))
		if d.one(8) {
			b = append(b, " & "...)
			b = append(b, v.word(d)...)
		}
		copy(b[start:], capital(string(b[start:])))
		b = append(b, '.')
	}
	if len(b) > 2000 {
		b = b[:2000]
		for !utf8.Valid(b) {
			b = b[:len(b)-1]
		}
	}
	return strings.TrimSpace(string(b))
}

// capital returns s with its first letter in upper case, where that has as many bytes.
func capital(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	if up := unicode.ToUpper(r); utf8.RuneLen(up) == size {
		return string(up) + s[size:]
	}
	return s
}
