//! A vhost-user-blk server for one disk, on a Unix socket: a virtual machine's virtio queues are served
//! straight out of the guest's memory, without the hypervisor in between.
//!
//! `server` owns the socket, `session` hears one client's messages, `worker` is the thread of a queue,
//! `queue` takes requests from a `ring` and answers them, `chain` walks descriptors, `request` judges
//! what they say, `execute` does it. `memory` is the guest's, `inflight` and `log` are shared with the
//! client so that it survives us and can be suspended; `device` is what the guest sees.
//!
//! # Memory that changes while we look
//! Whatever lies in guest memory is read once and judged afterwards. What a guest reads is decrypted in a
//! buffer of ours and copied to it: were it decrypted in the guest's pages, the guest could put other
//! ciphertext there in time and have it decrypted under the disk's key, be it of parts of the image that
//! it may not read. The copy costs about 5 % of large reads. What it writes is not copied: the disk
//! encrypts from the guest's pages into a buffer of its own. So what reaches the disk is the encryption
//! of bytes that were there, even if the guest changes them meanwhile: which of them, old or new, is then
//! as undefined as with any disk.
//!
//! # With QEMU
//! `-object memory-backend-memfd,id=ram,size=512M,share=on -machine memory-backend=ram -chardev
//! socket,id=disk,path=SOCKET,reconnect-ms=500 -device vhost-user-blk-pci,chardev=disk,num-queues=2`. A
//! machine that is translated (TCG) instead of run by KVM starts from a kernel given to QEMU, not from a
//! boot sector: the translator does not see that we write over code that it has translated.

mod chain;
mod device;
mod execute;
mod inflight;
mod log;
mod memory;
mod queue;
mod request;
mod ring;
mod server;
mod session;
mod worker;

pub use queue::process;
pub use ring::Broken;
pub use ring::Layout;
pub use server::{VhostUserOptions, VhostUserServer};
pub use session::serve;
