#!/bin/sh
# Turns the archive $1 into a root file system, and takes its kernel and initramfs out, into the
# folder $2. The rest of the arguments is the command that makes the file system; the tree's path is
# appended to it. Runs as root, or as root of a user namespace.
set -e
archive=$1 out=$2
shift 2
tree=$out/tree
trap 'rm -rf "$tree"' EXIT
trap 'exit 1' INT TERM
mkdir -m 755 "$tree"
tar -xf "$archive" -C "$tree" --numeric-owner --exclude='./dev/*'
# Every session of a revertible guest is its first boot: leave nothing for it to do. An empty machine
# id is filled at boot, and new in each; up-to-date stamps spare the rebuilding of caches.
: >"$tree/etc/machine-id"
touch "$tree/etc/.updated" "$tree/var/.updated"
"$@" "$tree"
cat "$tree"/boot/vmlinuz-* >"$out/vmlinuz"
cat "$tree"/boot/initrd.img-* >"$out/initrd"
