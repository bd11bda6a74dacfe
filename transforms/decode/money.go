package decode

import (
	"strings"
	"unicode/utf8"
)

// signs are those that stand for one currency. "$", "£", "¥" and "kr" stand for several.
var signs = map[string]string{
	"€": "EUR", "₹": "INR", "₽": "RUB", "₩": "KRW", "₺": "TRY", "₪": "ILS", "₫": "VND", "₴": "UAH", "₦": "NGN", "฿": "THB", "₱": "PHP", "₸": "KZT", "₾": "GEL",
	"$": "", "£": "", "¥": "", "kr": "",
}

// parseMoney reads an amount with or without a currency before or behind it: "16", "1,299.00", "$16.99", "USD 12.50", "12,50 €". The amount
// is returned as a decimal number. What can be read in two ways, such as "1,299", is not read at all.
func parseMoney(text string) (amount, currency string, ok bool) {
	text = strings.Map(func(r rune) rune {
		switch r {
		case '\u00a0', '\u202f', '\u2009', '\t': // spaces that do not break
			return ' '
		case '’':
			return '\''
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	from := strings.IndexFunc(text, isDigit)
	to := strings.LastIndexFunc(text, isDigit) + 1
	if from < 0 {
		return "", "", false
	}
	before, number, behind := text[:from], text[from:to], text[to:]
	minus := ""
	if rest, negative := strings.CutSuffix(before, "-"); negative && strings.TrimSpace(rest) == "" {
		before, minus = rest, "-"
	}
	sign := strings.TrimSpace(before)
	if sign == "" {
		sign = strings.TrimSpace(behind)
	} else if strings.TrimSpace(behind) != "" {
		return "", "", false
	}
	if currency, ok = currencyOf(sign); !ok {
		return "", "", false
	}
	if amount, ok = plainAmount(number); !ok {
		return "", "", false
	}
	return minus + amount, currency, true
}

// currencyOf returns the code of a currency; "" for none, or one of several.
func currencyOf(sign string) (string, bool) {
	if code, ok := signs[sign]; ok || sign == "" {
		return code, true
	}
	if len(sign) != 3 || strings.ContainsFunc(sign, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return "", false
	}
	return sign, true
}

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

// plainAmount reads digits in groups and decimals: with "." or "," before the decimals, the other of them, a space or "'" between groups of
// three digits. One "." or "," with three digits behind it may be either.
func plainAmount(s string) (string, bool) {
	var separators []rune
	for _, r := range s {
		if !isDigit(r) {
			separators = append(separators, r)
		}
	}
	if len(separators) == 0 {
		return s, true
	}
	first, last := separators[0], separators[len(separators)-1]
	isPoint := last == '.' || last == ','
	switch {
	case isPoint && len(separators) > 1 && first != last: // groups and decimals
		at := strings.LastIndexByte(s, byte(last))
		whole, ok := groups(s[:at], first)
		return whole + "." + s[at+1:], ok
	case len(separators) == 1 && isPoint:
		before, behind, _ := strings.Cut(s, string(last))
		if len(behind) == 3 && len(before) <= 3 && before[0] != '0' {
			return "", false
		}
		return before + "." + behind, true
	default:
		return groups(s, first)
	}
}

// groups reads a whole number with a separator between groups of three digits.
func groups(s string, separator rune) (string, bool) {
	if separator != '.' && separator != ',' && separator != ' ' && separator != '\'' {
		return "", false
	}
	parts := strings.Split(s, string(separator))
	for i, part := range parts {
		if strings.ContainsFunc(part, func(r rune) bool { return !isDigit(r) }) || i == 0 && (len(part) > 3 || part == "" || part[0] == '0') || i > 0 && len(part) != 3 || utf8.RuneCountInString(part) == 0 {
			return "", false
		}
	}
	return strings.Join(parts, ""), true
}
