#!/bin/sh
# Runs before the kernel is installed, with the new system's root as $1: says what the initramfs is
# to hold, so that it is small and made only once.
set -e
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"
printf 'MODULES=list\nCOMPRESS=gzip\n' >"$1/etc/initramfs-tools/conf.d/medley"
cat >"$1/etc/initramfs-tools/hooks/medley" <<'HOOK'
#!/bin/sh
# Any disk controller that a virtual machine may have.
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
for module in virtio_pci virtio_blk virtio_scsi sd_mod ata_piix; do force_load "$module"; done
for module in ahci nvme ext4; do manual_add_modules "$module"; done
HOOK
chmod 755 "$1/etc/initramfs-tools/hooks/medley"
