package jose

import "github.com/stella-ops/stella/internal/jose/strictjson"

// DecodeStrict unmarshals one JSON value into v, a non-nil pointer. It refuses
// member names given twice in one object (at any depth), members a struct does
// not have (names compare exactly, unlike in encoding/json), trailing data,
// invalid UTF-8, lone surrogates and nesting deeper than 64. It does not bound
// the size of data. Errors wrap ErrMalformed.
func DecodeStrict(data []byte, v any) error { return strictjson.Decode(data, v) }
