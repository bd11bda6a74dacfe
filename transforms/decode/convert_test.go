package decode

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"backbone/schemas"
)

// decimals are texts of numbers, most of them well-formed.
var decimals = rapid.OneOf(
	rapid.StringMatching(`-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?`),
	rapid.StringMatching(`-?[0-9]{1,8}\.[0-9]{1,8}`),
	rapid.StringMatching(`[-+.eE0-9_xX]{1,6}`),
	rapid.Map(rapid.Float64(), func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }),
	rapid.Map(rapid.Int64(), func(i int64) string { return strconv.FormatInt(i, 10) }),
	rapid.SampledFrom([]string{"", "-", ".", "-.", "-0", "0.", ".5", "+5", "Inf", "-inf", "NaN", "0x10", "1_0", "1e400", "-1e400", "1e-400",
		"9007199254740991", "9007199254740993", "9007199254740993.0", "9007199254740991.5", "9223372036854775807", "9223372036854775808",
		"-9223372036854775808", "-9223372036854775809", "179769313486231580000000000000000000000000000000000000000000e250"}),
)

// decimal is what parseFloat takes: what strconv does, but for hexadecimal numbers, digits parted by "_", NaN and words.
var decimal = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

func checkFloat(t interface{ Fatalf(string, ...any) }, s string) {
	got, ok := parseFloat(s)
	want, err := strconv.ParseFloat(s, 64)
	wantOK := decimal.MatchString(s) && (err == nil || math.IsInf(want, 0))
	if ok != wantOK {
		t.Fatalf("parseFloat(%q) takes it: %v, want %v", s, ok, wantOK)
	}
	if ok && math.Float64bits(got) != math.Float64bits(want) {
		t.Fatalf("parseFloat(%q) = %x, want %x", s, math.Float64bits(got), math.Float64bits(want))
	}
}

func TestParseFloatIsThatOfStrconv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkFloat(t, decimals.Draw(t, "s")) })
}

// Whole numbers are exact or refused: all of 64 bits as digits, and those that a float holds exactly in any other form.
func checkInt(t interface{ Fatalf(string, ...any) }, s string) {
	got, code := parseInt(s)
	if want, err := strconv.ParseInt(s, 10, 64); err == nil {
		if code != "" || got != want {
			t.Fatalf("parseInt(%q) = %d %s, want %d", s, got, code, want)
		}
		return
	}
	f, err := strconv.ParseFloat(s, 64)
	var want schemas.Code
	switch {
	case !decimal.MatchString(s) || err != nil && !math.IsInf(f, 0) || f != math.Trunc(f):
		want = schemas.CodeWrongType
	case math.Abs(f) >= 1<<53:
		want = schemas.CodeOutOfRange
	}
	if code != want || code == "" && float64(got) != f {
		t.Fatalf("parseInt(%q) = %d %q, want %v %q", s, got, code, f, want)
	}
}

func TestParseIntIsThatOfStrconv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkInt(t, decimals.Draw(t, "s")) })
}

func FuzzParseNumber(f *testing.F) {
	for _, s := range []string{"0", "-0", "12.5", "123456789012345", "1234567890123456", "0.000000000000001", "1e23", "9007199254740993", "+1", ".5", "5.", "-", "0x1p4", "inf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkFloat(t, s)
		checkInt(t, s)
	})
}

func TestParseNumericTime(t *testing.T) {
	for _, tc := range []struct {
		text string
		unit string
		want int64 // microseconds
		code schemas.Code
	}{
		{"1772359200", "s", 1_772_359_200_000_000, ""},
		{"1772359200.5", "s", 1_772_359_200_500_000, ""},
		{"1772359200.123456", "s", 1_772_359_200_123_456, ""},
		{"1.7723592e9", "s", 1_772_359_200_000_000, ""},
		{"1772359200123", "ms", 1_772_359_200_123_000, ""},
		{"1772359200123.456", "ms", 1_772_359_200_123_456, ""},
		{"1772359200123456", "us", 1_772_359_200_123_456, ""},
		{"1772359200123456789", "ns", 1_772_359_200_123_456, ""},
		{"0", "s", 0, ""},
		{"-1", "s", -1_000_000, ""},
		{"9223372036854", "s", 9_223_372_036_854_000_000, ""},
		{"9223372036855", "s", 0, schemas.CodeOutOfRange},
		{"1e300", "s", 0, schemas.CodeOutOfRange},
		{"0.5e20", "ms", 0, schemas.CodeOutOfRange},
		{"99999999999999999999", "us", 0, schemas.CodeOutOfRange},
		{"yesterday", "s", 0, schemas.CodeWrongType},
		{"2026-03-01T10:00:00Z", "ms", 0, schemas.CodeWrongType},
	} {
		u, err := parseUnit(tc.unit, schemas.Micros)
		if err != nil {
			t.Fatal(err)
		}
		if got, code := parseNumericTime(tc.text, u.perSecond); got != tc.want || code != tc.code {
			t.Errorf("%q in %s is %d %q, want %d %q", tc.text, tc.unit, got, code, tc.want, tc.code)
		}
	}
	// Every microsecond since 1970 can be written in each unit, with decimals where the unit is larger.
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.Int64Range(0, 4_000_000_000_000_000).Draw(t, "micros")
		for text, perSecond := range map[string]int64{
			fmt.Sprintf("%d.%06d", micros/1e6, micros%1e6): 1,
			fmt.Sprintf("%d.%03d", micros/1e3, micros%1e3): 1e3,
			fmt.Sprint(micros):        1e6,
			fmt.Sprint(micros, "999"): 1e9,
		} {
			text = strings.ReplaceAll(text, " ", "")
			if got, code := parseNumericTime(text, perSecond); got != micros || code != "" {
				t.Fatalf("%s in 1/%d s is %d %q, want %d", text, perSecond, got, code, micros)
			}
		}
	})
}

