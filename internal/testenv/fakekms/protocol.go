package fakekms

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
)

const maxRequest = 1 << 20

// ServeHTTP implements http.Handler: every call is a POST of JSON to /, named
// by X-Amz-Target (AWS JSON 1.1).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	action, found := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if err != nil || !found || r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		answer(w, nil, &Failure{Code: "UnknownOperationException"})
		return
	}
	if f := s.authenticate(r); f != nil {
		answer(w, nil, f)
		return
	}
	k := s.called(action)
	if k.before != nil {
		k.before()
	}
	switch {
	case k.hang:
		select {
		case <-r.Context().Done():
		case <-s.ctx.Done():
		}
		panic(http.ErrAbortHandler)
	case k.handler != nil:
		k.handler(w, r)
		return
	case k.fails != 0:
		answer(w, nil, &k.failure)
		return
	}
	out, f := s.do(action, body)
	if k.after != nil {
		k.after()
	}
	if f == nil && k.lose != 0 {
		panic(http.ErrAbortHandler)
	}
	answer(w, out, f)
}

// called counts a call and returns what is set for it, using up one of what
// has a number.
func (s *Server) called(action string) knobs {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[action]++
	k := s.knobs[action]
	if k == nil {
		k = s.knobs[Every]
	}
	if k == nil {
		return knobs{}
	}
	now := *k
	k.fails -= min(1, max(0, k.fails))
	k.lose -= min(1, max(0, k.lose))
	return now
}

// authenticate wants what a signed request of the expected identity looks like
// (AWS Signature Version 4, "Create a signed AWS API request").
func (s *Server) authenticate(r *http.Request) *Failure {
	header := regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([A-Z0-9]{16,128})/(\d{8})/([a-z0-9-]+)/kms/aws4_request, ` +
		`SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}$`).FindStringSubmatch(r.Header.Get("Authorization"))
	switch {
	case r.Header.Get("Authorization") == "":
		return &Failure{Code: "MissingAuthenticationTokenException", Message: "Missing Authentication Token"}
	case header == nil:
		return &Failure{Code: "IncompleteSignatureException", Message: "Authorization=" + r.Header.Get("Authorization")}
	case header[1] != s.o.AccessKeyID, r.Header.Get("X-Amz-Security-Token") != s.o.SessionToken:
		return &Failure{Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid."}
	case header[3] != s.o.Region:
		return &Failure{Code: "InvalidSignatureException", Message: "Credential should be scoped to a valid region, not '" + header[3] + "'."}
	case !strings.HasPrefix(r.Header.Get("X-Amz-Date"), header[2]+"T"):
		return &Failure{Code: "InvalidSignatureException", Message: "Date in Credential scope does not match X-Amz-Date."}
	}
	signed := ";" + header[4] + ";"
	for _, name := range []string{"host", "x-amz-date", "x-amz-target"} {
		if !strings.Contains(signed, ";"+name+";") {
			return &Failure{Code: "InvalidSignatureException", Message: "'" + name + "' must be a 'SignedHeader' in the AWS Authorization."}
		}
	}
	return nil
}

func answer(w http.ResponseWriter, out any, f *Failure) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", "00000000-0000-4000-8000-000000000000")
	if f != nil {
		status := f.Status
		if status == 0 {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		out = map[string]string{"__type": f.Code, "message": f.Message}
	}
	if out != nil {
		_ = json.NewEncoder(w).Encode(out) // who called has gone
	}
}

// request holds the members of all requests that are understood.
type request struct {
	KeyID               string `json:"KeyId"`
	AliasName           string
	TargetKeyID         string `json:"TargetKeyId"`
	KeySpec             string
	KeyUsage            string
	Description         string
	Tags                []struct{ TagKey, TagValue string }
	Message             []byte
	MessageType         string
	SigningAlgorithm    string
	PendingWindowInDays int
	Limit               int
	Marker              string
}

func (s *Server) do(action string, body []byte) (any, *Failure) {
	var in request
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &Failure{Code: "SerializationException", Message: err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch action {
	case "CreateKey":
		return s.createKey(in)
	case "CreateAlias":
		return nil, s.createAlias(in)
	case "ListAliases":
		return s.listAliases(in)
	case "DeleteAlias":
		return nil, s.deleteAlias(in)
	}
	id, f := s.resolve(in.KeyID)
	if f != nil {
		return nil, f
	}
	k := s.keys[id]
	switch action {
	case "DescribeKey":
		return map[string]any{"KeyMetadata": s.metadata(k)}, nil
	case "GetPublicKey":
		return s.publicKey(k)
	case "Sign":
		return s.sign(k, in)
	case "DisableKey":
		return nil, disable(k)
	case "ScheduleKeyDeletion":
		return schedule(k, in)
	}
	return nil, &Failure{Code: "UnknownOperationException"}
}
