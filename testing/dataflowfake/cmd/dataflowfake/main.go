// Command dataflowfake runs the fake of Google Cloud Dataflow until it is interrupted, and prints how to use it:
//
//	go run ./testing/dataflowfake/cmd/dataflowfake --bucket shop
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"backbone/testing/dataflowfake"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dataflowfake:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	var o dataflowfake.Options
	var buckets string
	flag.StringVar(&o.Addr, "addr", "127.0.0.1:8086", "`HOST:PORT` of the REST service")
	flag.StringVar(&o.StorageAddr, "storage_addr", "127.0.0.1:8087", "`HOST:PORT` of Cloud Storage")
	flag.StringVar(&buckets, "bucket", "shop", "`NAMES` of the buckets that there are, with commas")
	flag.StringVar(&o.PubSub, "pubsub", os.Getenv("PUBSUB_EMULATOR_HOST"), "`HOST:PORT` of a Pub/Sub server, such as that of backbone pubsub")
	flag.StringVar(&o.Launcher, "launcher", "", "`PATH` of the program that stands for the images of Flex Templates, such as bin/backbone")
	flag.Parse()
	o.Buckets, o.Output = strings.Split(buckets, ","), os.Stderr
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s, err := dataflowfake.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, variable := range s.Env() {
		fmt.Println("export " + variable)
	}
	fmt.Printf("# backbone interactions --runner=dataflow --dataflow_endpoint=%s --project=any --region=us-central1 --staging_location=gs://%s/staging ...\n", s.Endpoint(), o.Buckets[0])
	<-ctx.Done()
	return nil
}