// rfc3339 is its form, as strictly as RFC 3339 section 5.6 has it.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func checkTime(t interface{ Fatalf(string, ...any) }, s string) {
	micros, minutes, known, ok := parseRFC3339(s)
	want, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s))
	if wantOK := err == nil && rfc3339.MatchString(s); ok != wantOK {
		t.Fatalf("parseRFC3339(%q) takes it: %v, want %v (%v)", s, ok, wantOK, err)
	}
	if !ok {
		return
	}
	_, offset := want.Zone()
	unknown := strings.HasSuffix(strings.ToUpper(s), "Z") || strings.HasSuffix(s, "-00:00")
	if micros != want.UnixMicro() || minutes*60 != offset || known == unknown {
		t.Fatalf("parseRFC3339(%q) = %d, %d minutes, known %v; want %d, %d s, known %v", s, micros, minutes, known, want.UnixMicro(), offset, !unknown)
	}
}

func TestParseRFC3339IsThatOfTime(t *testing.T) {
	for _, s := range []string{
		"2026-03-01T10:00:00Z", "2026-03-01t10:00:00z", "2026-03-01 10:00:00Z", "2026-03-01T10:00:00", "2026-03-01T10:00:00.Z", "2026-03-01T10:00:00,5Z",
		"2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z",
		"2026-12-31T23:59:59.999999999Z", "2026-12-31T23:59:60Z", "2026-12-31T24:00:00Z", "2026-12-31T23:60:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59.5Z",
		"2026-03-01T10:00:00+05:45", "2026-03-01T10:00:00-12:00", "2026-03-01T10:00:00+14:00", "2026-03-01T10:00:00-00:00", "2026-03-01T10:00:00+00:00",
		"2026-03-01T10:00:00+24:00", "2026-03-01T10:00:00+01:60", "2026-03-01T10:00:00+0100", "2026-03-01T10:00:00+1:00", "2026-03-01T10:00:00++1:00", "2026-03-01T10:00:00ZZ",
		"+026-03-01T10:00:00Z", "2026-3-1T10:00:00Z", "", "2026", "２026-03-01T10:00:00Z",
	} {
		checkTime(t, s)
	}
	well := rapid.Custom(func(t *rapid.T) string {
		at := time.Unix(rapid.Int64Range(-62_167_219_200, 253_402_300_799).Draw(t, "seconds"), 0).UTC() // years 0 to 9999
		s := at.Format("2006-01-02T15:04:05")
		if n := rapid.IntRange(0, 12).Draw(t, "digits"); n > 0 {
			s += "." + rapid.StringMatching(fmt.Sprintf(`[0-9]{%d}`, n)).Draw(t, "fraction")
		}
		return s + rapid.OneOf(rapid.Just("Z"), rapid.StringMatching(`[+-][0-2][0-9]:[0-6][0-9]`)).Draw(t, "zone")
	})
	ill := rapid.StringMatching(`[0-9]{4}-[0-1][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,3})?([Zz]?|[+-][0-9]{1,2}:?[0-9]{2})`)
	rapid.Check(t, func(t *rapid.T) { checkTime(t, rapid.OneOf(well, ill).Draw(t, "s")) })
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-03-01T10:00:00.123Z", "2024-02-29t23:59:59+05:45", "2026-03-01T10:00:00-00:00", "0000-01-01T00:00:00.000000000000Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkTime(t, s) })
}

func TestParseUnit(t *testing.T) {
	for _, tc := range []struct {
		unit string
		kind schemas.Kind
		ok   bool
	}{
		{"", schemas.String, true}, {"", schemas.Micros, true}, {"rfc3339", schemas.Micros, true}, {"ns", schemas.Micros, true},
		{"2006-01-02 15:04:05 MST", schemas.Micros, true}, {"minutes", schemas.Micros, false}, {"ms", schemas.Float64, false},
	} {
		if _, err := parseUnit(tc.unit, tc.kind); (err == nil) != tc.ok {
			t.Errorf("unit %q: error %v, want none: %v", tc.unit, err, tc.ok)
		}
	}
}
