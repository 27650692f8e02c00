//! The window on the host's desktop: events of the display's and of the machine's, and what becomes of them.
mod pointing;
mod typing;

use crate::error::{Error, Result};
use crate::keys::Keyboard;
use crate::link::{Greeted, Link};
use crate::pointer::{Caught, Pointer};
use crate::sandbox;
use crate::shown::{Dress, Shown};
use crate::sizes::Sizes;
use medley_presenter::report::Report;
use medley_rfb::Say;
use medley_rfb::picture::hold;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;
use winit::application::ApplicationHandler;
use winit::dpi::{PhysicalPosition, PhysicalSize};
use winit::event::{DeviceEvent, DeviceId, ElementState, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, EventLoopProxy};
use winit::platform::scancode::PhysicalKeyExtScancode;
use winit::platform::{wayland, x11};
use winit::window::{Fullscreen, Window, WindowId};

/// What names a display.
const DISPLAYS: [&str; 3] = ["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DISPLAY"];
/// What the desktop knows windows of this program by.
const CLASS: &str = "medley-viewer";

/// What is to be shown, and how.
#[derive(Debug)]
pub struct Options {
    /// Where the machine shows its screen.
    pub socket: PathBuf,
    /// The workspace's name, fit for a title.
    pub workspace: String,
    /// What the window looks like.
    pub dress: Dress,
    /// It covers a whole monitor.
    pub fullscreen: bool,
}

/// Why there is no window any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The machine ended.
    Machine,
    /// Somebody closed the window.
    Window,
}

/// The machine said something.
#[derive(Clone, Copy, Debug)]
struct Wake;

/// Shows the screen until its machine ends or its window is closed.
///
/// # Errors
/// There is no display or no machine, or either fails.
pub fn run(options: Options, report: &Report) -> Result<Ending> {
    let greeted = Greeted::connect(&options.socket)?;
    let named = |name: &&str| std::env::var_os(name).is_some_and(|it| !it.is_empty());
    if !DISPLAYS.iter().any(named) {
        let words = "neither WAYLAND_DISPLAY nor DISPLAY names one";
        return Err(Error::Display(words.into()));
    }
    let events = EventLoop::<Wake>::with_user_event().build();
    let events = events.map_err(|error| Error::Display(error.to_string()))?;
    let mut app = App {
        options,
        report,
        wake: events.create_proxy(),
        greeted: Some(greeted),
        screen: None,
        keyboard: Keyboard::default(),
        pointer: Pointer::default(),
        at: PhysicalPosition::default(),
        hidden: false,
        sizes: Sizes::default(),
        size: (0, 0),
        ending: None,
    };
    events
        .run_app(&mut app)
        .map_err(|error| Error::Display(error.to_string()))?;
    app.ending.unwrap_or(Ok(Ending::Window))
}

/// What there is once the display has given us a window.
struct Screen {
    // The window first: it shows the picture.
    shown: Shown,
    link: Link,
}

struct App<'a> {
    options: Options,
    report: &'a Report,
    wake: EventLoopProxy<Wake>,
    greeted: Option<Greeted>,
    screen: Option<Screen>,
    keyboard: Keyboard,
    pointer: Pointer,
    /// Where the pointer is in the window.
    at: PhysicalPosition<f64>,
    /// The host's own cursor is not seen.
    hidden: bool,
    sizes: Sizes,
    /// The screen's size, as it was last shown.
    size: (u16, u16),
    ending: Option<Result<Ending>>,
}

