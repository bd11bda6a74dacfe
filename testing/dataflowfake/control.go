package dataflowfake

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// control stands between prism and the workers of jobs, and counts what their bundles have counted. Prism does that too, and loses some: of two bundles
// that end before it knows the names of their metrics, it keeps one.
type control struct {
	fnpb.UnimplementedBeamFnControlServer
	addr   string
	server *grpc.Server

	mu      sync.Mutex
	workers map[string]controlled // by their ids
}

// controlled is a worker as it was asked for.
type controlled struct {
	endpoint string // of prism
	tally    *tally
}

// maxMessage is the size of the largest message, in bytes.
const maxMessage = 64 << 20

func startControl() (*control, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &control{addr: l.Addr().String(), server: grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage)), workers: map[string]controlled{}}
	fnpb.RegisterBeamFnControlServer(c.server, c)
	go func() { _ = c.server.Serve(l) }() // until close stops it
	return c, nil
}

func (c *control) close() { c.server.Stop() }

// expect has a worker of an id reach prism through here.
func (c *control) expect(id, endpoint string, t *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers[id] = controlled{endpoint, t}
}

func (c *control) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.workers, id)
}

// dial connects to prism in the name of the worker that calls.
func (c *control) dial(ctx context.Context) (_ context.Context, conn *grpc.ClientConn, t *tally, err error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	id := strings.Join(incoming.Get("worker_id"), "")
	c.mu.Lock()
	w, ok := c.workers[id]
	c.mu.Unlock()
	if !ok {
		return nil, nil, nil, fmt.Errorf("worker %q is not expected", id)
	}
	conn, err = grpc.NewClient(w.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	return metadata.AppendToOutgoingContext(ctx, "worker_id", id), conn, w.tally, err
}

// GetProcessBundleDescriptor implements fnpb.BeamFnControlServer.
func (c *control) GetProcessBundleDescriptor(ctx context.Context, r *fnpb.GetProcessBundleDescriptorRequest) (*fnpb.ProcessBundleDescriptor, error) {
	ctx, conn, _, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is on its way
	return fnpb.NewBeamFnControlClient(conn).GetProcessBundleDescriptor(ctx, r)
}

// Control implements fnpb.BeamFnControlServer. It ends when either side does.
func (c *control) Control(worker fnpb.BeamFnControl_ControlServer) error {
	ctx, conn, t, err := c.dial(worker.Context())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // who listened has ended
	runner, err := fnpb.NewBeamFnControlClient(conn).Control(ctx)
	if err != nil {
		return err
	}
	s := &session{worker: worker, runner: runner, tally: t, held: map[string]*fnpb.InstructionResponse{}}
	ended := make(chan error, 2)
	go func() { ended <- s.instruct() }()
	go func() { ended <- s.answer() }()
	return <-ended
}

// session is the conversation of prism and a worker.
type session struct {
	worker fnpb.BeamFnControl_ControlServer
	runner fnpb.BeamFnControl_ControlClient
	tally  *tally
	held   map[string]*fnpb.InstructionResponse // of bundles, by the questions for the names of their metrics

	mu sync.Mutex // while something is sent to the worker
}

func (s *session) send(r *fnpb.InstructionRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.worker.Send(r)
}

// instruct passes on what prism says.
func (s *session) instruct() error {
	for {
		r, err := s.runner.Recv()
		if err != nil {
			return err
		}
		if err := s.send(r); err != nil {
			return err
		}
	}
}

// naming is how the ids of this session's own questions begin.
const naming = "names-of-"

// answer passes on what the worker says. That a bundle has ended is said when all names of its metrics are known: nothing may come after it.
func (s *session) answer() error {
	for {
		r, err := s.worker.Recv()
		if err != nil {
			return err
		}
		if held, ok := s.held[r.GetInstructionId()]; ok {
			s.tally.name(r.GetMonitoringInfos().GetMonitoringInfo())
			delete(s.held, r.GetInstructionId())
			r = held
		} else if bundle := r.GetProcessBundle(); bundle != nil && r.GetError() == "" {
			if unknown := s.tally.add(bundle.GetMonitoringData()); len(unknown) > 0 {
				question := naming + r.GetInstructionId()
				s.held[question] = r
				if err := s.send(&fnpb.InstructionRequest{
					InstructionId: question,
					Request:       &fnpb.InstructionRequest_MonitoringInfos{MonitoringInfos: &fnpb.MonitoringInfosMetadataRequest{MonitoringInfoId: unknown}},
				}); err != nil {
					return err
				}
				continue
			}
		}
		if err := s.runner.Send(r); err != nil {
			return err
		}
	}
}
