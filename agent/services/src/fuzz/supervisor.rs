//! The supervisor's end: every offer ends once, every file is answered once, and nothing comes that is not
//! allowed.
use crate::event::{self, Event};
use crate::order::Order;
use crate::policy::{Policy, Service};
use medley_wire::limits::PAGE_RANGES;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Taken,
    Ended,
}

#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    /// Files and print jobs: which of both, and how they stand.
    offers: BTreeMap<u32, (bool, State)>,
    /// Files that were given and not answered yet, each perhaps several times.
    given: BTreeMap<u32, u32>,
    /// Files that the guest has.
    has: BTreeSet<u32>,
    notes: BTreeSet<u32>,
    trays: BTreeSet<u32>,
    /// What came of it all.
    pub come: u32,
}

impl Supervisor {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            offers: BTreeMap::new(),
            given: BTreeMap::new(),
            has: BTreeSet::new(),
            notes: BTreeSet::new(),
            trays: BTreeSet::new(),
            come: 0,
        }
    }

    /// Offers that wait for an answer.
    pub fn waiting(&self) -> Vec<u32> {
        let all = self.offers.iter();
        let waiting = all.filter(|(_, (_, state))| *state == State::Waiting);
        waiting.map(|(number, _)| *number).collect()
    }

    pub fn has(&self, file: u32) -> bool {
        self.has.contains(&file)
    }

    pub fn note(&self, nth: usize) -> u32 {
        self.notes.iter().nth(nth).copied().unwrap_or(0)
    }

    pub fn tray(&self, nth: usize) -> u32 {
        self.trays.iter().nth(nth).copied().unwrap_or(0)
    }

    /// An order was given.
    pub fn ordered(&mut self, order: &Order, with_file: bool) {
        let waiting = |(_, state): &&mut (bool, State)| *state == State::Waiting;
        match order {
            Order::Take { transfer } if with_file => {
                if let Some(offer) = self.offers.get_mut(transfer).filter(waiting) {
                    offer.1 = State::Taken;
                }
            }
            Order::Refuse { transfer, .. } => {
                if let Some(offer) = self.offers.get_mut(transfer).filter(waiting) {
                    offer.1 = State::Ended;
                }
            }
            Order::Give { file, .. } => *self.given.entry(*file).or_default() += 1,
            Order::NoteAnswer { note, button: 0 } => {
                self.notes.remove(note);
            }
            _ => {}
        }
    }

    fn offered(&mut self, number: u32, print: bool, most: usize) {
        let old = self.offers.insert(number, (print, State::Waiting));
        assert_eq!(old, None, "a number is used twice");
        let like = |offer: &&(bool, State)| **offer == (print, State::Waiting);
        assert!(self.offers.values().filter(like).count() <= most);
    }

    pub fn hear(&mut self, events: VecDeque<Event>) {
        for event in events {
            self.judge(&event);
            let line = serde_json::to_string(&event).unwrap_or_default();
            assert!(line.len() < event::LINE && !line.contains('\n'));
            assert_eq!(serde_json::from_str(&line).ok(), Some(event));
        }
    }

    fn judge(&mut self, event: &Event) {
        let needs = |service| assert!(self.policy.allows(service), "{event:?}");
        match event {
            Event::FileOffered { transfer, size, .. } => {
                needs(Service::FilesOut);
                assert!(*size <= self.policy.file_bytes);
                self.offered(*transfer, false, 8);
            }
            Event::PrintAsked {
                transfer,
                size,
                copies,
                ticket,
                ..
            } => {
                needs(Service::Print);
                assert!(*size <= self.policy.print_bytes && *copies > 0);
                assert!(ticket.ranges.len() <= PAGE_RANGES);
                self.offered(*transfer, true, 4);
            }
            Event::Came { transfer, .. } => {
                let offer = self.offers.get_mut(transfer);
                let offer = offer.filter(|offer| offer.1 == State::Taken);
                assert!(offer.is_some(), "{event:?}");
                if let Some(offer) = offer {
                    offer.1 = State::Ended;
                }
                self.come += 1;
            }
            // Of one that never was it is the answer to a wrong order.
            Event::Broke { transfer } => {
                if let Some(offer) = self.offers.get_mut(transfer) {
                    assert_ne!(offer.1, State::Ended, "{event:?}");
                    offer.1 = State::Ended;
                }
            }
            Event::Given { file, refused } => {
                let open = self.given.get_mut(file).filter(|count| **count > 0);
                assert!(open.is_some(), "{event:?}");
                if let Some(count) = open {
                    *count -= 1;
                }
                if refused.is_none() {
                    needs(Service::FilesIn);
                    self.has.insert(*file);
                    self.come += 1;
                }
            }
            Event::Url { .. } => {
                needs(Service::Urls);
                self.come += 1;
            }
            Event::Note { note, .. } => {
                needs(Service::Notes);
                self.notes.insert(*note);
                assert!(self.notes.len() <= 32);
                self.come += 1;
            }
            Event::NoteGone { note } => assert!(self.notes.remove(note), "{event:?}"),
            Event::Tray { item, .. } => {
                needs(Service::Tray);
                self.trays.insert(*item);
                assert!(self.trays.len() <= 32);
            }
            Event::TrayIcon { item, .. } | Event::TrayMenu { item, .. } => {
                assert!(self.trays.contains(item), "{event:?}");
            }
            Event::TrayGone { item } => assert!(self.trays.remove(item), "{event:?}"),
            Event::Refused { .. } => {}
        }
    }

    /// The connection is gone, and nothing is open.
    pub fn is_settled(&mut self) {
        assert!(self.offers.values().all(|offer| offer.1 == State::Ended));
        assert!(self.given.values().all(|count| *count == 0));
        assert!(self.notes.is_empty() && self.trays.is_empty());
        self.has.clear();
    }
}
