//! libvirt's C library, loaded when it is wanted: the one place that calls it.
//!
//! It is loaded and not linked, so that what we build runs on hosts without it. Its objects count
//! their owners and may be used by any thread; its errors belong to the thread that called.

use medley_hypervisor::backend::lock;
use medley_hypervisor::qemu::hold::{Ended, Life, QmpEvent, Report};
use medley_hypervisor::{Error, ErrorKind, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_uint, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

type Object = *mut c_void;
type Free = unsafe extern "C" fn(Object);
type MonitorEvent =
    unsafe extern "C" fn(Object, Object, *const c_char, c_longlong, c_uint, *const c_char, Object);
type Lifecycle = unsafe extern "C" fn(Object, Object, c_int, c_int, Object) -> c_int;
type Complaint = unsafe extern "C" fn(Object, Object);
type Tick = unsafe extern "C" fn(c_int, Object);

/// Names, shapes and libraries of the functions, and a struct that holds them.
macro_rules! functions {
    ($($library:ident: $name:ident($($argument:ty),*) -> $result:ty;)*) => {
        #[allow(non_snake_case)]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl Functions {
            fn find(libvirt: &libloading::Library, qemu: &libloading::Library)
                -> std::result::Result<Functions, libloading::Error>
            {
                let libraries = Libraries { libvirt, qemu };
                // SAFETY: the names are those of functions with these shapes in the headers of
                // libvirt, whose interface is stable.
                Ok(unsafe {
                    Functions {
                        $($name: *libraries.$library.get(concat!(stringify!($name), "\0"))?,)*
                    }
                })
            }
        }
    };
}

struct Libraries<'a> {
    libvirt: &'a libloading::Library,
    qemu: &'a libloading::Library,
}

functions! {
    libvirt: virInitialize() -> c_int;
    libvirt: virSetErrorFunc(Object, Complaint) -> ();
    libvirt: virGetLastErrorCode() -> c_int;
    libvirt: virGetLastErrorMessage() -> *const c_char;
    libvirt: virEventRegisterDefaultImpl() -> c_int;
    libvirt: virEventRunDefaultImpl() -> c_int;
    libvirt: virEventAddTimeout(c_int, Tick, Object, Option<Free>) -> c_int;
    libvirt: virConnectOpen(*const c_char) -> Object;
    libvirt: virConnectClose(Object) -> c_int;
    libvirt: virConnectSetKeepAlive(Object, c_int, c_uint) -> c_int;
    libvirt: virConnectGetLibVersion(Object, *mut std::ffi::c_ulong) -> c_int;
    libvirt: virConnectGetVersion(Object, *mut std::ffi::c_ulong) -> c_int;
    libvirt: virConnectListAllDomains(Object, *mut *mut Object, c_uint) -> c_int;
    libvirt: virConnectDomainEventRegisterAny(Object, Object, c_int, Lifecycle, Object, Free) -> c_int;
    libvirt: virConnectDomainEventDeregisterAny(Object, c_int) -> c_int;
    libvirt: virDomainCreateXML(Object, *const c_char, c_uint) -> Object;
    libvirt: virDomainFree(Object) -> c_int;
    libvirt: virDomainDestroy(Object) -> c_int;
    libvirt: virDomainGetUUIDString(Object, *mut c_char) -> c_int;
    libvirt: virDomainGetMetadata(Object, c_int, *const c_char, c_uint) -> *mut c_char;
    qemu: virDomainQemuMonitorCommandWithFiles(
        Object, *const c_char, c_uint, *mut c_int, *mut c_uint, *mut *mut c_int, *mut *mut c_char,
        c_uint
    ) -> c_int;
    qemu: virConnectDomainQemuMonitorEventRegister(
        Object, Object, *const c_char, MonitorEvent, Object, Free, c_uint
    ) -> c_int;
    qemu: virConnectDomainQemuMonitorEventDeregister(Object, c_int) -> c_int;
}

unsafe extern "C" {
    /// The C library's own: libvirt hands out memory that its callers give back.
    fn free(memory: *mut c_void);
}

// From libvirt's headers.
const DOMAINS_ACTIVE: c_uint = 1;
const START_PAUSED: c_uint = 1;
const START_AUTODESTROY: c_uint = 2;
const METADATA_ELEMENT: c_int = 2;
const EVENT_LIFECYCLE: c_int = 0;
const LIFECYCLE_STOPPED: c_int = 5;
const STOPPED_SHUTDOWN: c_int = 0;
const STOPPED_DESTROYED: c_int = 1;
const UUID_BYTES: usize = 37;
/// A system's error, one of the connection's, no access.
const FAILED_TO_CONNECT: [c_int; 3] = [38, 39, 45];

