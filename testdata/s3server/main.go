// Command s3server serves the directories below a directory as buckets of S3, for tests of
// registry/store/blobs3. It is versitygw without the parts that tests do not need: its whole command
// takes minutes to build. It ends when its input does, and so with the test that started it.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "s3server:", err)
		os.Exit(1)
	}
}

// run serves until the process ends.
func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: s3server DIRECTORY VERSIONS ADDRESS")
	}
	backend, err := posix.New(args[0], meta.XattrMeta{}, posix.PosixOpts{VersioningDir: args[1], ValidateBucketNames: true, CopyObjectThreshold: 5 << 30})
	if err != nil {
		return err
	}
	root := middlewares.RootUserConfig{Access: os.Getenv("AWS_ACCESS_KEY_ID"), Secret: os.Getenv("AWS_SECRET_ACCESS_KEY")}
	accounts := auth.NewIAMServiceSingle(auth.Account{Access: root.Access, Secret: root.Secret, Role: auth.RoleAdmin})
	server, err := s3api.New(backend, root, "us-east-1", accounts, nil, nil, nil, nil,
		s3api.WithQuiet(), s3api.WithKeepAlive(), s3api.WithConcurrencyLimiter(10000, 10000),
		s3api.WithOnListen(func() { fmt.Println("ready") }))
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return server.ServeMultiPort(args[2:])
}
