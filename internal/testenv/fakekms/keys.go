package fakekms

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"time"
)

// Key is what the service knows about a key, but for the private half.
type Key struct {
	ID, ARN     string
	Spec        string // ECC_NIST_P256 (default) or ECC_NIST_P384
	Usage       string // default SIGN_VERIFY
	Origin      string // default AWS_KMS
	State       string // default Enabled
	Description string
	Tags        map[string]string
	Days        int // until deletion, when pending
}

type stored struct {
	Key
	private *ecdsa.PrivateKey
	created time.Time
}

// AddKey makes a key as k says, for which ID and ARN are chosen, and returns
// its ARN.
func (s *Server) AddKey(k Key) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added, err := s.add(k)
	if err != nil {
		return "", err
	}
	return added.ARN, nil
}

func (s *Server) add(k Key) (*stored, error) {
	for field, value := range map[*string]string{&k.Spec: "ECC_NIST_P256", &k.Usage: "SIGN_VERIFY", &k.Origin: "AWS_KMS", &k.State: "Enabled"} {
		if *field == "" {
			*field = value
		}
	}
	curve := elliptic.P256()
	if k.Spec == "ECC_NIST_P384" {
		curve = elliptic.P384()
	}
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	k.ID = newID()
	k.ARN = s.arn("key/" + k.ID)
	s.keys[k.ID] = &stored{k, private, time.Now()}
	s.order = append(s.order, k.ID)
	return s.keys[k.ID], nil
}

// Keys returns all keys in the order in which they were made.
func (s *Server) Keys() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Key
	for _, id := range s.order {
		k := s.keys[id].Key
		k.Tags = maps.Clone(k.Tags)
		all = append(all, k)
	}
	return all
}

// SetState puts the key of an ARN into a state, as its owner or AWS may.
func (s *Server) SetState(arn, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.ARN == arn {
			k.State = state
		}
	}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (s *Server) arn(resource string) string {
	return "arn:aws:kms:" + s.o.Region + ":" + s.o.Account + ":" + resource
}

func (s *Server) createKey(in request) (any, *Failure) {
	if in.KeySpec != "ECC_NIST_P256" || in.KeyUsage != "SIGN_VERIFY" {
		return nil, &Failure{Code: "ValidationException", Message: "KeySpec and KeyUsage are not of this service"}
	}
	tags := map[string]string{}
	for _, t := range in.Tags {
		tags[t.TagKey] = t.TagValue
	}
	k, err := s.add(Key{Spec: in.KeySpec, Usage: in.KeyUsage, Description: in.Description, Tags: tags})
	if err != nil {
		return nil, &Failure{Status: 500, Code: "KMSInternalException", Message: err.Error()}
	}
	return map[string]any{"KeyMetadata": s.metadata(k)}, nil
}

func (s *Server) metadata(k *stored) map[string]any {
	return map[string]any{
		"AWSAccountId": s.o.Account, "Arn": k.ARN, "KeyId": k.ID, "CreationDate": float64(k.created.UnixMilli()) / 1000,
		"Enabled": k.State == "Enabled", "Description": k.Description, "KeyUsage": k.Usage, "KeyState": k.State,
		"Origin": k.Origin, "KeyManager": "CUSTOMER", "KeySpec": k.Spec, "CustomerMasterKeySpec": k.Spec,
		"SigningAlgorithms": []string{"ECDSA_SHA_256"}, "MultiRegion": false,
	}
}

// working refuses as the table "Key states of AWS KMS keys" says.
func (k *stored) working() *Failure {
	switch k.State {
	case "Enabled":
		return nil
	case "Disabled":
		return &Failure{Code: "DisabledException", Message: k.ARN + " is disabled."}
	}
	return k.ending()
}

func (k *stored) ending() *Failure {
	if k.State != "PendingDeletion" {
		return nil
	}
	return &Failure{Code: "KMSInvalidStateException", Message: k.ARN + " is pending deletion."}
}

func (s *Server) named(k *stored) string {
	if s.answerKey != "" {
		return s.answerKey
	}
	return k.ARN
}

func (s *Server) publicKey(k *stored) (any, *Failure) {
	if f := k.working(); f != nil {
		return nil, f
	}
	der, err := x509.MarshalPKIXPublicKey(&k.private.PublicKey)
	if err != nil {
		return nil, &Failure{Status: 500, Code: "KMSInternalException", Message: err.Error()}
	}
	return map[string]any{
		"KeyId": s.named(k), "PublicKey": der, "KeySpec": k.Spec, "CustomerMasterKeySpec": k.Spec,
		"KeyUsage": k.Usage, "SigningAlgorithms": []string{"ECDSA_SHA_256"},
	}, nil
}

func (s *Server) sign(k *stored, in request) (any, *Failure) {
	if f := k.working(); f != nil {
		return nil, f
	}
	if in.MessageType != "DIGEST" || in.SigningAlgorithm != "ECDSA_SHA_256" || len(in.Message) != sha256.Size {
		return nil, &Failure{Code: "ValidationException", Message: "Digest is invalid length for algorithm ECDSA_SHA_256."}
	}
	private := k.private
	if s.otherKey != nil {
		private = s.otherKey
	}
	sig, err := ecdsa.SignASN1(rand.Reader, private, in.Message)
	if err != nil {
		return nil, &Failure{Status: 500, Code: "KMSInternalException", Message: err.Error()}
	}
	return map[string]any{"KeyId": s.named(k), "Signature": sig, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

func disable(k *stored) *Failure {
	if f := k.ending(); f != nil {
		return f
	}
	k.State = "Disabled"
	return nil
}

func schedule(k *stored, in request) (any, *Failure) {
	if f := k.ending(); f != nil {
		return nil, f
	}
	if in.PendingWindowInDays < 7 || in.PendingWindowInDays > 30 {
		return nil, &Failure{Code: "ValidationException", Message: fmt.Sprintf("PendingWindowInDays %d: from 7 to 30", in.PendingWindowInDays)}
	}
	k.State, k.Days = "PendingDeletion", in.PendingWindowInDays
	date := time.Now().AddDate(0, 0, k.Days).Unix()
	return map[string]any{"KeyId": k.ARN, "KeyState": k.State, "PendingWindowInDays": k.Days, "DeletionDate": float64(date)}, nil
}
