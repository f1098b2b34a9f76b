package support

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// database adds what the files of the database say of themselves. It does not open the database,
// which may be damaged, and is the service's.
func (c *collector) database(context.Context) {
	if c.Database == "" {
		return
	}
	var b strings.Builder
	names, err := c.Host.Names(filepath.Dir(c.Database))
	for _, name := range names {
		info, err := c.Host.Stat(filepath.Join(filepath.Dir(c.Database), name))
		if err == nil {
			fmt.Fprintf(&b, "%-40s %s %d bytes\n", name, info.Mode, info.Size)
		}
	}
	text, headerErr := c.header()
	c.add("database.txt", b.String()+text, errors.Join(err, headerErr))
}

// header describes the header of the database's file (sqlite.org/fileformat.html).
func (c *collector) header() (string, error) {
	f, err := c.Host.Open(c.Database)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 100)
	if _, err := io.ReadFull(f, head); err != nil {
		return "", fmt.Errorf("read the header of %s: %w", c.Database, err)
	}
	page := int(binary.BigEndian.Uint16(head[16:]))
	if page == 1 {
		page = 1 << 16
	}
	number := func(at int) uint32 { return binary.BigEndian.Uint32(head[at:]) }
	return fmt.Sprintf("\nmagic %q\npage size %d\npages %d\nfree pages %d\nschema version %d\nautovacuum %d\nwritten by SQLite %d\n",
		strings.TrimRight(string(head[:16]), "\x00"), page, number(28), number(36), number(60), number(52), number(96)), nil
}

// host adds what the host is, its file systems, its listeners, and the install directory.
func (c *collector) host(ctx context.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "program: appliance %s, %s, %s/%s\n", c.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		fmt.Fprintf(&b, "kernel: %s %s %s\n", unix.ByteSliceToString(name.Sysname[:]), unix.ByteSliceToString(name.Release[:]),
			unix.ByteSliceToString(name.Machine[:]))
	}
	if text, err := c.Host.Run(ctx, "systemctl", "--version"); err == nil {
		first, _, _ := strings.Cut(string(text), "\n")
		fmt.Fprintf(&b, "%s\n", first)
	}
	for _, file := range []string{"/etc/os-release", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/sys/fs/selinux/enforce",
		"/proc/sys/crypto/fips_enabled"} {
		if text, err := c.Host.ReadFile(file); err == nil {
			fmt.Fprintf(&b, "\n%s:\n%s", file, text)
		}
	}
	c.add("host.txt", b.String(), nil)
	c.add("df.txt", c.spaces(), nil)
	c.add("listeners.txt", c.listeners(), nil)
	c.add("files.txt", c.listing(), nil)
}

// spaces is what df prints, of the file systems of the appliance.
func (c *collector) spaces() string {
	var b strings.Builder
	for _, dir := range c.Dirs {
		var s unix.Statfs_t
		if err := unix.Statfs(c.Host.Path(dir), &s); err != nil {
			fmt.Fprintf(&b, "%s: %v\n", dir, err)
			continue
		}
		size := uint64(s.Bsize)
		fmt.Fprintf(&b, "%s: type %#x, %s, %s free (%s for users), %d inodes, %d free\n", dir, s.Type, humanize.IBytes(s.Blocks*size),
			humanize.IBytes(s.Bfree*size), humanize.IBytes(s.Bavail*size), s.Files, s.Ffree)
	}
	mounts, err := c.Host.ReadFile("/proc/self/mounts")
	if err == nil {
		b.WriteString("\n" + string(mounts))
	}
	return b.String()
}

// listeners is what ss -ltn prints, from the kernel's tables (proc_net_tcp(5)).
func (c *collector) listeners() string {
	var lines []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, err := c.Host.ReadFile(table)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(content)) {
			if f := strings.Fields(line); len(f) > 7 && f[3] == "0A" {
				lines = append(lines, fmt.Sprintf("LISTEN %s uid %s\n", socketAddress(f[1]), f[7]))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// socketAddress returns an address of the kernel's tables as people write it: words of 32 bits in
// the order of the host, which is little endian or big.
func socketAddress(text string) string {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return text
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	address, ok := netip.AddrFromSlice(raw)
	number, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return text
	}
	return netip.AddrPortFrom(address, uint16(number)).String()
}

// listing lists the install directory with owners and modes, but not what the registry stores.
func (c *collector) listing() string {
	var b strings.Builder
	c.list(&b, c.QuayRoot, 0)
	return b.String()
}

func (c *collector) list(b *strings.Builder, file string, depth int) {
	info, err := c.Host.Stat(file)
	if err != nil {
		fmt.Fprintf(b, "%s: %v\n", file, err)
		return
	}
	fmt.Fprintf(b, "%s %-11s %10d %s", info.Mode, fmt.Sprintf("%d:%d", info.Owner.UID, info.Owner.GID), info.Size, file)
	if to, err := os.Readlink(c.Host.Path(file)); err == nil {
		b.WriteString(" -> " + to)
	}
	b.WriteByte('\n')
	if !info.Mode.IsDir() || depth > 2 || slices.Contains(stored, filepath.Base(file)) {
		return
	}
	names, err := c.Host.Names(file)
	if err != nil {
		fmt.Fprintf(b, "%s: %v\n", file, err)
	}
	for _, name := range names {
		c.list(b, filepath.Join(file, name), depth+1)
	}
}

// stored are directories with too many files to list.
var stored = []string{"sha256", "sha512", "uploads", "quarantine"}
