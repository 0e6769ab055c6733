package cli

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"
)

const completionLong = `Prints a script that makes the shell complete commands, flags and values.

  bash        source <(stella completion bash)
  zsh         stella completion zsh > "${fpath[1]}/_stella"
  fish        stella completion fish > ~/.config/fish/completions/stella.fish
  powershell  stella completion powershell | Out-String | Invoke-Expression`

func newCompletionCmd(app *App) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "Print the completion script of a shell",
		Long:      long(completionLong),
		Example:   "  stella completion bash > /etc/bash_completion.d/stella",
		ValidArgs: shells,
		Args:      cobra.MatchAll(args(1, 1, "a shell: bash, zsh, fish or powershell"), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			var b bytes.Buffer // written at once, so that a failure leaves no half script
			var err error
			switch root := cmd.Root(); args[0] {
			case "bash":
				err = root.GenBashCompletionV2(&b, true)
			case "zsh":
				err = root.GenZshCompletion(&b)
			case "fish":
				err = root.GenFishCompletion(&b, true)
			default:
				err = root.GenPowerShellCompletionWithDesc(&b)
			}
			if err != nil {
				return fmt.Errorf("making the %s completion: %w", args[0], err)
			}
			if _, err := app.Streams.Out.Write(b.Bytes()); err != nil {
				return fmt.Errorf("writing the completion script: %w", err)
			}
			return nil
		},
	}
}
