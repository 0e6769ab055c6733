package fakevault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// request holds the parameters that the known paths take.
type request struct {
	Type         string  `json:"type"`
	Exportable   bool    `json:"exportable"`
	Backup       bool    `json:"allow_plaintext_backup"`
	Deletion     *bool   `json:"deletion_allowed"`
	MinDecrypt   *int    `json:"min_decryption_version"`
	MinEncrypt   *int    `json:"min_encryption_version"`
	MinAvailable int     `json:"min_available_version"`
	Input        string  `json:"input"`
	Version      int     `json:"key_version"`
	Prehashed    bool    `json:"prehashed"`
	Marshaling   *string `json:"marshaling_algorithm"`
}

// engine routes a request under the mount. The caller holds the lock.
func (s *Server) engine(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	in := request{Type: "aes256-gcm96"}
	if len(body) > 0 && string(body) != "null" {
		if err := json.Unmarshal(body, &in); err != nil {
			refuse(w, http.StatusBadRequest, "failed to parse JSON input: "+err.Error())
			return
		}
	}
	kind, rest, _ := strings.Cut(path, "/")
	name, verb, _ := strings.Cut(rest, "/")
	write := r.Method == http.MethodPost || r.Method == http.MethodPut
	switch {
	case kind == "keys" && verb == "" && name != "":
		s.oneKey(w, r.Method, name, in)
	case kind == "keys" && verb == "config" && write:
		s.change(w, name, "no existing key named "+name+" could be found", func(k *key) error { return k.configure(in) })
	case kind == "keys" && verb == "rotate" && write:
		s.change(w, name, "key not found", (*key).rotate)
	case kind == "keys" && verb == "trim" && write:
		s.change(w, name, "invalid key name", func(k *key) error { return k.trim(in.MinAvailable) })
	case kind == "sign" && write:
		s.sign(w, name, verb, in)
	default:
		refuse(w, http.StatusNotFound, fmt.Sprintf("unsupported path %q", path))
	}
}

func (s *Server) oneKey(w http.ResponseWriter, method, name string, in request) {
	k := s.keys[name]
	switch method {
	case http.MethodGet:
		if k == nil {
			refuse(w, http.StatusNotFound)
			return
		}
		answer(w, k.describe())
	case http.MethodPost, http.MethodPut:
		if k != nil {
			answer(w, k.describe(), "key "+name+" already existed")
			return
		}
		k, err := newKey(name, in)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		s.keys[name] = k
		answer(w, k.describe())
	case http.MethodDelete:
		why := ""
		switch {
		case k == nil:
			why = "could not delete key; not found"
		case !k.deletion:
			why = "deletion is not allowed for this key"
		default:
			delete(s.keys, name)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		refuse(w, http.StatusBadRequest, fmt.Sprintf("error deleting policy %s: %s", name, why))
	default:
		refuse(w, http.StatusMethodNotAllowed, "1 error occurred:\n\t* unsupported operation\n\n")
	}
}

func (s *Server) change(w http.ResponseWriter, name, missing string, f func(*key) error) {
	k := s.keys[name]
	if k == nil {
		refuse(w, http.StatusBadRequest, missing)
		return
	}
	if err := f(k); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, k.describe())
}

func (s *Server) sign(w http.ResponseWriter, name, hash string, in request) {
	k := s.keys[name]
	switch {
	case k == nil:
		refuse(w, http.StatusBadRequest, "signing key not found")
	case hash != "" && hash != "sha2-256":
		refuse(w, http.StatusBadRequest, fmt.Sprintf("invalid hash algorithm %q", hash))
	case k.curve() == nil:
		refuse(w, http.StatusBadRequest, fmt.Sprintf("key type %s does not support signing", k.kind))
	default:
		sig, version, err := k.sign(in, s.forge)
		var user userError
		switch {
		case errors.As(err, &user):
			refuse(w, http.StatusBadRequest, err.Error())
		case err != nil:
			refuse(w, http.StatusInternalServerError, "1 error occurred:\n\t* "+err.Error()+"\n\n")
		default:
			answer(w, map[string]any{"signature": fmt.Sprintf("vault:v%d:%s", version, sig), "key_version": version})
		}
	}
}
