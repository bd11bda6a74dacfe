package pubsub

import (
	"strings"
	"testing"

	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal has a server answer with an error.
type refusal struct{ err error }

func (r refusal) React(any) (handled bool, ret any, err error) { return true, nil, r.err }

// What is known to keep a job from reading a subscription is told before there is a job.
func TestCheck(t *testing.T) {
	off, err := status.New(codes.PermissionDenied, "Cloud Pub/Sub API has not been used").WithDetails(&errdetails.ErrorInfo{Reason: "SERVICE_DISABLED", Domain: "googleapis.com"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		answer error
		want   string // in the error; "": there is none
	}{
		{"Missing", status.Error(codes.NotFound, "no"), "subscription projects/p/subscriptions/s: it is not there, make it first: "},
		{"Disabled", off.Err(), "subscription projects/p/subscriptions/s: the API is not enabled: gcloud services enable pubsub.googleapis.com: "},
		{"Not to be seen", status.Error(codes.PermissionDenied, "no"), ""},
		{"Wrong", status.Error(codes.InvalidArgument, "no"), "subscription projects/p/subscriptions/s: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := pstest.NewServer(pstest.ServerReactorOption{FuncName: "GetSubscription", Reactor: refusal{test.answer}})
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			t.Setenv("PUBSUB_EMULATOR_HOST", s.Addr)
			err := Check(t.Context(), "projects/p/subscriptions/s")
			if (err == nil) != (test.want == "") || err != nil && (!strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("Check() = %v, want %q, in a line", err, test.want)
			}
		})
	}
}
