package asof

import "testing"

func TestShardsAfter(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		name          string
		shards        int
		state, export int64
		want          int
	}{
		{"small", 1, 1 * mb, 3 * mb, 1},
		{"as when it was made", 16, 350 * mb, 1400 * mb, 16},
		{"grown, but not to twice", 16, 600 * mb, 100 * mb, 16}, // 4*600 < 2*16*96
		{"grown", 16, 800 * mb, 100 * mb, 64},                   // 4*800 > 2*16*96; 64*96 > 4*800 > 32*96
		{"an export much larger than what is there", 1, 1 * mb, 1000 * mb, 16},
		{"it does not shrink", 64, 1 * mb, 1 * mb, 64},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := &Version{Shards: tc.shards, Current: []Part{{Bytes: tc.state}}}
			if got := shardsAfter(before, tc.export); got != tc.want {
				t.Errorf("got %d shards, want %d", got, tc.want)
			}
		})
	}
}
