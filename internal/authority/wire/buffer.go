package wire

import (
	"bytes"
	"sync"
)

// buffers recycles request and answer buffers; what is in it is cleared.
var buffers sync.Pool

// GetBuffer returns an empty buffer.
func GetBuffer() *bytes.Buffer {
	if buf, ok := buffers.Get().(*bytes.Buffer); ok {
		buf.Reset()
		return buf
	}
	return new(bytes.Buffer)
}

// PutBuffer clears buf, which held credentials, before it is used again.
func PutBuffer(buf *bytes.Buffer) {
	if buf.Cap() > MaxBody {
		return
	}
	clear(buf.Bytes())
	buffers.Put(buf)
}