/// The library: found, started and with its events turning, once for this process.
fn library() -> Result<&'static Functions> {
    static LIBRARY: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
    let loaded = LIBRARY.get_or_init(|| load().map_err(|error| error.to_string()));
    loaded.as_ref().map_err(|detail| {
        Error::new(ErrorKind::Missing, "load libvirt", detail.as_str())
            .remedy("install libvirt's daemon or its client library, version 8.2 or newer")
    })
}

fn load() -> std::result::Result<Functions, libloading::Error> {
    // SAFETY: what libvirt's libraries run when they are loaded has no demands on us. They are
    // never unloaded: the functions outlive every use.
    let library = |name: &str| unsafe { libloading::Library::new(name) };
    let [libvirt, qemu] = [library("libvirt.so.0")?, library("libvirt-qemu.so.0")?];
    let functions = Functions::find(&libvirt, &qemu)?;
    std::mem::forget((libvirt, qemu));
    // SAFETY: these take no memory of ours; the loop must be there before the first connection,
    // and is. The timer, which does nothing, lets every turn of the loop end.
    unsafe {
        (functions.virSetErrorFunc)(null_mut(), quiet);
        (functions.virInitialize)();
        (functions.virEventRegisterDefaultImpl)();
        (functions.virEventAddTimeout)(1000, tick, null_mut(), None);
    }
    let turn = functions.virEventRunDefaultImpl;
    thread::spawn(move || {
        loop {
            // SAFETY: only this thread runs the loop.
            unsafe { turn() };
        }
    });
    Ok(functions)
}

/// libvirt would write every error to our standard error as well.
unsafe extern "C" fn quiet(_: Object, _: Object) {}

unsafe extern "C" fn tick(_: c_int, _: Object) {}

/// The calling thread's last error.
fn last_error(functions: &Functions, kind: ErrorKind, operation: &str) -> Error {
    // SAFETY: the message is the thread's own, until its next call.
    let (code, words) = unsafe {
        let words = (functions.virGetLastErrorMessage)();
        ((functions.virGetLastErrorCode)(), text(words))
    };
    tracing::debug!(code, operation, words, "libvirt");
    Error::new(kind, operation, words)
}

/// A text of libvirt's.
///
/// # Safety
/// `text` is null or a string that ends with a zero, and stays for the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// The same, given back after.
///
/// # Safety
/// As [`text`], and it was handed out by libvirt for its caller to free.
unsafe fn taken(words: *mut c_char) -> String {
    // SAFETY: as above.
    unsafe {
        let taken = text(words);
        free(words.cast());
        taken
    }
}

fn c_string(operation: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Error::new(
            ErrorKind::BadSpec,
            operation,
            format!("{text:?} holds a zero byte"),
        )
    })
}

/// The machines that are told of their domains, by these domains' UUIDs.
type Watchers = Mutex<HashMap<String, Arc<Life>>>;

/// A connection to libvirt, with one listener to all its domains: of several listeners for one
/// domain each, libvirt's client tells its daemon of the first alone.
#[derive(Debug)]
pub(crate) struct Connection {
    object: Object,
    watchers: Arc<Watchers>,
    // For the monitors' events, and for the domains' lives.
    listeners: OnceLock<[c_int; 2]>,
}

// SAFETY: libvirt's connections may be used by any number of threads at a time.
unsafe impl Send for Connection {}
// SAFETY: as above.
unsafe impl Sync for Connection {}

impl Connection {
    pub fn open(uri: &str) -> Result<Arc<Connection>> {
        let functions = library()?;
        let operation = format!("connect to libvirt at {uri}");
        let uri = c_string(&operation, uri)?;
        // SAFETY: the string outlives the call.
        let connection = unsafe { (functions.virConnectOpen)(uri.as_ptr()) };
        if connection.is_null() {
            // SAFETY: no memory of ours.
            let code = unsafe { (functions.virGetLastErrorCode)() };
            return Err(if FAILED_TO_CONNECT.contains(&code) {
                last_error(functions, ErrorKind::Missing, &operation)
                    .remedy("start libvirtd, and be allowed to use its socket")
            } else {
                last_error(functions, ErrorKind::Refused, &operation)
            });
        }
        // A daemon that does not answer for 20 seconds is gone; without a daemon this is refused.
        // SAFETY: the connection is open.
        unsafe { (functions.virConnectSetKeepAlive)(connection, 5, 3) };
        let connection = Connection {
            object: connection,
            watchers: Arc::default(),
            listeners: OnceLock::new(),
        };
        connection.listen(functions)?;
        Ok(Arc::new(connection))
    }

