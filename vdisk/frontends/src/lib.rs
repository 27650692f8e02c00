//! Shows a virtual disk to the world: FUSE and NBD.
