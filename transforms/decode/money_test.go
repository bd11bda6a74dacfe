package decode

import "testing"

func TestParseMoney(t *testing.T) {
	for _, tc := range []struct{ text, amount, currency string }{
		{"16", "16", ""}, {"16.5", "16.5", ""}, {"0.299", "0.299", ""}, {"0,299", "0.299", ""}, {"-5", "-5", ""}, {"1299.00", "1299.00", ""}, {"1299,000", "1299.000", ""},
		{"1,299.00", "1299.00", ""}, {"1.299,00", "1299.00", ""}, {"1,299,000", "1299000", ""}, {"1.299.000", "1299000", ""}, {"1,299,000.5", "1299000.5", ""},
		{"1 299,00", "1299.00", ""}, {"1\u00a0299", "1299", ""}, {"1'299.90", "1299.90", ""}, {"1’299", "1299", ""}, {"12 345,678", "12345.678", ""},
		{"$16.99", "16.99", ""}, {"£ 3", "3", ""}, {"USD 12.50", "12.50", "USD"}, {"12.50 USD", "12.50", "USD"}, {"USD12", "12", "USD"},
		{"12,50 €", "12.50", "EUR"}, {"€12", "12", "EUR"}, {" 7 ₹ ", "7", "INR"},
	} {
		if amount, currency, ok := parseMoney(tc.text); !ok || amount != tc.amount || currency != tc.currency {
			t.Errorf("%q is %q %q %v, want %q %q", tc.text, amount, currency, ok, tc.amount, tc.currency)
		}
	}
	for _, text := range []string{
		"", " ", "free", "1,299", "1.299", "12,34,567", "1,29.50", "1.299.00", "1,2,3", "16.", ".5", "1..5", "USD 12 EUR", "US 12", "usd 12", "12 %", "12-15", "12 / 15", "1e3", "0x10", "$-5",
		"$ 1,299", "2 x 16", "16 17", "01,299.00", "1 2345", "12,50 € per kg", "NaN", "Inf", "١٢",
	} {
		if amount, currency, ok := parseMoney(text); ok {
			t.Errorf("%q is %q %q, want a refusal", text, amount, currency)
		}
	}
}

func FuzzParseMoney(f *testing.F) {
	for _, s := range []string{"1,299.00", "12,50 €", "USD 1 299", "1'2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		amount, currency, ok := parseMoney(text)
		if !ok {
			return
		}
		if _, isNumber := parseFloat(amount); !isNumber || currency != "" && len(currency) != 3 {
			t.Errorf("%q is %q %q", text, amount, currency)
		}
	})
}
