//! The client against a fake QEMU that misbehaves in every way a peer can.

use super::*;
use std::sync::mpsc::{Receiver, channel};

const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}, "capabilities": []}}"#;
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(10);

/// A peer that follows a script: writes the text, or waits for one line and answers with what the
/// function makes of it. It hangs up at the script's end.
enum Step {
    Say(String),
    Answer(fn(&Value) -> String),
    Sleep(Duration),
}
use Step::{Answer, Say, Sleep};

fn line(text: &str) -> Step {
    Say(format!("{text}\n"))
}

fn accept(command: &Value) -> String {
    format!("{{\"return\": {{}}, \"id\": {}}}\n", command["id"])
}

fn peer(script: Vec<Step>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        let mut reader = BufReader::new(theirs.try_clone().unwrap());
        for step in script {
            let text = match step {
                Say(text) => text,
                Answer(answer) => {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    answer(&serde_json::from_str(&line).unwrap())
                }
                Sleep(time) => {
                    thread::sleep(time);
                    String::new()
                }
            };
            // The client may be gone already: that is its good right.
            if (&theirs).write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    });
    ours
}

fn connect(stream: UnixStream, timeout: Duration) -> Result<(Client, Receiver<String>)> {
    let (send, reports) = channel();
    let report = move |report| {
        let _ = send.send(match report {
            Report::Event(event) => event.name,
            Report::Closed => "closed".into(),
        });
    };
    Ok((Client::connect(stream, timeout, report)?, reports))
}

fn connected(script: Vec<Step>) -> (Client, Receiver<String>) {
    let mut all = vec![line(GREETING), Answer(accept)];
    all.extend(script);
    connect(peer(all), LONG).unwrap()
}

#[test]
fn a_command_gets_its_reply() {
    let (client, _) = connected(vec![Answer(|command| {
        assert_eq!(command["execute"], "query-status");
        assert!(command.get("arguments").is_none());
        format!(
            "{{\"return\": {{\"status\": \"paused\"}}, \"id\": {}}}\n",
            command["id"]
        )
    })]);
    assert_eq!(
        client.execute("query-status", Value::Null, LONG).unwrap()["status"],
        "paused"
    );
}

#[test]
fn events_come_in_order_before_the_reply() {
    let (client, reports) = connected(vec![Answer(|command| {
        format!(
            "{{\"event\": \"A\"}}\n{{\"event\": \"B\", \"data\": {{}}}}\n{}",
            accept(command)
        )
    })]);
    client.execute("cont", Value::Null, LONG).unwrap();
    // Already there: no waiting.
    assert_eq!(reports.try_iter().take(2).collect::<Vec<_>>(), ["A", "B"]);
}

#[test]
fn an_event_during_the_greeting_is_not_lost() {
    let script = vec![
        line(GREETING),
        line(r#"{"event": "EARLY"}"#),
        Answer(accept),
    ];
    let (_client, reports) = connect(peer(script), LONG).unwrap();
    assert_eq!(reports.recv_timeout(LONG).unwrap(), "EARLY");
}

#[test]
fn a_refusal_carries_qemus_words() {
    let (client, _) = connected(vec![Answer(|command| {
        format!(
            "{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"no such\"}}, \"id\": {}}}\n",
            command["id"]
        )
    })]);
    let error = client.execute("fly", Value::Null, LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("no such") && error.to_string().contains("fly"));
}

#[test]
fn silence_is_a_timeout_and_a_late_reply_is_dropped() {
    let (client, _) = connected(vec![
        Answer(|_| String::new()),
        Answer(|command| format!("{{\"return\": \"late\", \"id\": 1}}\n{}", accept(command))),
    ]);
    let error = client.execute("stop", Value::Null, SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(
        client.execute("cont", Value::Null, LONG).unwrap(),
        json!({})
    );
}

#[test]
fn hanging_up_fails_those_who_wait_and_those_who_come() {
    let (client, reports) = connected(vec![Answer(|_| String::new())]);
    let error = client.execute("stop", Value::Null, LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("hung up"), "{error}");
    assert_eq!(reports.recv_timeout(LONG).unwrap(), "closed");
    let error = client.execute("stop", Value::Null, LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[test]
fn nonsense_ends_the_connection() {
    for text in [
        "no json\n",
        "[1,2]\n",
        "{\"neither\": 1}\n",
        "\u{0}\u{1}\n",
        "{\"id\": -1}\n",
    ] {
        let (client, reports) = connected(vec![Say(text.into()), Sleep(LONG)]);
        assert_eq!(reports.recv_timeout(LONG).unwrap(), "closed", "{text:?}");
        let error = client.execute("stop", Value::Null, LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{text:?}");
    }
}

#[test]
fn a_line_without_end_takes_no_memory_without_end() {
    let (_client, reports) = connected(vec![Say("x".repeat(LINE_MAX as usize + 1)), Sleep(LONG)]);
    assert_eq!(reports.recv_timeout(LONG).unwrap(), "closed");
}

#[test]
fn a_bad_greeting_is_an_error_in_time() {
    let kind = |script, timeout| connect(peer(script), timeout).unwrap_err().kind();
    assert_eq!(kind(vec![], LONG), ErrorKind::Protocol);
    assert_eq!(
        kind(vec![line("SSH-2.0-nothing")], LONG),
        ErrorKind::Protocol
    );
    assert_eq!(
        kind(vec![line("{\"return\": {}}")], LONG),
        ErrorKind::Protocol
    );
    assert_eq!(
        kind(vec![Say("x".repeat(2 << 20))], LONG),
        ErrorKind::Protocol
    );
    assert_eq!(kind(vec![Sleep(LONG)], SHORT), ErrorKind::Timeout);
    assert_eq!(
        kind(vec![line(GREETING), Sleep(LONG)], SHORT),
        ErrorKind::Timeout
    );
    let refusal = |_: &Value| "{\"error\": {\"desc\": \"no\"}, \"id\": 0}\n".to_owned();
    assert_eq!(
        kind(vec![line(GREETING), Answer(refusal)], LONG),
        ErrorKind::Refused
    );
}

#[test]
fn a_peer_that_dribbles_does_not_hold_us() {
    let drops = (0..100).flat_map(|_| [Say(" ".into()), Sleep(Duration::from_millis(20))]);
    let began = Instant::now();
    assert_eq!(
        connect(peer(drops.collect()), SHORT).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn many_threads_share_a_connection() {
    let echo = |command: &Value| {
        format!(
            "{{\"return\": {}, \"id\": {}}}\n",
            command["arguments"]["n"], command["id"]
        )
    };
    let (client, _) = connected((0..64).map(|_| Answer(echo)).collect());
    thread::scope(|scope| {
        for thread in 0..8 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..8 {
                    let n = thread * 8 + n;
                    assert_eq!(client.execute("echo", json!({"n": n}), LONG).unwrap(), n);
                }
            });
        }
    });
}

#[test]
fn a_dropped_client_ends_its_reader() {
    let (client, reports) = connected(vec![Sleep(LONG)]);
    drop(client);
    assert_eq!(reports.recv_timeout(LONG).unwrap(), "closed");
}
