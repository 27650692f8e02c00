//! The watcher of tray items, and their only host: apps register themselves there.
use super::{Shared, TRAY_PATH, items};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedObjectPath;
use zbus::{Connection, fdo, interface};

/// Where an item is that says only its name.
const USUAL_PATH: &str = "/StatusNotifierItem";

/// The interface.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
}

impl Watcher {
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    /// An app has an item: it says its name on the bus, or the path of the item.
    async fn register_status_notifier_item(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
        service: &str,
    ) -> fdo::Result<()> {
        if !self.shared.tray_allowed.load(Ordering::SeqCst) {
            return Err(fdo::Error::AccessDenied(
                "tray items are not allowed here".into(),
            ));
        }
        let sender = header
            .sender()
            .ok_or_else(|| fdo::Error::Failed("the message has no sender".into()))?;
        let (owner, path) = if service.starts_with('/') {
            (sender.to_owned().into(), service)
        } else {
            let bus = fdo::DBusProxy::new(connection).await?;
            let name = service
                .try_into()
                .map_err(|_| fdo::Error::InvalidArgs("that is no name on a bus".into()))?;
            (bus.get_name_owner(name).await?, USUAL_PATH)
        };
        let path = OwnedObjectPath::try_from(path)
            .map_err(|_| fdo::Error::InvalidArgs("that is no path of an object".into()))?;
        let known = items::register(&self.shared, connection, owner, path)?;
        Self::status_notifier_item_registered(&emitter, &known).await?;
        Ok(())
    }

    /// A program shows items. There is no use for another one; it is told so by nothing happening.
    #[expect(clippy::unused_self, reason = "a method of the interface")]
    fn register_status_notifier_host(&self, _service: &str) {}

    /// All items.
    #[zbus(property)]
    fn registered_status_notifier_items(&self) -> Vec<String> {
        self.shared.items().names()
    }

    /// Whether anybody shows items.
    #[zbus(property)]
    #[expect(clippy::unused_self, reason = "a property of the interface")]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    /// The protocol's version.
    #[zbus(property)]
    #[expect(clippy::unused_self, reason = "a property of the interface")]
    fn protocol_version(&self) -> i32 {
        0
    }

    /// An item is there.
    #[zbus(signal)]
    async fn status_notifier_item_registered(
        emitter: &SignalEmitter<'_>,
        service: &str,
    ) -> zbus::Result<()>;

    /// An item is gone.
    #[zbus(signal)]
    async fn status_notifier_item_unregistered(
        emitter: &SignalEmitter<'_>,
        service: &str,
    ) -> zbus::Result<()>;

    /// Somebody shows items.
    #[zbus(signal)]
    async fn status_notifier_host_registered(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
}

/// Tells apps that items are shown from now on.
pub async fn announce(connection: &Connection) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(connection, TRAY_PATH)?;
    Watcher::status_notifier_host_registered(&emitter).await
}

/// Tells apps that an item is gone.
pub async fn unregistered(connection: Connection, name: String) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(&connection, TRAY_PATH)?;
    Watcher::status_notifier_item_unregistered(&emitter, &name).await
}
