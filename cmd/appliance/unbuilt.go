package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// foreign is a row in a table of flags of the programs that this one replaces. They are known by
// name, so that a script that uses one is told of it, and not of a typing error.
type foreign struct {
	kind  foreignKind
	names string // separated by blanks; a name may end with its shorthand: "ssh-key,k"
	text  string // of what is refused: what to use instead; of what is ignored: why it changes nothing, "" to be silent; of an alias: what it means here
}

type foreignKind int

const (
	refused       foreignKind = iota // it is not built, and takes a value
	refusedSwitch                    // it is not built, and takes none
	ignored                          // it changes nothing here, and takes a value
	ignoredSwitch                    // it changes nothing here, and takes none
	alias                            // it has another name here, and takes a value
	aliasSwitch                      // it has another name here, and takes none
)

// foreignFlags are the rows of a command, each with one name.
type foreignFlags []foreign

// declare adds the flags of a table.
func (all *foreignFlags) declare(f *pflag.FlagSet, table []foreign) {
	for _, row := range table {
		for name := range strings.FieldsSeq(row.names) {
			row.names = hide(f, name, row.kind == refusedSwitch || row.kind == ignoredSwitch || row.kind == aliasSwitch)
			*all = append(*all, row)
		}
	}
}

// hide declares a flag that help does not list, and returns its name.
func hide(f *pflag.FlagSet, name string, isSwitch bool) string {
	name, short, _ := strings.Cut(name, ",")
	if isSwitch {
		f.BoolP(name, short, false, "")
	} else {
		f.StringP(name, short, "", "")
	}
	f.Lookup(name).Hidden = true
	return f.Lookup(name).Name
}

// check refuses the flags that are not built, and tells which were given and change nothing.
func (all foreignFlags) check(c *cobra.Command, w io.Writer) error {
	for _, row := range all {
		if (row.kind == refused || row.kind == refusedSwitch) && c.Flags().Changed(row.names) {
			return hint.New(fmt.Errorf("--%s is not built yet", row.names),
				cmp.Or(row.text, "leave it out; "+c.CommandPath()+" --help lists what there is"))
		}
	}
	for _, row := range all {
		switch {
		case row.text == "" || !c.Flags().Changed(row.names):
		case row.kind == alias || row.kind == aliasSwitch:
			fmt.Fprintf(w, "note: --%s is read as %s\n", row.names, row.text)
		default:
			fmt.Fprintf(w, "note: --%s changes nothing: %s\n", row.names, row.text)
		}
	}
	return nil
}

// spellings are the names of flags that scripts write in several ways, by what these have in common: their
// letters, in lower case.
var spellings = map[string]pflag.NormalizedName{
	"quayhostname": "quayHostname", "quayroot": "quayRoot", "quaystorage": "quayStorage", "sqlitestorage": "sqliteStorage",
	"inituser": "initUser", "initpassword": "initPassword", "initpasswordfile": "initPasswordFile",
	"targethostname": "targetHostname", "targetusername": "targetUsername",
	"sslcert": "sslCert", "sslkey": "sslKey", "sslcheckskip": "sslCheckSkip",
	"askbecomepass": "askBecomePass", "additionalargs": "additionalArgs", "autoapprove": "autoApprove", "keepcontent": "keepContent",
	"sshkey": "ssh-key", "imagearchive": "image-archive", "nocolor": "no-color",
	"loglevel": "log-level", // --loglevel is of oc-mirror 4.17
}

// oneSpelling takes --quay-hostname for --quayHostname, --sshKey for --ssh-key, and so on.
func oneSpelling(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if known, ok := spellings[strings.ToLower(strings.ReplaceAll(name, "-", ""))]; ok {
		return known
	}
	return pflag.NormalizedName(name)
}
