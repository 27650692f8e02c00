//! What a supervisor orders: what fits, what is too late, and what never made sense.
use super::{Play, encodes};
use crate::Ordered;
use crate::order::{Click, Order, Refusal};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;

impl Play<'_> {
    /// The supervisor answers an offer, or one that is long gone, or one that never was.
    pub(super) fn decide(&mut self) {
        let transfer = if self.dice.below(16) == 0 {
            self.dice.below(30)
        } else {
            let waiting = self.supervisor.waiting();
            let nth = self.dice.below(waiting.len().max(1) as u32) as usize;
            waiting.get(nth).copied().unwrap_or(0)
        };
        let order = if self.dice.below(4) == 0 {
            let verdict = Refusal::Declined;
            Order::Refuse { transfer, verdict }
        } else {
            Order::Take { transfer }
        };
        let disk =
            ["/dev/null", "/dev/null", "/dev/null", "/dev/full"][self.dice.below(4) as usize];
        let file = OpenOptions::new().write(true).open(disk).ok();
        let file = file.filter(|_| order.has_file() && self.dice.below(32) != 0);
        self.supervisor.ordered(&order, file.is_some());
        assert_eq!(self.command(order, file), Ordered::Done);
    }

    pub(super) fn command(&mut self, order: Order, file: Option<File>) -> Ordered {
        let text = serde_json::to_string(&order).unwrap_or_default();
        assert_eq!(serde_json::from_str(&text).ok().as_ref(), Some(&order));
        self.gate.order(order, file.map(OwnedFd::from), self.now)
    }

    pub(super) fn give(&mut self) {
        let name = ["a.txt", "b c.pdf", "..", "a/b"][self.dice.below(4) as usize].to_owned();
        let order = Order::Give {
            file: self.dice.below(50),
            name,
            size: self.size(),
        };
        let disk = ["/dev/zero", "/dev/zero", "/dev/null"][self.dice.below(3) as usize];
        let file = File::open(disk).ok().filter(|_| self.dice.below(32) != 0);
        self.supervisor.ordered(&order, file.is_some());
        assert_eq!(self.command(order, file), Ordered::Done);
    }

    pub(super) fn order(&mut self) {
        let number = self.dice.below(8);
        let order = match self.dice.below(4) {
            0 => {
                let app = ["0123456789abcdef0123456789abcdef", "x"][self.dice.below(2) as usize];
                let file = self.dice.below(50);
                let order = Order::Launch {
                    app: app.to_owned(),
                    action: 0,
                    arguments: vec!["y".repeat(self.dice.below(3000) as usize)],
                    files: vec![file],
                };
                if let Ordered::Launch(launch) = self.command(order, None) {
                    assert!(
                        self.supervisor.has(file),
                        "a file that the guest does not have"
                    );
                    encodes(&launch.message(1).into());
                }
                return;
            }
            1 => {
                let button = self.dice.below(4) as u8;
                let note = self.supervisor.note(number as usize);
                Order::NoteAnswer { note, button }
            }
            2 => Order::TrayClick {
                item: self.supervisor.tray(number as usize),
                click: Click::Main,
            },
            _ => Order::TrayChoice {
                item: self.supervisor.tray(number as usize),
                entry: self.dice.below(3) as u16,
            },
        };
        self.supervisor.ordered(&order, false);
        assert_eq!(self.command(order, None), Ordered::Done);
    }
}
