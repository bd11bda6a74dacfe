package command

import (
	"github.com/spf13/cobra"
)

func newCompletionCommand(env *environment) *cobra.Command {
	write := map[string]func(root *cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(env.stdout, true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(env.stdout) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(env.stdout, true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(env.stdout) },
	}
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Completion of commands and flags for a shell",
		Long: `Completion writes a script for the named shell that completes Backbone's commands and flags. Load it in the
shell's start-up file, or put it in the folder where the shell looks for completions.`,
		Example: `  source <(backbone completion bash)
  backbone completion zsh > "${fpath[1]}/_backbone"
  backbone completion fish > ~/.config/fish/completions/backbone.fish`,
		ValidArgs: shells,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			return write[args[0]](cmd.Root())
		},
	}
}