    fn listen(&self, functions: &Functions) -> Result<()> {
        let opaque = || Box::into_raw(Box::new(Arc::clone(&self.watchers))).cast();
        // SAFETY: the connection is open. Each listener gets a share of the watchers of its own,
        // which the library gives back through `forget` when the listener goes.
        let [monitor, lifecycle] = unsafe {
            [
                (functions.virConnectDomainQemuMonitorEventRegister)(
                    self.object,
                    null_mut(),
                    null(),
                    on_monitor,
                    opaque(),
                    forget,
                    0,
                ),
                (functions.virConnectDomainEventRegisterAny)(
                    self.object,
                    null_mut(),
                    EVENT_LIFECYCLE,
                    on_lifecycle,
                    opaque(),
                    forget,
                ),
            ]
        };
        if monitor < 0 || lifecycle < 0 {
            return Err(last_error(
                functions,
                ErrorKind::Refused,
                "listen to libvirt",
            ));
        }
        let _ = self.listeners.set([monitor, lifecycle]);
        Ok(())
    }

    /// The versions of libvirt and of QEMU: a million times major, a thousand times minor, micro.
    pub fn versions(&self) -> Result<[u64; 2]> {
        let functions = library()?;
        let (mut libvirt, mut qemu) = (0, 0);
        // SAFETY: the connection is open, and both are ours to write to.
        let said = unsafe {
            (functions.virConnectGetLibVersion)(self.object, &raw mut libvirt).min((functions
                .virConnectGetVersion)(
                self.object,
                &raw mut qemu,
            ))
        };
        match said {
            0 => Ok([libvirt, qemu]),
            _ => Err(last_error(
                functions,
                ErrorKind::Missing,
                "find out libvirt's QEMU",
            )),
        }
    }

    /// Makes a domain that stands still and is gone when it ends; with `bound`, it ends when the
    /// connection does.
    pub fn create(self: &Arc<Connection>, xml: &str, bound: bool) -> Result<Domain> {
        let functions = library()?;
        let text = c_string("create a domain", xml)?;
        let flags = START_PAUSED | if bound { START_AUTODESTROY } else { 0 };
        // SAFETY: the connection is open, and the string outlives the call.
        let domain = unsafe { (functions.virDomainCreateXML)(self.object, text.as_ptr(), flags) };
        if domain.is_null() {
            return Err(last_error(functions, ErrorKind::Launch, "create a domain"));
        }
        Ok(self.domain(domain))
    }

    fn domain(self: &Arc<Connection>, domain: Object) -> Domain {
        Domain(Arc::new(Handle {
            domain,
            connection: Arc::clone(self),
        }))
    }

    /// The domains that run.
    pub fn domains(self: &Arc<Connection>) -> Result<Vec<Domain>> {
        let functions = library()?;
        let mut list: *mut Object = null_mut();
        // SAFETY: the connection is open, and the list is ours to write to.
        let count = unsafe {
            (functions.virConnectListAllDomains)(self.object, &raw mut list, DOMAINS_ACTIVE)
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(last_error(functions, ErrorKind::Protocol, "list domains"));
        };
        // SAFETY: the list holds so many domains, each ours from now on; then it is given back.
        unsafe {
            let domains = (0..count).map(|n| self.domain(*list.add(n))).collect();
            free(list.cast());
            Ok(domains)
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Ok(functions) = library() else { return };
        // SAFETY: it was open, the listeners are its own, and nobody has it any more.
        unsafe {
            if let Some([monitor, lifecycle]) = self.listeners.get() {
                (functions.virConnectDomainQemuMonitorEventDeregister)(self.object, *monitor);
                (functions.virConnectDomainEventDeregisterAny)(self.object, *lifecycle);
            }
            (functions.virConnectClose)(self.object);
        }
    }
}

/// A domain; a copy is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Domain(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    domain: Object,
    connection: Arc<Connection>,
}

