package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"runtime"
	"time"
)

// floor is the cryptography alone, on this process's own time.
type floor struct {
	key    *ecdsa.PrivateKey
	digest [32]byte
	sig    []byte
}

func newFloor() (*floor, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	f := &floor{key: key, digest: sha256.Sum256([]byte("a proof and a token"))}
	f.sig, err = ecdsa.SignASN1(rand.Reader, key, f.digest[:])
	return f, err
}

// run returns the CPU time of n verifications and n signatures.
func (f *floor) run(n int) (time.Duration, error) {
	runtime.GC() // so that collecting the load generator's garbage is not counted
	began := selfCPU()
	for range n {
		if !ecdsa.VerifyASN1(&f.key.PublicKey, f.digest[:], f.sig) {
			return 0, errors.New("floor: signature does not verify")
		}
		if _, err := ecdsa.SignASN1(rand.Reader, f.key, f.digest[:]); err != nil {
			return 0, err
		}
	}
	return selfCPU() - began, nil
}
