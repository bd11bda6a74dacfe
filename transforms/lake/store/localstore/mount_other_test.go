//go:build unix && !linux

package localstore_test

import "errors"

func mount(string, int) (unmount func() error, err error) {
	return nil, errors.New("not known how on this system")
}
