package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// document is a client or a user as the bootstrap API takes it.
type document map[string]any

func newClient(id, scopes, audience string) document {
	return document{
		"client_id": id, "scopes": strings.Fields(scopes), "audiences": []string{audience}, "tenant": Tenant, "tenants": []string{Tenant},
	}
}

// Register makes a client through the bootstrap API and writes its secret to
// a file of mode 0600, whose path it returns.
func (f *Fleet) Register(ctx context.Context, id, scopes, audience string) (secretFile string, err error) {
	return f.withSecret(ctx, newClient(id, scopes, audience))
}

// RegisterBearer is Register for a client whose tokens are bound to nothing.
func (f *Fleet) RegisterBearer(ctx context.Context, id, scopes, audience string) (secretFile string, err error) {
	doc := newClient(id, scopes, audience)
	doc["dpop_bound_access_tokens"] = false
	return f.withSecret(ctx, doc)
}

func (f *Fleet) withSecret(ctx context.Context, doc document) (secretFile string, err error) {
	doc["token_endpoint_auth_method"] = "client_secret_basic"
	answer, err := f.Operate(ctx, http.MethodPost, "/internal/clients", doc)
	if err != nil {
		return "", err
	}
	var made struct {
		Secret string `json:"client_secret"`
	}
	if json.Unmarshal(answer, &made) != nil || made.Secret == "" {
		return "", fmt.Errorf("registering %s: the answer has no secret", doc["client_id"])
	}
	secretFile = filepath.Join(f.Dir, fmt.Sprint(doc["client_id"], ".secret"))
	return secretFile, os.WriteFile(secretFile, []byte(made.Secret+"\n"), 0o600)
}

// RegisterPublic makes a client without a secret, for people: they log in on
// the device page, and their logins are refreshed.
func (f *Fleet) RegisterPublic(ctx context.Context, id, scopes, audience string) error {
	doc := newClient(id, scopes, audience)
	doc["token_endpoint_auth_method"] = "none"
	doc["grant_types"] = []string{"urn:ietf:params:oauth:grant-type:device_code", "refresh_token"}
	_, err := f.Operate(ctx, http.MethodPost, "/internal/clients", doc)
	return err
}

// RegisterTLS makes a client that a certificate of the fleet's CA vouches for,
// and returns an HTTP client that presents it.
func (f *Fleet) RegisterTLS(ctx context.Context, id, scopes, audience string) (*http.Client, error) {
	doc := newClient(id, scopes, audience)
	doc["token_endpoint_auth_method"] = "tls_client_auth"
	if _, err := f.Operate(ctx, http.MethodPost, "/internal/clients", doc); err != nil {
		return nil, err
	}
	cert, key, err := f.CA.IssueClient(id, "urn:stellaops:client:"+id, nil)
	if err != nil {
		return nil, err
	}
	return f.CA.ClientWith(cert, key)
}

// RegisterUser makes a person who may hand on scopes.
func (f *Fleet) RegisterUser(ctx context.Context, name, password, scopes string) error {
	_, err := f.Operate(ctx, http.MethodPost, "/internal/users", document{
		"username": name, "password": password, "scopes": strings.Fields(scopes), "tenant": Tenant,
	})
	return err
}

// Person is a registered person with a browser of their own.
func (f *Fleet) Person(name, password string) (*Person, error) {
	return NewPerson(f.CA.Client(), name, password)
}

// Operate calls the bootstrap API with its key. Other answers than 2xx are errors.
func (f *Fleet) Operate(ctx context.Context, method, path string, doc any) ([]byte, error) {
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(f.Bootstrap)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, f.Issuer+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-stellaops-bootstrap-key", strings.TrimSpace(string(key)))
	resp, err := f.CA.Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, answer)
	}
	return answer, err
}
