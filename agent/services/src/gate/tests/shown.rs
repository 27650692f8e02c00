//! What is shown: addresses, notifications, tray items.
use super::*;
use crate::event::Entry;
use crate::order::Click;
use medley_wire::control::{
    EntryLook, Note, NoteGone, OpenUrl, Tray, TrayEntry, TrayGone, TrayMenu, TrayState, Urgency,
};
use medley_wire::{AppId, List};

fn url(text: &'static str) -> OpenUrl<'static> {
    OpenUrl {
        url: Untrusted::claim(Text::cut(text)),
    }
}

fn note(id: u32, body: &'static str, buttons: usize) -> Note<'static> {
    Note {
        id,
        app: AppId::NONE,
        urgency: Urgency::Normal,
        summary: Untrusted::claim(Text::cut("two\nlines")),
        body: Untrusted::claim(Text::cut(body)),
        buttons: List::new(vec![Untrusted::claim(Text::cut("Open")); buttons]),
    }
}

fn tray(id: u32, title: &'static str) -> Tray<'static> {
    Tray {
        id,
        app: AppId::NONE,
        state: TrayState::Active,
        title: Untrusted::claim(Text::cut(title)),
    }
}

fn menu(id: u32, entries: &[(u16, u16)]) -> TrayMenu<'static> {
    let entries = entries.iter().map(|(id, parent)| TrayEntry {
        id: *id,
        parent: *parent,
        look: EntryLook::ENABLED,
        label: Untrusted::claim(Text::cut("entry")),
    });
    TrayMenu {
        id,
        entries: List::new(entries.collect()),
    }
}

fn urls(desk: &mut Desk) -> Vec<String> {
    let urls = desk.told().into_iter().map(|event| match event {
        Event::Url { url } => url,
        other => panic!("{other:?}"),
    });
    urls.collect()
}

#[test]
fn nothing_is_shown_by_default() {
    let mut desk = Desk::allowing(&[Service::FilesIn, Service::FilesOut, Service::Print]);
    for _ in 0..3 {
        assert_eq!(desk.say(url("https://example.org/")), Ok(true));
        assert_eq!(desk.say(note(1, "x", 0)), Ok(true));
        assert_eq!(desk.say(tray(1, "x")), Ok(true));
        assert_eq!(desk.say(menu(1, &[(1, 0)])), Ok(true));
        let dot = Size::new(1, 1).unwrap();
        desk.gate.icon(Owner::Tray(1), dot, &[0; 4], NOW);
        assert_eq!(desk.say(NoteGone { id: 1 }), Ok(true));
        assert_eq!(desk.say(TrayGone { id: 1 }), Ok(true));
    }
    let refused = |what: &str| Event::Refused { what: what.into() };
    assert_eq!(
        desk.told(),
        [refused("url"), refused("note"), refused("tray")]
    );
    assert_eq!(desk.said(), []);
    desk.now = at(5);
    desk.say(note(1, "x", 0)).unwrap();
    assert_eq!(desk.told(), [refused("note")]);
}

#[test]
fn addresses_are_of_the_web_and_can_be_read() {
    let mut desk = Desk::allowing(&[Service::Urls]);
    let long: &'static str = String::leak(format!("https://a/{}", "x".repeat(2039)));
    for bad in [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://bank.example@evil.example/",
        "https://a/\u{202e}",
        "",
        long,
    ] {
        desk.say(url(bad)).unwrap();
        let what = "url".to_owned();
        assert_eq!(desk.told(), [Event::Refused { what }], "{bad}");
        desk.now += at(5);
    }
    desk.say(url(&long[1..])).unwrap();
    desk.told();
    let fits: &'static str = &long[..2048];
    desk.say(url(fits)).unwrap();
    assert_eq!(urls(&mut desk), [fits]);
}

#[test]
fn one_address_in_two_seconds_and_the_same_in_five() {
    let mut desk = Desk::allowing(&[Service::Urls]);
    let mut opened = Vec::new();
    // Twice a second, by turns.
    for n in 0..24_u64 {
        desk.now = Duration::from_millis(500 * n);
        let text = ["https://a/", "https://b/"][n as usize % 2];
        desk.say(url(text)).unwrap();
        opened.extend(urls(&mut desk).into_iter().map(|url| (500 * n, url)));
    }
    let opened: Vec<_> = opened.iter().map(|(at, url)| (*at, &**url)).collect();
    assert_eq!(
        opened,
        [
            (0, "https://a/"),
            (2500, "https://b/"),
            (5000, "https://a/"),
            (7500, "https://b/"),
            (10000, "https://a/"),
        ]
    );
}

#[test]
fn a_note_is_made_fit_for_display() {
    let mut desk = Desk::allowing(&[Service::Notes]);
    let body: &'static str = String::leak("\u{1b}[31mred\n".repeat(40));
    desk.say(note(7, body, 2)).unwrap();
    let Some(Event::Note {
        note: 7,
        app,
        summary,
        body,
        buttons,
        ..
    }) = desk.told().pop()
    else {
        panic!("it is shown");
    };
    assert_eq!((&*summary, app), ("two lines", "0".repeat(32)));
    assert_eq!(body.lines().count(), 32);
    assert!(body.lines().all(|line| line == "\u{fffd}[31mred"), "{body}");
    assert_eq!(buttons, ["Open", "Open"]);
}

#[test]
fn notes_come_ten_at_once_and_then_one_in_a_second() {
    let mut desk = Desk::allowing(&[Service::Notes]);
    for n in 0..15 {
        desk.say(note(n, "", 0)).unwrap();
    }
    assert_eq!(desk.told().len(), 10);
    // Who waits for the others hears that they are closed.
    let closed: Vec<_> = (10..15).map(|n| Word::Plain(closed(n).into())).collect();
    assert_eq!(desk.said(), closed);
    // One that is shown stays as it was.
    desk.say(note(3, "changed", 0)).unwrap();
    assert_eq!((desk.told(), desk.said()), (vec![], vec![]));
    for _ in 0..20 {
        desk.now += Duration::from_millis(500);
        desk.say(note(3, "changed", 0)).unwrap();
    }
    assert_eq!(desk.told().len(), 10, "in ten seconds");
}

#[test]
fn the_oldest_note_makes_room() {
    let mut desk = Desk::allowing(&[Service::Notes]);
    for n in 0..32 {
        desk.now += at(1);
        desk.say(note(n, "", 0)).unwrap();
    }
    assert_eq!((desk.told().len(), desk.said()), (32, vec![]));
    // Number 0 has news, and is the youngest then.
    desk.now += at(1);
    desk.say(note(0, "", 0)).unwrap();
    desk.told();
    desk.now += at(1);
    desk.say(note(100, "", 0)).unwrap();
    let told = desk.told();
    assert!(matches!(
        told[..],
        [Event::NoteGone { note: 1 }, Event::Note { note: 100, .. }]
    ));
    assert_eq!(desk.said(), [Word::Plain(closed(1).into())]);
    desk.gate.lost();
    let gone = desk.told();
    assert_eq!(gone.len(), 32);
    assert!(
        gone.iter()
            .all(|event| matches!(event, Event::NoteGone { .. }))
    );
}

#[test]
fn answers_reach_only_notes_that_are_there() {
    let mut desk = Desk::allowing(&[Service::Notes]);
    desk.say(note(7, "", 2)).unwrap();
    desk.told();
    let answer = |note, button| Order::NoteAnswer { note, button };
    for (id, button, reaches) in [
        (8, 1, false),
        (7, 3, false),
        (7, 2, true),
        (7, 0, true),
        (7, 1, false),
    ] {
        desk.order(answer(id, button), None);
        let said = desk.said();
        assert_eq!(said.len(), usize::from(reaches), "{id} {button}");
    }
    desk.say(NoteGone { id: 7 }).unwrap();
    assert_eq!(desk.told(), [], "who closed it knows");
    desk.say(note(7, "", 0)).unwrap();
    desk.say(NoteGone { id: 7 }).unwrap();
    assert_eq!(desk.told().pop(), Some(Event::NoteGone { note: 7 }));
}

#[test]
fn tray_items_are_counted() {
    let mut desk = Desk::allowing(&[Service::Tray]);
    for n in 0..40 {
        desk.say(tray(n, "a\u{200b}b")).unwrap();
    }
    let told = desk.told();
    assert_eq!(told.len(), 32);
    assert!(matches!(&told[31], Event::Tray { item: 31, title, .. } if title == "a\u{fffd}b"));
    desk.say(TrayGone { id: 35 }).unwrap();
    assert_eq!(desk.told(), [], "never shown");
    desk.say(TrayGone { id: 3 }).unwrap();
    desk.say(tray(40, "x")).unwrap();
    let told = desk.told();
    assert!(matches!(
        told[..],
        [Event::TrayGone { item: 3 }, Event::Tray { item: 40, .. }]
    ));
    desk.gate.lost();
    assert_eq!(desk.told().len(), 32);
}

#[test]
fn an_item_that_blinks_is_told_of_now_and_then_and_its_newest_state_last() {
    let mut desk = Desk::allowing(&[Service::Tray]);
    let titles = ["off", "on"];
    for n in 0..1000 {
        desk.say(tray(1, titles[n % 2])).unwrap();
    }
    assert_eq!(desk.told().len(), 96);
    let due = desk.gate.deadline().unwrap();
    desk.gate.tick(due - Duration::from_nanos(1));
    assert_eq!(desk.told(), []);
    desk.gate.tick(due);
    assert!(matches!(&desk.told()[..], [Event::Tray { title, .. }] if title == "on"));
    assert_eq!(desk.gate.deadline(), None);
    // What waits for its turn goes with its item.
    desk.say(tray(1, "off")).unwrap();
    desk.say(TrayGone { id: 1 }).unwrap();
    assert_eq!(desk.told(), [Event::TrayGone { item: 1 }]);
    desk.pass(10);
    assert_eq!(desk.told(), []);
    desk.say(tray(1, "another")).unwrap();
    assert!(matches!(&desk.told()[..], [Event::Tray { title, .. }] if title == "another"));
}

#[test]
fn icons_belong_to_items() {
    let mut desk = Desk::allowing(&[Service::Tray]);
    let size = Size::new(256, 256).unwrap();
    let pixels = vec![255; size.bytes()];
    let icon = |desk: &mut Desk, owner| desk.gate.icon(owner, size, &pixels, desk.now);
    // Bulk is another channel: a picture may come before its item.
    icon(&mut desk, Owner::Tray(1));
    icon(&mut desk, Owner::Note(1));
    icon(&mut desk, Owner::App(AppId::NONE));
    assert_eq!(desk.told(), []);
    desk.say(tray(1, "x")).unwrap();
    let told = desk.told();
    let [
        Event::Tray { item: 1, .. },
        Event::TrayIcon {
            item: 1,
            side: 48,
            argb,
        },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, argb).unwrap();
    assert_eq!(bytes, vec![255; 48 * 48 * 4]);
    icon(&mut desk, Owner::Tray(1));
    assert_eq!(desk.told().len(), 1);
    // Pictures of items that never come do not add up.
    let size = Size::new(48, 48).unwrap();
    for n in 100..1000 {
        let (owner, pixels) = (Owner::Tray(n), &pixels[..size.bytes()]);
        desk.gate.icon(owner, size, pixels, desk.now);
    }
    assert!(desk.gate.held() <= 32 * 13_000, "{}", desk.gate.held());
    desk.gate.lost();
    assert_eq!(desk.gate.held(), 0);
}

#[test]
fn menus_are_trees() {
    let deep: Vec<_> = (1..=8).map(|n| (n, n - 1)).collect();
    let deeper: Vec<_> = (1..=9).map(|n| (n, n - 1)).collect();
    for (entries, good) in [
        (&[][..], true),
        (&[(1, 0), (2, 0), (3, 2), (4, 2)], true),
        (&deep, true),
        (&deeper, false),
        (&[(0, 0)], false),
        (&[(1, 0), (1, 0)], false),
        (&[(1, 2), (2, 0)], false),
        (&[(1, 1)], false),
        (&[(1, 7)], false),
    ] {
        let mut desk = Desk::allowing(&[Service::Tray]);
        desk.say(tray(1, "x")).unwrap();
        desk.told();
        desk.say(menu(1, entries)).unwrap();
        assert_eq!(desk.told().len(), usize::from(good), "{entries:?}");
        desk.say(menu(2, entries)).unwrap();
        assert_eq!(desk.told(), [], "of an item that is not there");
    }
}

#[test]
fn only_what_is_in_a_menu_can_be_chosen() {
    let mut desk = Desk::allowing(&[Service::Tray]);
    desk.say(tray(1, "x")).unwrap();
    let mut entries = menu(1, &[(1, 0), (2, 0), (3, 1)]);
    let looks = [
        EntryLook::ENABLED,
        EntryLook::CHECKED,
        EntryLook::SEPARATOR.with(EntryLook::ENABLED),
    ];
    let named = entries.entries.into_iter().zip(looks);
    let named = named.map(|(entry, look)| TrayEntry { look, ..entry });
    entries.entries = List::new(named.collect());
    desk.say(entries).unwrap();
    let Some(Event::TrayMenu { item: 1, entries }) = desk.told().pop() else {
        panic!("it is shown");
    };
    let line = Entry {
        id: 3,
        parent: 1,
        label: String::new(),
        enabled: true,
        checked: false,
        separator: true,
    };
    assert_eq!(entries[2], line);
    assert!(entries[1].checked && !entries[1].enabled);
    let chosen: Vec<_> = (0..5)
        .filter(|entry| {
            let (item, entry) = (1, *entry);
            desk.order(Order::TrayChoice { item, entry }, None);
            !desk.said().is_empty()
        })
        .collect();
    assert_eq!(chosen, [1]);
    let click = |item| Order::TrayClick {
        item,
        click: Click::Middle,
    };
    desk.order(click(2), None);
    assert_eq!(desk.said(), []);
    desk.order(click(1), None);
    assert_eq!(desk.said().len(), 1);
    desk.say(menu(1, &[(9, 0)])).unwrap();
    desk.order(Order::TrayChoice { item: 1, entry: 1 }, None);
    assert_eq!(desk.said(), [], "another menu by now");
}

#[test]
fn other_messages_are_not_for_the_gate() {
    use medley_wire::control::{AppsEnd, ClipboardOffer};
    let mut desk = Desk::allowing(&Service::ALL);
    let forms = List::default();
    let sequence = 1;
    assert_eq!(desk.say(ClipboardOffer { sequence, forms }), Ok(false));
    let (generation, count) = (1, 0);
    assert_eq!(desk.say(AppsEnd { generation, count }), Ok(false));
}

#[test]
fn a_locked_workspace_shows_nothing_and_hears_no_clicks() {
    let mut desk = Desk::allowing(&[Service::Urls, Service::Notes, Service::Tray]);
    desk.say(note(1, "before", 1)).unwrap();
    desk.say(tray(5, "mail")).unwrap();
    desk.say(menu(5, &[(1, 0)])).unwrap();
    desk.told();
    desk.gate.set_locked(true, NOW);
    desk.gate.set_locked(true, NOW);
    assert_eq!(
        desk.told(),
        [Event::NoteGone { note: 1 }, Event::TrayGone { item: 5 }]
    );
    assert_eq!(desk.said().len(), 1, "the note is closed");
    desk.say(note(2, "meanwhile", 1)).unwrap();
    desk.say(note(3, "taken back", 0)).unwrap();
    desk.say(NoteGone { id: 3 }).unwrap();
    desk.say(tray(5, "mail (1)")).unwrap();
    desk.say(tray(6, "new")).unwrap();
    desk.say(menu(5, &[(1, 0), (2, 0)])).unwrap();
    desk.say(url("https://example.org/")).unwrap();
    assert_eq!(desk.told(), [Event::Refused { what: "url".into() }]);
    for order in [
        Order::NoteAnswer { note: 2, button: 1 },
        Order::TrayClick {
            item: 5,
            click: Click::Main,
        },
        Order::TrayChoice { item: 5, entry: 1 },
    ] {
        assert_eq!(desk.order(order, None), Ordered::Done);
    }
    assert_eq!(desk.said(), [], "nobody can have clicked");
    assert_eq!(desk.gate.deadline(), None);
    desk.gate.set_locked(false, NOW);
    let told: Vec<_> = desk
        .told()
        .into_iter()
        .map(|event| match event {
            Event::Note { body, .. } => body,
            Event::Tray { item, title, .. } => format!("{item} {title}"),
            Event::TrayMenu { item, .. } => format!("{item} menu"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["meanwhile", "5 mail (1)", "5 menu", "6 new"]);
    desk.order(Order::TrayChoice { item: 5, entry: 1 }, None);
    desk.order(Order::NoteAnswer { note: 2, button: 1 }, None);
    assert_eq!(desk.said().len(), 2);
}
