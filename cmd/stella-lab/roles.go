package main

import (
	"context"
	"os"
	"os/exec"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/cli"
	"github.com/stella-ops/stella/internal/signals"
)

// roleEnv makes this binary be another one, so that the lab runs the real
// programs as processes of their own and needs nothing to be installed.
const roleEnv = "LAB_RUN_AS"

func runAs(role string) (code int, ok bool) {
	switch role {
	case "stella":
		ctx, stop := signals.Context(context.Background())
		defer stop()
		return cli.Run(ctx, os.Args[1:], cli.NewApp(os.Environ(), os.Getenv)), true
	case "stella-authority":
		return authority.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr), true
	}
	return 0, false
}

// as makes a command that runs this binary as another.
func as(role string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = role
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}
