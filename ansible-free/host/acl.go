package host

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// The form of acl(5) lists in extended attributes, see linux/posix_acl_xattr.h.
const (
	aclAttr    = "system.posix_acl_access"
	aclVersion = 2

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclSearch = 1 // the "x" of a directory
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

type acl []aclEntry

// readACL gives the access list of a directory, made up from its mode when it has none of its own.
// ErrNoACL: the file system knows no lists.
func (h *Host) readACL(dir string) (acl, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Getxattr(h.Path(dir), aclAttr, buf)
	if errors.Is(err, unix.ENODATA) {
		info, err := h.StatTarget(dir)
		return minimalACL(info.Mode), err
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoACL)
	}
	if err != nil {
		return nil, fmt.Errorf("read access list of %s: %w", dir, err)
	}
	return parseACL(buf[:n])
}

// ErrNoACL says that a file system keeps no access lists.
var ErrNoACL = errors.New("the file system keeps no access lists")

func minimalACL(mode fs.FileMode) acl {
	m := uint16(mode.Perm())
	const none = 0xffffffff
	return acl{{aclUserObj, m >> 6 & 7, none}, {aclGroupObj, m >> 3 & 7, none}, {aclOther, m & 7, none}}
}

func parseACL(b []byte) (acl, error) {
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, errors.New("access list in an unknown form")
	}
	var a acl
	for b = b[4:]; len(b) > 0; b = b[8:] {
		a = append(a, aclEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])})
	}
	return a, nil
}

func (h *Host) writeACL(dir string, a acl) error {
	slices.SortFunc(a, func(x, y aclEntry) int { return cmp.Or(cmp.Compare(x.tag, y.tag), cmp.Compare(x.id, y.id)) })
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	err := unix.Setxattr(h.Path(dir), aclAttr, b, 0)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		err = ErrNoACL
	}
	if err != nil {
		return fmt.Errorf("change access list of %s: %w", dir, err)
	}
	return nil
}

func (a acl) perm(tag uint16, id int) (perm uint16, ok bool) {
	for _, e := range a {
		if e.tag == tag && (id < 0 || e.id == uint32(id)) {
			return e.perm, true
		}
	}
	return 0, false
}

// lets says whether a process of user, without further groups, may search the directory of owner.
func (a acl) lets(user, owner Owner) bool {
	mask, masked := a.perm(aclMask, -1)
	if !masked {
		mask = 7
	}
	if user.UID == owner.UID {
		perm, _ := a.perm(aclUserObj, -1)
		return perm&aclSearch != 0
	}
	if perm, ok := a.perm(aclUser, user.UID); ok {
		return perm&mask&aclSearch != 0
	}
	group, inGroup := a.perm(aclGroup, user.GID)
	if user.GID == owner.GID {
		perm, _ := a.perm(aclGroupObj, -1)
		group, inGroup = group|perm, true
	}
	if inGroup {
		return group&mask&aclSearch != 0
	}
	perm, _ := a.perm(aclOther, -1)
	return perm&aclSearch != 0
}

// letting is a, and user may search. Nobody else gains a right: a mask that is new, or is widened, would
// let the group's entry act, so that entry is cut down to what it could do before.
func (a acl) letting(uid int) acl {
	mask, masked := a.perm(aclMask, -1)
	if !masked {
		mask, _ = a.perm(aclGroupObj, -1)
	}
	out := a.without(uid)
	for i, e := range out {
		switch e.tag {
		case aclGroupObj, aclGroup, aclUser:
			out[i].perm = e.perm & mask
		}
	}
	out = slices.DeleteFunc(out, func(e aclEntry) bool { return e.tag == aclMask })
	return append(out, aclEntry{aclUser, aclSearch, uint32(uid)}, aclEntry{aclMask, mask | aclSearch, 0xffffffff})
}

// without is a without the entry of a user; a list that then names nobody is the mode alone again.
func (a acl) without(uid int) acl {
	out := slices.DeleteFunc(slices.Clone(a), func(e aclEntry) bool { return e.tag == aclUser && e.id == uint32(uid) })
	if slices.ContainsFunc(out, func(e aclEntry) bool { return e.tag == aclUser || e.tag == aclGroup }) {
		return out
	}
	return slices.DeleteFunc(out, func(e aclEntry) bool { return e.tag == aclMask })
}

// KeepsACL says whether a directory can be given an access list.
func (h *Host) KeepsACL(dir string) (bool, error) {
	_, err := h.readACL(dir)
	if errors.Is(err, ErrNoACL) {
		return false, nil
	}
	return err == nil, err
}
