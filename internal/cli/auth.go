package cli

import (
	"github.com/spf13/cobra"

	"github.com/stella-ops/stella/internal/fault"
)

// newAuthCmd is the parent of everything about tokens and signing keys.
func newAuthCmd(app *App) *cobra.Command {
	return group("auth", "Tokens and signing keys of the Authority",
		long(`Gets and keeps tokens, and runs the life of the Authority's signing keys.`, fault.Config),
		"  stella auth --help",
		authCommands(app)...)
}

// authCommands lists the commands under auth, in the order of their help.
func authCommands(app *App) []*cobra.Command {
	return []*cobra.Command{
		newAuthLoginCmd(app), newAuthStatusCmd(app), newAuthWhoamiCmd(app), newAuthLogoutCmd(app),
		newAuthTokenCmd(app), newAuthRevokeCmd(app), newRotateCmd(app), newAuthJWKSCmd(app),
	}
}
