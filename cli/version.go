package cli

import (
	"fmt"

	"github.com/authsome/authsome"
	"github.com/spf13/cobra"
)

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: `  authsome version`,
		Args:    arguments(),
		RunE:    func(*cobra.Command, []string) error { return printVersion(a) },
	}
}

func printVersion(a *app) error {
	return a.result(struct {
		Version string `json:"version"`
	}{authsome.Version}, func() string { return fmt.Sprintf("authsome %s\n", authsome.Version) })
}
