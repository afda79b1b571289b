package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// grpcService is the interoperability service of gRPC, as far as it shows
// something about what is in between.
type grpcService struct {
	testgrpc.UnimplementedTestServiceServer
	saw  chan metadata.MD // of each call
	gone chan error       // why a call's context ended
}

const (
	echoHeader  = "x-grpc-test-echo-initial"
	echoTrailer = "x-grpc-test-echo-trailing-bin"
)

func (s *grpcService) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.saw <- md
}

// UnaryCall echoes metadata and answers as it is told.
func (s *grpcService) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	s.note(ctx)
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get(echoHeader) {
		_ = grpc.SetHeader(ctx, metadata.Pairs(echoHeader, v))
	}
	for _, v := range md.Get(echoTrailer) {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(echoTrailer, v))
	}
	if st := in.GetResponseStatus(); st.GetCode() != 0 {
		rich, err := status.New(codes.Code(st.GetCode()), st.GetMessage()).WithDetails(&testgrpc.Payload{Body: []byte("detail")})
		if err != nil {
			return nil, err
		}
		return nil, rich.Err()
	}
	if in.GetResponseSize() < 0 { // never answers
		<-ctx.Done()
		s.gone <- ctx.Err()
		return nil, ctx.Err()
	}
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: make([]byte, in.GetResponseSize()+int32(len(in.GetPayload().GetBody())))}}, nil
}

// StreamingOutputCall is a stream from the service.
func (s *grpcService) StreamingOutputCall(in *testgrpc.StreamingOutputCallRequest, out grpc.ServerStreamingServer[testgrpc.StreamingOutputCallResponse]) error {
	s.note(out.Context())
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

// StreamingInputCall is a stream to the service.
func (s *grpcService) StreamingInputCall(in grpc.ClientStreamingServer[testgrpc.StreamingInputCallRequest, testgrpc.StreamingInputCallResponse]) error {
	s.note(in.Context())
	for sum := int32(0); ; {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: sum})
		}
		if err != nil {
			return err
		}
		sum += int32(len(m.GetPayload().GetBody()))
	}
}

// FullDuplexCall answers each message when it comes.
func (s *grpcService) FullDuplexCall(both grpc.BidiStreamingServer[testgrpc.StreamingOutputCallRequest, testgrpc.StreamingOutputCallResponse]) error {
	s.note(both.Context())
	for {
		m, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.DataLoss, "that is all")
		}
		if err != nil {
			s.gone <- both.Context().Err()
			return err
		}
		if err := both.Send(&testgrpc.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// grpcWorld is a grpc-go service at api.openai.com and a client that is
// intercepted on its way there. grpc-go finds the proxy as every child does, by
// CONNECT; here by a dialer of its own, since the environment is the process's.
func grpcWorld(t *testing.T) (*world, *grpcService, testgrpc.TestServiceClient) {
	t.Helper()
	w := newWorld(t)
	leaf, err := w.upstream.Leaf("api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &grpcService{saw: make(chan metadata.MD, 100), gone: make(chan error, 100)}
	srv := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(leaf)))
	testgrpc.RegisterTestServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Stop()
		<-served
	})
	w.net.add("api.openai.com:443", ln.Addr().String())

	conn, err := grpc.NewClient("passthrough:///api.openai.com:443",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool(w.ours), ServerName: "api.openai.com"})),
		grpc.WithContextDialer(func(_ context.Context, target string) (net.Conn, error) {
			c, _ := w.connect(target)
			return c, c.SetDeadline(time.Time{})
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return w, s, testgrpc.NewTestServiceClient(conn)
}

// grpcContext ends a call that hangs.
func grpcContext(t *testing.T, pairs ...string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), pairs...), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func body(n int) *testgrpc.Payload { return &testgrpc.Payload{Body: make([]byte, n)} }

