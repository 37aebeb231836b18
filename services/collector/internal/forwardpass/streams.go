package forwardpass

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/nats-io/nats.go"

	"tidemark.dev/pkg/model"
)

const (
	// dynamoTopic is the topic under which Dynamo publishes.
	dynamoTopic = "forward-pass-metrics"
	// redialPause is the time until a stream that broke is opened again.
	redialPause = time.Second
	// dialTimeout bounds the opening of a stream.
	dialTimeout = 5 * time.Second
)

// SubscribeZMQ takes the messages of one PUB socket until the context is done. A
// socket that breaks, or is silent for as long as makes an engine stale, is
// opened again: engines that are idle say so every second.
func (s *Store) SubscribeZMQ(ctx context.Context, role model.Role, address string, logger *slog.Logger) {
	for ctx.Err() == nil {
		if err := s.readZMQ(ctx, role, address, logger); err != nil && ctx.Err() == nil {
			logger.Warn("stream of forward-pass metrics broke, opening it again", "address", address, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(redialPause):
		}
	}
}

func (s *Store) readZMQ(ctx context.Context, role model.Role, address string, logger *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	socket := zmq4.NewSub(ctx, zmq4.WithDialerTimeout(dialTimeout), zmq4.WithDialerMaxRetries(1), zmq4.WithDialerRetry(time.Millisecond))
	defer socket.Close()
	if err := socket.Dial(address); err != nil {
		return err
	}
	if err := socket.SetOption(zmq4.OptionSubscribe, ""); err != nil {
		return err
	}
	silence := time.AfterFunc(s.maxAge, cancel)
	defer silence.Stop()
	for {
		received, err := socket.Recv()
		if err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("nothing came for %v", s.maxAge)
			}
			return err
		}
		silence.Reset(s.maxAge)
		frames := received.Frames
		// The first of several frames is the topic, and the last the message.
		if len(frames) == 0 || len(frames) > 1 && len(frames[0]) > 0 && string(frames[0]) != dynamoTopic {
			continue
		}
		if err := s.Take(role, address, frames[len(frames)-1], time.Now()); err != nil {
			logger.Debug("forward-pass message is not taken", "address", address, "error", err)
		}
	}
}

// SubscribeNATS takes the messages of a subject until the context is done. The
// client reconnects by itself, for ever.
func (s *Store) SubscribeNATS(ctx context.Context, role model.Role, stream *model.NATSStream, trust model.ClientTLS, logger *slog.Logger) {
	for ctx.Err() == nil {
		if err := s.readNATS(ctx, role, stream, trust, logger); err != nil {
			logger.Warn("subject of forward-pass metrics cannot be subscribed to, trying again", "url", stream.URL, "subject", stream.Subject, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(redialPause):
		}
	}
}

func (s *Store) readNATS(ctx context.Context, role model.Role, stream *model.NATSStream, trust model.ClientTLS, logger *slog.Logger) error {
	options := []nats.Option{
		nats.Name("tidemark-collector"), nats.MaxReconnects(-1), nats.ReconnectWait(redialPause), nats.Timeout(dialTimeout),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("stream of forward-pass metrics broke, connecting again", "url", stream.URL, "error", err)
			}
		}),
	}
	if stream.CredentialsFile != "" {
		if !strings.HasPrefix(stream.URL, "tls://") {
			options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
		}
		options = append(options, nats.UserCredentials(stream.CredentialsFile))
	}
	if trust.CAFile != "" {
		options = append(options, nats.RootCAs(trust.CAFile))
	}
	if trust.CertFile != "" {
		options = append(options, nats.ClientCert(trust.CertFile, trust.KeyFile))
	}
	connection, err := nats.Connect(stream.URL, options...)
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = connection.Subscribe(stream.Subject, func(received *nats.Msg) {
		if err := s.Take(role, received.Subject, received.Data, time.Now()); err != nil {
			logger.Debug("forward-pass message is not taken", "subject", received.Subject, "error", err)
		}
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
