#!/bin/sh
# Runs when all packages are installed and our files are in place, with the new system's root as $1.
set -e
# Built by an ordinary user, our files belong to nobody inside.
find "$1/etc" "$1/usr/local" -xdev -uid 65534 -exec chown -h 0:0 {} +
chroot "$1" passwd -d root >/dev/null
# Whose apps are windows of the host's desktop.
chroot "$1" useradd --create-home --shell /bin/bash user
# How this machine reaches its mirror is no business of the guest.
rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"