// TestGRPCUnary: metadata and trailers both ways, and the key in the place of
// what the child sent.
func TestGRPCUnary(t *testing.T) {
	t.Parallel()
	w, s, c := grpcWorld(t)
	var header, trailer metadata.MD
	res, err := c.UnaryCall(grpcContext(t, "authorization", "Bearer "+authsome.Placeholder, echoHeader, "first", echoTrailer, "\x00\xab"),
		&testgrpc.SimpleRequest{ResponseSize: 314159, Payload: body(271828)}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(res.GetPayload().GetBody()); n != 314159+271828 {
		t.Errorf("%d bytes", n)
	}
	if got := header.Get(echoHeader); !slices.Equal(got, []string{"first"}) {
		t.Errorf("header %v", header)
	}
	if got := trailer.Get(echoTrailer); !slices.Equal(got, []string{"\x00\xab"}) {
		t.Errorf("trailer %v", trailer)
	}
	if md := <-s.saw; !slices.Equal(md.Get("authorization"), []string{"Bearer " + openaiKey}) || !strings.HasPrefix(strings.Join(md.Get("user-agent"), ""), "grpc-go/") {
		t.Errorf("the service saw %v", md)
	}
	if ends := w.broker.ends(1); ends[0].out.Status != 200 || ends[0].out.Err != "" || ends[0].req.Path != "/grpc.testing.TestService/UnaryCall" {
		t.Errorf("finished with %+v", ends[0])
	}
	// With an empty answer there is a header and a trailer and nothing else.
	if _, err := c.UnaryCall(grpcContext(t), &testgrpc.SimpleRequest{}); err != nil {
		t.Error(err)
	}
}

// TestGRPCStreams of every kind. In the one that goes both ways each message
// comes back before the next is sent, and the status comes at the end.
func TestGRPCStreams(t *testing.T) {
	t.Parallel()
	_, s, c := grpcWorld(t)
	sizes := []int{31415, 9, 2653, 58979, 0, 1 << 20}

	req := &testgrpc.StreamingOutputCallRequest{}
	for _, n := range sizes {
		req.ResponseParameters = append(req.ResponseParameters, &testgrpc.ResponseParameters{Size: int32(n)})
	}
	out, err := c.StreamingOutputCall(grpcContext(t), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range sizes {
		if m, err := out.Recv(); err != nil || len(m.GetPayload().GetBody()) != n {
			t.Fatalf("from the service: %v", err)
		}
	}
	if _, err := out.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("from the service: %v", err)
	}

	in, err := c.StreamingInputCall(grpcContext(t))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range sizes {
		sum += n
		if err := in.Send(&testgrpc.StreamingInputCallRequest{Payload: body(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := in.CloseAndRecv(); err != nil || int(m.GetAggregatedPayloadSize()) != sum {
		t.Errorf("to the service: %v, %v", m, err)
	}

	both, err := c.FullDuplexCall(grpcContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range sizes {
		if err := both.Send(&testgrpc.StreamingOutputCallRequest{Payload: body(n)}); err != nil {
			t.Fatal(err)
		}
		if m, err := both.Recv(); err != nil || len(m.GetPayload().GetBody()) != n {
			t.Fatalf("both ways: %v", err)
		}
	}
	_ = both.CloseSend()
	if _, err := both.Recv(); status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "that is all" {
		t.Errorf("both ways: %v", err)
	}
	for range 3 {
		if md := <-s.saw; !slices.Equal(md.Get("authorization"), []string{"Bearer " + openaiKey}) {
			t.Errorf("the service saw %v", md)
		}
	}
}

// TestGRPCStatus: code, message in any script, and details.
func TestGRPCStatus(t *testing.T) {
	t.Parallel()
	_, _, c := grpcWorld(t)
	const message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
	_, err := c.UnaryCall(grpcContext(t), &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.ResourceExhausted), Message: message}})
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || st.Message() != message || len(st.Details()) != 1 {
		t.Fatalf("%v", st)
	}
	if d, ok := st.Details()[0].(*testgrpc.Payload); !ok || string(d.GetBody()) != "detail" {
		t.Errorf("detail %v", st.Details()[0])
	}
	if _, err := c.UnimplementedCall(grpcContext(t), &testgrpc.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}

// TestGRPCDeadlineAndCancel reach the service.
func TestGRPCDeadlineAndCancel(t *testing.T) {
	t.Parallel()
	w, s, c := grpcWorld(t)
	// A busy machine may need longer to get as far as the service.
	for deadline, arrived := 200*time.Millisecond, false; !arrived; deadline *= 2 {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		// The service knows the deadline as well, and may reset the stream before the
		// client gives up.
		if _, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: -1}); status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.Unavailable {
			t.Fatalf("%v", err)
		}
		select {
		case <-s.saw:
			arrived = true
		case <-time.After(deadline):
		}
	}
	if err := <-s.gone; err == nil {
		t.Error("the service's context has not ended")
	}

	ctx, cancel := context.WithCancel(grpcContext(t))
	defer cancel()
	both, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Send(&testgrpc.StreamingOutputCallRequest{Payload: body(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := both.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	if err := <-s.gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the service's context ended with %v", err)
	}
	// The service knows the deadline as well, and may have ended the first answer
	// before the client did.
	if end := w.broker.ends(2)[1]; end.out.Err == "" {
		t.Errorf("finished with %+v", end.out)
	}
}

// TestGRPCRefused: a client learns from the status what went wrong, since an
// answer that is not gRPC's is mapped by its HTTP status.
func TestGRPCRefused(t *testing.T) {
	t.Parallel()
	w, _, c := grpcWorld(t)
	w.broker.set("openai", nil)
	if _, err := c.UnaryCall(grpcContext(t), &testgrpc.SimpleRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v", err)
	}
	w.broker.set("openai", &account{secret: openaiKey, private: true})
	// A service that speaks HTTP/1.1 alone cannot be spoken to.
	w.serve("api.openai.com", func(rw http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(rw, "hello") }, only(http1))
	if _, err := c.UnaryCall(grpcContext(t), &testgrpc.SimpleRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestGRPCManyAtOnce share connections on both sides.
func TestGRPCManyAtOnce(t *testing.T) {
	t.Parallel()
	w, s, c := grpcWorld(t)
	const calls = 64
	if _, err := c.UnaryCall(grpcContext(t), &testgrpc.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	<-s.saw
	ctx, results := grpcContext(t), make(chan error, calls)
	for range calls {
		go func() {
			_, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 1000, Payload: body(1000)})
			results <- err
		}()
	}
	for range calls {
		if err := <-results; err != nil {
			t.Error(err)
		}
		<-s.saw
	}
	if n := w.net.dialled("api.openai.com:443"); n != 1 {
		t.Errorf("%d connections to the service", n)
	}
}
