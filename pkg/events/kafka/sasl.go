package kafka

import (
	"fmt"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// tokenFile provides the token of a file, or of the environment, as it is when
// a connection is made.
type tokenFile struct{ path string }

func (t tokenFile) Token() (*sarama.AccessToken, error) {
	token, err := secret(TokenVariable, t.path, "token-file")
	if err != nil {
		return nil, err
	}
	return &sarama.AccessToken{Token: token}, nil
}

// scramClient is one conversation of SCRAM.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

func newScramSHA256() sarama.SCRAMClient { return &scramClient{hash: scram.SHA256} }
func newScramSHA512() sarama.SCRAMClient { return &scramClient{hash: scram.SHA512} }

func (c *scramClient) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClient(user, password, authzID)
	if err != nil {
		// What the preparation of a user name or a password complains about
		// may show a part of it.
		return fmt.Errorf("begin SCRAM: the user name or the password holds characters that are not allowed")
	}
	c.conversation = client.NewConversation()
	return nil
}

func (c *scramClient) Step(challenge string) (string, error) { return c.conversation.Step(challenge) }

func (c *scramClient) Done() bool { return c.conversation.Done() }
