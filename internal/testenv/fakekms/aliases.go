package fakekms

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// SetAlias makes alias/NAME point to the key of an ARN, wherever it pointed.
func (s *Server) SetAlias(name, arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases["alias/"+name] = arn[strings.LastIndexByte(arn, '/')+1:]
}

// Alias returns the ARN of the key that alias/NAME points to, or "".
func (s *Server) Alias(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[s.aliases["alias/"+name]]; k != nil {
		return k.ARN
	}
	return ""
}

// resolve finds the key id for a key id, a key ARN, an alias or its ARN.
func (s *Server) resolve(name string) (string, *Failure) {
	if local, ok := strings.CutPrefix(name, s.arn("")); ok {
		name = strings.TrimPrefix(local, "key/")
	}
	if strings.HasPrefix(name, "alias/") {
		id, ok := s.aliases[name]
		if !ok {
			return "", &Failure{Code: "NotFoundException", Message: "Alias " + s.arn(name) + " is not found."}
		}
		name = id
	}
	if s.keys[name] == nil {
		return "", &Failure{Code: "NotFoundException", Message: "Key '" + name + "' does not exist"}
	}
	return name, nil
}

func (s *Server) createAlias(in request) *Failure {
	if !regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`).MatchString(in.AliasName) || strings.HasPrefix(in.AliasName, "alias/aws/") {
		return &Failure{Code: "InvalidAliasNameException", Message: "Alias name is not valid"}
	}
	if _, taken := s.aliases[in.AliasName]; taken {
		return &Failure{Code: "AlreadyExistsException", Message: "An alias with the name " + s.arn(in.AliasName) + " already exists"}
	}
	id, f := s.resolve(in.TargetKeyID)
	if f != nil {
		return f
	}
	if f := s.keys[id].ending(); f != nil {
		return f
	}
	s.aliases[in.AliasName] = id
	return nil
}

func (s *Server) deleteAlias(in request) *Failure {
	if _, ok := s.aliases[in.AliasName]; !ok {
		return &Failure{Code: "NotFoundException", Message: "Alias " + s.arn(in.AliasName) + " is not found."}
	}
	delete(s.aliases, in.AliasName)
	return nil
}

// listAliases gives at most Limit names a page; the marker is the last name of
// the page before.
func (s *Server) listAliases(in request) (any, *Failure) {
	id := ""
	if in.KeyID != "" {
		var f *Failure
		if id, f = s.resolve(in.KeyID); f != nil {
			return nil, f
		}
	}
	limit := in.Limit
	if limit == 0 {
		limit = 50
	}
	page, next := []map[string]any{}, ""
	for _, name := range slices.Sorted(maps.Keys(s.aliases)) {
		if name <= in.Marker || id != "" && s.aliases[name] != id {
			continue
		}
		if len(page) == limit {
			return map[string]any{"Aliases": page, "Truncated": true, "NextMarker": next}, nil
		}
		next = name
		page = append(page, map[string]any{"AliasName": name, "AliasArn": s.arn(name), "TargetKeyId": s.aliases[name]})
	}
	return map[string]any{"Aliases": page, "Truncated": false}, nil
}
