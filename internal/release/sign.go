package release

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

// Sign signs the exact bytes of a statement, which must be one. The result is
// one line of the signature file, with its newline.
func Sign(ctx context.Context, statement []byte, provider string, s *jose.Signer) ([]byte, error) {
	if _, err := ParseStatement(statement); err != nil {
		return nil, err
	}
	line, err := sign(ctx, s, Type, provider, bytes.NewReader(statement))
	return append(line, '\n'), err
}

// SignBundle signs a bundle as it is read (RFC 7797, b64 false): once for an EC
// or RSA key, twice for Ed25519. The result is the whole signature file.
func SignBundle(ctx context.Context, bundle io.ReadSeeker, provider string, s *jose.Signer) ([]byte, error) {
	return sign(ctx, s, BundleType, provider, bundle)
}

func sign(ctx context.Context, s *jose.Signer, typ, provider string, payload io.ReadSeeker) ([]byte, error) {
	header := map[string]any{"typ": typ, "provider": provider}
	jws, err := detached.Sign(ctx, s, header, payload, detached.Unencoded)
	if err != nil {
		return nil, err
	}
	return []byte(jws), nil
}

// Join makes a signature file of lines, without those that are there twice.
func Join(files ...[]byte) []byte {
	var lines []string
	for _, f := range files {
		for _, line := range strings.Fields(string(f)) {
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}
