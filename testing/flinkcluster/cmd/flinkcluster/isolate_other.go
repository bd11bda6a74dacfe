//go:build !linux

package main

import (
	"context"
	"errors"
)

func isInside() bool { return false }

func isolate(context.Context) error {
	return errors.New("only Linux has network namespaces: leave -isolated out, and keep the cluster behind a firewall")
}

func settle() (enter string, err error) { return "", nil }
