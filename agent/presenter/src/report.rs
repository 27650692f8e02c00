//! What a supervisor reads: one line for each event, as JSON or for people.
use crate::model::{Chord, Event};
use serde_json::{Value, json};
use std::io::Write;

/// Where events go.
#[derive(Debug)]
pub struct Report {
    json: bool,
}

impl Report {
    /// To standard output: JSON, or plain words.
    #[must_use]
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// An event with a name and values.
    pub fn say(&self, name: &str, values: Value) {
        let mut out = std::io::stdout().lock();
        // Who has stopped reading is no reason to stop showing windows.
        let _ = if self.json {
            let mut line = json!({ "event": name });
            if let (Some(line), Value::Object(values)) = (line.as_object_mut(), values) {
                line.extend(values);
            }
            writeln!(out, "{line}")
        } else {
            writeln!(out, "{name} {values}")
        };
        let _ = out.flush();
    }

    /// An event of the services': its lines are read by whoever does what this process may not.
    pub fn told(&self, event: &medley_services::Event) {
        match serde_json::to_value(event) {
            Ok(Value::Object(mut values)) => {
                let name = values.remove("event");
                let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
                self.say(name, Value::Object(values));
            }
            Ok(_) | Err(_) => tracing::error!("an event has no words: {event:?}"),
        }
    }

    /// An event of the model's.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Opened {
                window,
                app,
                launch,
            } => self.say(
                "opened",
                json!({ "window": window.get(), "app": app.to_string(), "launch": launch }),
            ),
            Event::Closed(window) => self.say("closed", json!({ "window": window.get() })),
            Event::Whole { windows } => self.say("whole", json!({ "windows": windows })),
            Event::Locked(locked) => {
                self.say(if *locked { "locked" } else { "unlocked" }, json!({}));
            }
            Event::Chord(chord) => {
                let name = match chord {
                    Chord::Copy => "copy",
                    Chord::Paste => "paste",
                    Chord::Lock => "lock",
                };
                self.say("chord", json!({ "chord": name }));
            }
            Event::Violation(violation) => self.say(
                "violation",
                json!({ "code": violation.code(), "words": violation.to_string() }),
            ),
            Event::Bye => self.say("bye", json!({})),
        }
    }
}
