# Each target is one command; .ci/run is what must pass.
.PHONY: build test race lint script fault fuzz bench docs tour release-check

build:
	go build -trimpath -o bin/ ./cmd/...

test:
	go test ./...

race:
	go test -race ./...

lint:
	go vet ./... && go tool staticcheck ./...

script:
	go test ./cmd/stella -run TestScripts -v

fault:
	go test ./cmd/stella-lab ./internal/keyring -run Fault -v

fuzz:
	.ci/fuzz 60s

bench:
	go run ./bench/authority && go run ./bench/startup && go run ./bench/mirror && go run ./bench/detached

docs:
	go run ./cmd/stella gen docs docs

tour:
	go run ./cmd/stella-lab tour

release-check:
	goreleaser check
