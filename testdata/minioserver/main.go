// Command minioserver is MinIO, for the tests that testdata/s3server is for: a second server of S3, which lists, locks and
// ends unfinished uploads in ways of its own. `make minio` runs them. It ends when its input does, and so with the test
// that started it.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	minio "github.com/minio/minio/cmd"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "minioserver:", err)
		os.Exit(1)
	}
}

// run serves until the process ends.
func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: minioserver DIRECTORY CERTIFICATES SOCKET")
	}
	if err := environment(); err != nil {
		return err
	}
	socket, err := net.Listen("unix", args[2])
	if err != nil {
		return err
	}
	address, err := free()
	if err != nil {
		return err
	}
	out := os.Stdout
	os.Stdout = os.Stderr // it prints there, and the test reads one line only
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	go relay(socket, address)
	go func() {
		ready(address)
		fmt.Fprintln(out, "ready")
	}()
	minio.Main([]string{filepath.Base(os.Args[0]), "server", "--quiet", "--certs-dir", args[1], "--address", address, args[0]})
	return fmt.Errorf("the server has ended")
}

// environment tells MinIO what it reads of no argument.
func environment() error {
	for name, value := range map[string]string{
		"MINIO_ROOT_USER":     os.Getenv("AWS_ACCESS_KEY_ID"),
		"MINIO_ROOT_PASSWORD": os.Getenv("AWS_SECRET_ACCESS_KEY"),
		"MINIO_BROWSER":       "off",
		"MINIO_UPDATE":        "off",
		"MINIO_CI_CD":         "on", // a directory of the disk of the system is good enough
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// free returns an address that nothing listens at: MinIO takes no socket.
func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ready waits until the server answers that it is.
func ready(address string) {
	for ; ; time.Sleep(50 * time.Millisecond) {
		answer, err := http.Get("http://" + address + "/minio/health/ready")
		if err != nil {
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return
		}
	}
}

// relay passes the connections to the socket on.
func relay(socket net.Listener, address string) {
	for {
		in, err := socket.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "minioserver:", err)
			os.Exit(1)
		}
		go pass(in, address)
	}
}

// pass passes one connection on, until either side ends.
func pass(in net.Conn, address string) {
	defer in.Close()
	out, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer out.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].(interface{ CloseWrite() error }).CloseWrite()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}
