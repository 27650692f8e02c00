//! Two guests of a few hundred bytes. They need no packages and are ready in a moment.

/// A disk that boots: writes `MEDLEY-GUEST` and a newline to the first serial port, then obeys
/// single bytes from there. `r` reads the disk's second sector and answers `R`, or `E` if that
/// fails; `b` reboots; `q` powers off; anything else is echoed. The power button powers off.
pub fn disk() -> Vec<u8> {
    let mut image = vec![0; 1 << 20];
    image[..BOOT_SECTOR.len()].copy_from_slice(BOOT_SECTOR);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

#[rustfmt::skip]
const BOOT_SECTOR: &[u8] = &[
    0xfa,                                     // 7c00: cli
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0,       // ds = ss = 0
    0xbc, 0x00, 0x7c,                         // mov sp, 0x7c00
    0xfb,                                     // sti
    0x88, 0x16, 0x92, 0x7c,                   // mov [drive], dl
    0xba, 0x02, 0x06, 0xed,                   // PM1_EN: the power button sets its status bit
    0x0d, 0x00, 0x01, 0xef,
    0xbe, 0x84, 0x7c, 0xe8, 0x4d, 0x00,       // print hello
    // poll:
    0xba, 0x00, 0x06, 0xed,                   // PM1_STS: power button pressed?
    0xf6, 0xc4, 0x01, 0x75, 0x3b,             // jnz poweroff
    0xba, 0xfd, 0x03, 0xec,                   // line status: a byte there?
    0xa8, 0x01, 0x74, 0xef,                   // jz poll
    0xba, 0xf8, 0x03, 0xec,                   // take it
    0x3c, b'r', 0x74, 0x0d,                   // je read
    0x3c, b'b', 0x74, 0x1f,                   // je reboot
    0x3c, b'q', 0x74, 0x23,                   // je poweroff
    0xe8, 0x34, 0x00, 0xeb, 0xda,             // put it back; jmp poll
    // read:
    0xbe, 0x94, 0x7c, 0xb4, 0x42,             // extended read with the packet below
    0x8a, 0x16, 0x92, 0x7c, 0xcd, 0x13,       // from the boot drive
    0xb0, b'R', 0x73, 0x02, 0xb0, b'E',       // al = carry ? 'E' : 'R'
    0xe8, 0x1e, 0x00, 0xeb, 0xc4,             // put it; jmp poll
    // reboot:
    0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee,       // reset control register
    0xeb, 0xbc,                               // jmp poll
    // poweroff:
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // PM1_CNT: soft off
    0xeb, 0xb3,                               // jmp poll
    // print: the text at si
    0xac, 0x84, 0xc0, 0x74, 0x05,             // lodsb; jz done
    0xe8, 0x03, 0x00, 0xeb, 0xf6,             // put it; jmp print
    0xc3,                                     // done: ret
    // put: the byte in al
    0x50, 0xba, 0xfd, 0x03,                   // until the port can take it
    0xec, 0xa8, 0x20, 0x74, 0xfb,
    0x58, 0xba, 0xf8, 0x03, 0xee, 0xc3,       // out; ret
    // 7c84:
    b'M', b'E', b'D', b'L', b'E', b'Y', b'-', b'G', b'U', b'E', b'S', b'T', b'\n', 0,
    0x00,                                     // drive
    0x90,
    // 7c94, packet: one sector, to 0:8000, from sector 1
    16, 0, 1, 0, 0x00, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
];

/// A kernel in Linux's boot format that writes its command line to the first serial port and
/// powers off.
pub fn kernel() -> Vec<u8> {
    let mut image = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // one sector of setup code after this one
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x5e]); // signature; jmp 0x260
    put(0x202, b"HdrS\x06\x02"); // header, protocol 2.6
    put(0x211, &[1]); // loaded high
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // highest address of an initrd
    put(0x238, &255_u32.to_le_bytes()); // longest command line
    put(0x260, SETUP);
    image
}

#[rustfmt::skip]
const SETUP: &[u8] = &[
    0x66, 0x8b, 0x1e, 0x28, 0x02,             // mov ebx, [0x228]: the command line's address
    0x66, 0x89, 0xd8, 0x66, 0xc1, 0xe8, 0x04, // eax = ebx >> 4
    0x8e, 0xc0, 0x83, 0xe3, 0x0f,             // es:bx points to it
    0x26, 0x8a, 0x07, 0x84, 0xc0, 0x74, 0x07, // next: at its end, jmp off
    0xba, 0xf8, 0x03, 0xee,                   // out
    0x43, 0xeb, 0xf2,                         // inc bx; jmp next
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // off: soft off
    0xeb, 0xf7,                               // jmp off
];
