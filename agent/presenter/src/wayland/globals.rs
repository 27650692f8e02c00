//! What the compositor offers, and what of it is used.
use super::State;
use super::outputs::OutputId;
use crate::error::{Error, Result};
use wayland_client::globals::{GlobalList, GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_data_device_manager::WlDataDeviceManager;
use wayland_client::protocol::wl_output::WlOutput;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_shm::WlShm;
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::{Connection, Dispatch, EventQueue, Proxy, QueueHandle, delegate_noop};
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_device_v1::WpCursorShapeDeviceV1;
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_manager_v1::WpCursorShapeManagerV1;
use wayland_protocols::xdg::activation::v1::client::xdg_activation_v1::XdgActivationV1;
use wayland_protocols::xdg::decoration::zv1::client::zxdg_decoration_manager_v1::ZxdgDecorationManagerV1;
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};
use wayland_protocols::xdg::toplevel_icon::v1::client::xdg_toplevel_icon_manager_v1::XdgToplevelIconManagerV1;
use wayland_protocols::xdg::xdg_output::zv1::client::zxdg_output_manager_v1::ZxdgOutputManagerV1;

/// The compositor's objects that are there from beginning to end.
pub(super) struct Globals {
    pub compositor: WlCompositor,
    pub shm: WlShm,
    pub shell: XdgWmBase,
    pub decorations: Option<ZxdgDecorationManagerV1>,
    pub outputs: Option<ZxdgOutputManagerV1>,
    pub copies: Option<WlDataDeviceManager>,
    pub activation: Option<XdgActivationV1>,
    pub shapes: Option<WpCursorShapeManagerV1>,
    pub icons: Option<XdgToplevelIconManagerV1>,
    pub seat: Option<WlSeat>,
}

/// What there is, and the queue on which events come.
pub(super) fn list(conn: &Connection) -> Result<(GlobalList, EventQueue<State>)> {
    registry_queue_init(conn).map_err(|error| Error::wayland("it was asked what it has", error))
}

impl Globals {
    /// Binds what is used, in the newest versions that are understood here.
    pub fn bind(list: &GlobalList, qh: &QueueHandle<State>) -> Result<Self> {
        let lacks = |what| move |_| Error::Bare { what };
        Ok(Self {
            compositor: list
                .bind(qh, 4..=4, ())
                .map_err(lacks("wl_compositor, version 4"))?,
            shm: list.bind(qh, 1..=1, ()).map_err(lacks("wl_shm"))?,
            shell: list.bind(qh, 1..=6, ()).map_err(lacks("xdg_wm_base"))?,
            decorations: list.bind(qh, 1..=1, ()).ok(),
            outputs: list.bind(qh, 2..=3, ()).ok(),
            copies: list.bind(qh, 3..=3, ()).ok(),
            activation: list.bind(qh, 1..=1, ()).ok(),
            shapes: list.bind(qh, 1..=1, ()).ok(),
            icons: list.bind(qh, 1..=1, ()).ok(),
            seat: None,
        })
    }
}

impl State {
    /// Takes the outputs and the seat that are there.
    pub(super) fn meet(&mut self, list: &GlobalList) {
        for global in list.contents().clone_list() {
            self.appeared(
                list.registry(),
                global.name,
                &global.interface,
                global.version,
            );
        }
    }

    fn appeared(&mut self, registry: &WlRegistry, name: u32, interface: &str, version: u32) {
        let qh = self.qh.clone();
        if interface == WlOutput::interface().name && version >= 2 {
            let output = registry.bind(name, version.min(4), &qh, OutputId(name));
            let logical = self.globals.outputs.as_ref();
            let logical = logical.map(|all| all.get_xdg_output(&output, &qh, OutputId(name)));
            self.outputs.add(OutputId(name), output, logical);
        } else if interface == WlSeat::interface().name
            && version >= 5
            && self.globals.seat.is_none()
        {
            // One pair of hands: further seats are not heard.
            let seat: WlSeat = registry.bind(name, version.min(9), &qh, ());
            self.selection.begin(&self.globals, &seat, &qh);
            self.globals.seat = Some(seat);
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for State {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_registry::Event::Global {
                name,
                interface,
                version,
            } => state.appeared(registry, name, &interface, version),
            wl_registry::Event::GlobalRemove { name } => state.vanished(OutputId(name)),
            _ => {}
        }
    }
}

impl Dispatch<XdgWmBase, ()> for State {
    fn event(
        _: &mut Self,
        shell: &XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        // We live. Whether the guest does is the heartbeat's matter.
        if let xdg_wm_base::Event::Ping { serial } = event {
            shell.pong(serial);
        }
    }
}

delegate_noop!(State: ignore WlCompositor);
delegate_noop!(State: ignore WlShm);
delegate_noop!(State: ignore WlShmPool);
delegate_noop!(State: ignore WlDataDeviceManager);
delegate_noop!(State: ignore ZxdgDecorationManagerV1);
delegate_noop!(State: ignore ZxdgOutputManagerV1);
delegate_noop!(State: ignore XdgActivationV1);
delegate_noop!(State: ignore WpCursorShapeManagerV1);
delegate_noop!(State: ignore WpCursorShapeDeviceV1);
delegate_noop!(State: ignore XdgToplevelIconManagerV1);