impl App<'_> {
    fn end(&mut self, events: &ActiveEventLoop, how: Result<Ending>) {
        self.ending.get_or_insert(how);
        events.exit();
    }

    /// Does something that may fail, and ends if it did.
    fn try_to(&mut self, events: &ActiveEventLoop, act: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = act(self) {
            self.end(events, Err(error));
        }
    }

    fn title(&self) -> String {
        let how = match self.pointer.is_caught() {
            true => " (Super+Shift+G gives the pointer back)",
            false => "",
        };
        format!("[{}] desktop{how}", self.options.workspace)
    }

    /// A window's size with its ring, for a screen's.
    fn outer(&self, screen: (u16, u16)) -> (u32, u32) {
        let (across, down) = self.options.dress.frame.adds();
        (
            u32::from(screen.0) + u32::from(across),
            u32::from(screen.1) + u32::from(down),
        )
    }

    fn open(&mut self, events: &ActiveEventLoop) -> Result<()> {
        let Some(greeted) = self.greeted.take() else {
            return Ok(());
        };
        self.size = greeted.size();
        let mut size = self.outer(self.size);
        let monitors = || events.available_monitors();
        let monitor = events.primary_monitor().or_else(|| monitors().next());
        if let Some(room) = monitor
            .map(|monitor| monitor.size())
            .filter(|s| s.width > 0)
        {
            size = (size.0.min(room.width), size.1.min(room.height));
        }
        let size = self.sizes.follow(size).unwrap_or(size);
        let attributes = Window::default_attributes()
            .with_title(self.title())
            .with_inner_size(PhysicalSize::new(size.0, size.1))
            .with_fullscreen(
                self.options
                    .fullscreen
                    .then_some(Fullscreen::Borderless(None)),
            );
        let class = format!("medley-{}", self.options.workspace);
        let attributes = x11::WindowAttributesExtX11::with_name(attributes, CLASS, &class);
        let attributes = wayland::WindowAttributesExtWayland::with_name(attributes, CLASS, &class);
        let window = events.create_window(attributes);
        let window = window.map_err(|error| Error::Display(error.to_string()))?;
        let display = events.owned_display_handle();
        let shown = Shown::new(display, window, self.options.dress.clone())?;
        let enforced = sandbox::enter().map_err(|error| Error::System {
            doing: "a sandbox",
            source: std::io::Error::other(error),
        })?;
        tracing::info!(enforced, "no files, no connections");
        let wake = self.wake.clone();
        // Fails when the window is closed just now.
        let link = greeted.listen(move || {
            let _ = wake.send_event(Wake);
        })?;
        shown.ask();
        self.screen = Some(Screen { shown, link });
        self.report.say(
            "shown",
            json!({ "width": self.size.0, "height": self.size.1 }),
        );
        Ok(())
    }

    fn say(&self, say: Say) -> Result<()> {
        let lost = matches!(say, Say::Pointer { .. });
        self.screen.iter().try_for_each(|it| it.link.say(say, lost))
    }

    /// The machine said something.
    fn heard(&mut self, events: &ActiveEventLoop) {
        let Some(screen) = &mut self.screen else {
            return;
        };
        match screen.link.look() {
            Some(Ok(())) => return self.end(events, Ok(Ending::Machine)),
            Some(Err(error)) => return self.end(events, Err(error)),
            None => {}
        }
        screen.shown.ask();
        let (size, placed) = {
            let picture = hold(screen.link.picture());
            (picture.size(), picture.is_placed())
        };
        if placed && self.pointer.is_caught() {
            self.catch(false);
        }
        if size != self.size {
            self.size = size;
            self.report
                .say("sized", json!({ "width": size.0, "height": size.1 }));
            self.follow();
        }
        self.update_cursor();
    }

    /// Gives the window the screen's size, if it may have one of its own.
    fn follow(&mut self) {
        let outer = self.outer(self.size);
        let Some(screen) = &self.screen else {
            return;
        };
        let window = screen.shown.window();
        if window.fullscreen().is_some() || window.is_maximized() {
            return;
        }
        // As large as the monitor at most: what cannot be seen of the ring says nothing.
        let room = window.current_monitor().map(|monitor| monitor.size());
        let outer = room.filter(|room| room.width > 0).map_or(outer, |room| {
            (outer.0.min(room.width), outer.1.min(room.height))
        });
        if let Some((width, height)) = self.sizes.follow(outer) {
            let granted = window.request_inner_size(PhysicalSize::new(width, height));
            if let Some(size) = granted {
                self.sizes.resized(size.into(), Instant::now());
            }
        }
    }

    fn wish(&mut self) -> Result<()> {
        let Some(screen) = &self.screen else {
            return Ok(());
        };
        let inside = screen.shown.layout().inside();
        let inner = (inside.width, inside.height);
        match self.sizes.wish(Instant::now(), inner, self.size) {
            Some((width, height)) => {
                self.report
                    .say("wished", json!({ "width": width, "height": height }));
                self.say(Say::Size(width, height))
            }
            None => Ok(()),
        }
    }

    fn paint(&mut self) -> Result<()> {
        let Some(screen) = &mut self.screen else {
            return Ok(());
        };
        screen.shown.paint(&mut hold(screen.link.picture()))
    }
}

impl ApplicationHandler<Wake> for App<'_> {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        self.try_to(events, |app| app.open(events));
    }

    fn new_events(&mut self, events: &ActiveEventLoop, cause: StartCause) {
        if matches!(cause, StartCause::ResumeTimeReached { .. }) {
            self.try_to(events, Self::wish);
        }
    }

    fn user_event(&mut self, events: &ActiveEventLoop, _: Wake) {
        self.heard(events);
    }

    fn about_to_wait(&mut self, events: &ActiveEventLoop) {
        events.set_control_flow(match self.sizes.due() {
            Some(due) => ControlFlow::WaitUntil(due),
            None => ControlFlow::Wait,
        });
    }

    fn device_event(&mut self, events: &ActiveEventLoop, _: DeviceId, event: DeviceEvent) {
        if let DeviceEvent::MouseMotion { delta } = event
            && *self.pointer.caught() == Caught::Locked
            && let Some(say) = self.pointer.moved(delta)
        {
            self.try_to(events, |app| app.say(say));
        }
    }

    fn window_event(&mut self, events: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::CloseRequested | WindowEvent::Destroyed => {
                self.end(events, Ok(Ending::Window));
            }
            WindowEvent::Resized(size) => {
                self.sizes.resized(size.into(), Instant::now());
                if let Some(screen) = &mut self.screen {
                    screen.shown.ask();
                }
            }
            WindowEvent::RedrawRequested => self.try_to(events, Self::paint),
            WindowEvent::Focused(false) => self.try_to(events, Self::unfocused),
            WindowEvent::KeyboardInput {
                event,
                is_synthetic: false,
                ..
            } => {
                let down = event.state == ElementState::Pressed;
                if let Some(key) = event.physical_key.to_scancode() {
                    self.try_to(events, |app| app.key(key, down));
                }
            }
            WindowEvent::CursorMoved { position, .. } => {
                self.try_to(events, |app| app.came(position));
            }
            WindowEvent::CursorLeft { .. } => {
                self.at = PhysicalPosition::new(-1.0, -1.0);
                self.update_cursor();
            }
            WindowEvent::MouseInput { state, button, .. } => {
                let down = state == ElementState::Pressed;
                self.try_to(events, |app| app.pressed(button, down));
            }
            WindowEvent::MouseWheel { delta, .. } => {
                self.try_to(events, |app| app.turned(delta));
            }
            _ => {}
        }
    }
}
