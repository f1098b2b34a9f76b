//go:build !e2e

package main_test

// kills is how often TestKilled kills. With the end-to-end tests it has the time to
// do so more often.
const kills = 8

// backupKills is how often the tests of backup, restore and scrub do.
const backupKills = 2
