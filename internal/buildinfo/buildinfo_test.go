package buildinfo

import (
	"runtime"
	"testing"
)

func TestRead(t *testing.T) {
	info := Read()
	if info.Version == "" || info.Go != runtime.Version() || info.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("%+v", info)
	}
	oldVersion, oldCommit := version, commit
	defer func() { version, commit = oldVersion, oldCommit }()
	version, commit = "1.2.3", "abc"
	if info := Read(); info.Version != "1.2.3" || info.Commit != "abc" {
		t.Errorf("what the linker set does not count: %+v", info)
	}
}