// SAFETY: libvirt's domains may be used by any number of threads at a time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Domain {
    /// Tells `life` all that happens, from now on.
    pub fn watch(&self, uuid: &str, life: &Arc<Life>) {
        let watchers = &self.0.connection.watchers;
        lock(watchers).insert(uuid.to_owned(), Arc::clone(life));
    }

    /// Nothing is told any more.
    pub fn unwatch(&self, uuid: &str) {
        lock(&self.0.connection.watchers).remove(uuid);
    }

    /// Has QEMU's monitor execute a command, with a descriptor if it takes one; its answer.
    pub fn monitor(&self, command: &Value, file: Option<OwnedFd>) -> Result<Value> {
        let functions = library()?;
        let operation = format!("monitor command {}", command["execute"]);
        let words = c_string(&operation, &command.to_string())?;
        let mut files: Vec<c_int> = file.iter().map(AsRawFd::as_raw_fd).collect();
        let mut answer: *mut c_char = null_mut();
        // SAFETY: the domain is open; all that is pointed to outlives the call, and no
        // descriptors are asked back.
        let said = unsafe {
            (functions.virDomainQemuMonitorCommandWithFiles)(
                self.0.domain,
                words.as_ptr(),
                files.len() as c_uint,
                files.as_mut_ptr(),
                null_mut(),
                null_mut(),
                &raw mut answer,
                0,
            )
        };
        if said < 0 {
            return Err(last_error(functions, ErrorKind::Protocol, &operation));
        }
        // SAFETY: it is handed out for us to free.
        let answer = unsafe { taken(answer) };
        let bad = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Protocol, operation.as_str(), error.to_string())
        };
        let mut answer: Value = serde_json::from_str(&answer).map_err(|error| bad(&error))?;
        if let Some(refused) = answer.get("error") {
            let words = refused["desc"].as_str().unwrap_or("no reason given");
            return Err(Error::new(ErrorKind::Refused, operation, words));
        }
        answer
            .get_mut("return")
            .map(Value::take)
            .ok_or_else(|| bad(&"its answer is none"))
    }

    /// Ends it: first it is told to, and killed if it does not obey in ten seconds or so.
    pub fn destroy(&self) -> Result<()> {
        let functions = library()?;
        // SAFETY: the domain is open.
        match unsafe { (functions.virDomainDestroy)(self.0.domain) } {
            0 => Ok(()),
            _ => Err(last_error(functions, ErrorKind::Protocol, "end a domain")),
        }
    }

    /// The element of this name space in its metadata.
    pub fn metadata(&self, namespace: &str) -> Option<String> {
        let functions = library().ok()?;
        let namespace = c_string("read metadata", namespace).ok()?;
        // SAFETY: the domain is open, the string outlives the call, and what comes back is ours.
        unsafe {
            let found = (functions.virDomainGetMetadata)(
                self.0.domain,
                METADATA_ELEMENT,
                namespace.as_ptr(),
                0,
            );
            (!found.is_null()).then(|| taken(found))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Ok(functions) = library() {
            // SAFETY: it was open, and nobody has it any more.
            unsafe { (functions.virDomainFree)(self.domain) };
        }
    }
}

/// A domain's UUID.
///
/// # Safety
/// The domain is open.
unsafe fn uuid(functions: &Functions, domain: Object) -> String {
    let mut uuid: [c_char; UUID_BYTES] = [0; UUID_BYTES];
    // SAFETY: as above, and so many bytes are what is written at most, with a zero at the end.
    unsafe {
        (functions.virDomainGetUUIDString)(domain, uuid.as_mut_ptr());
        text(uuid.as_ptr())
    }
}

/// Who watches a domain that something happened to.
///
/// # Safety
/// `domain` is open, and `opaque` is what `listen` gave.
unsafe fn watcher(domain: Object, opaque: Object) -> Option<Arc<Life>> {
    // SAFETY: as above.
    let (uuid, watchers) = unsafe {
        (
            uuid(library().ok()?, domain),
            &*opaque.cast::<Arc<Watchers>>(),
        )
    };
    lock(watchers).get(&uuid).cloned()
}

/// Gives back a listener's share.
unsafe extern "C" fn forget(opaque: Object) {
    // SAFETY: libvirt calls this once for each listener, with what `listen` gave it.
    drop(unsafe { Box::<Arc<Watchers>>::from_raw(opaque.cast()) });
}

unsafe extern "C" fn on_monitor(
    _: Object,
    domain: Object,
    event: *const c_char,
    _: c_longlong,
    _: c_uint,
    details: *const c_char,
    opaque: Object,
) {
    // SAFETY: libvirt gives an open domain and what `listen` gave it; the texts stay for the call.
    let (life, name, data) = unsafe { (watcher(domain, opaque), text(event), text(details)) };
    let data = serde_json::from_str(&data).unwrap_or_else(|_| serde_json::json!({}));
    if let Some(life) = life {
        life.hear(Report::Event(QmpEvent { name, data }));
    }
}

unsafe extern "C" fn on_lifecycle(
    _: Object,
    domain: Object,
    event: c_int,
    detail: c_int,
    opaque: Object,
) -> c_int {
    // SAFETY: as in `on_monitor`.
    let life = unsafe { watcher(domain, opaque) };
    if let Some(life) = life.filter(|_| event == LIFECYCLE_STOPPED) {
        // All that the monitor said has been told before.
        life.hear(Report::Closed);
        life.end(&Ended {
            code: (detail == STOPPED_SHUTDOWN).then_some(0),
            signal: (detail == STOPPED_DESTROYED).then_some(9),
            stderr: String::new(),
        });
    }
    0
}
