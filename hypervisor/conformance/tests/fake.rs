//! The suite on a fake back end: it holds without a fault, and sees each fault there is.

#![allow(clippy::unwrap_used)]

use medley_conformance::fake::{Fake, Fault};
use medley_conformance::{Fixture, Outcome, PROPERTIES, run};
use medley_hypervisor::Capabilities;
use std::time::Duration;

mod faultless {
    use super::*;

    fn fake() -> (Fake, Fixture) {
        (Fake::new(), Fixture::imagined())
    }

    medley_conformance::tests! { fake }
}

/// What the suite finds wrong with a fake that fails in this way, or in these one after the other.
fn found(fake: Fake, names: &[&str]) {
    let fake = fake.with_stall(Duration::from_millis(2500));
    let mut fixture = Fixture::imagined();
    fixture.patience = Duration::from_millis(700);
    for name in names {
        let property = PROPERTIES.iter().find(|property| property.name == *name);
        let outcome = property.unwrap().check(&fake, &fixture);
        assert!(matches!(outcome, Outcome::Failed(_)), "{name}: {outcome:?}");
    }
}

macro_rules! seen {
    ($($test:ident: $fault:expr, [$($property:ident),+];)*) => {
        $(#[test]
        fn $test() {
            found(Fake::always($fault), &[$(stringify!($property)),+]);
        })*
    };
}

seen! {
    a_machine_that_dies_at_start_is_seen: Fault::DiesAtStart,
        [a_machine_starts_pauses_and_powers_down, a_reboot_starts_again];
    a_machine_that_dies_later_is_seen: Fault::DiesAfter(Duration::from_millis(20)),
        [a_machine_starts_pauses_and_powers_down];
    a_guest_that_is_never_ready_is_seen: Fault::NeverReady,
        [a_machine_starts_pauses_and_powers_down];
    a_pause_that_is_ignored_is_seen: Fault::PauseIgnored,
        [a_machine_starts_pauses_and_powers_down, a_guest_goes_on_in_another_machine];
    a_save_that_stalls_is_seen: Fault::SaveStalls, [a_guest_goes_on_in_another_machine];
    a_save_that_fails_is_seen: Fault::SaveFails,
        [a_guest_goes_on_in_another_machine, a_saved_machine_may_go_on_itself];
    a_save_that_lies_is_seen: Fault::SaveLies,
        [a_guest_goes_on_in_another_machine, a_bad_state_is_refused_and_leaves_nothing];
    lost_memory_is_seen: Fault::MemoryLost, [a_guest_goes_on_in_another_machine];
    a_restored_machine_that_runs_is_seen: Fault::RunsUnasked,
        [a_guest_goes_on_in_another_machine, a_bad_state_is_refused_and_leaves_nothing];
    a_state_that_is_believed_is_seen: Fault::BelievesAnything,
        [a_bad_state_is_refused_and_leaves_nothing];
    a_balloon_that_does_nothing_is_seen: Fault::BalloonIgnored, [the_guest_follows_the_balloon];
    a_balloon_that_pretends_is_seen: Fault::BalloonPretended, [the_guest_follows_the_balloon];
    a_card_that_does_not_come_is_seen: Fault::CardIgnored, [a_network_card_comes_and_goes];
    a_card_that_does_not_go_is_seen: Fault::CardStuck, [a_network_card_comes_and_goes];
    a_channel_that_garbles_is_seen: Fault::ChannelGarbles, [channels_carry_bytes_both_ways];
    a_lost_event_is_seen: Fault::EventLost,
        [a_machine_starts_pauses_and_powers_down, a_guest_goes_on_in_another_machine];
    a_slow_stop_is_seen: Fault::StopsSlowly, [a_machine_that_never_started_can_be_stopped];
    a_socket_left_behind_is_seen: Fault::LeavesSockets,
        [a_dropped_machine_leaves_nothing, a_machine_that_never_started_can_be_stopped];
    a_dead_power_button_is_seen: Fault::PowerButtonDead,
        [a_machine_starts_pauses_and_powers_down];
    a_reboot_that_hangs_is_seen: Fault::RebootHangs, [a_reboot_starts_again];
    a_lost_flush_is_seen: Fault::FlushLost, [what_the_guest_flushed_survives_a_kill];
    a_disk_error_that_the_guest_sees_is_seen: Fault::DiskErrorShown,
        [
            a_dead_disk_server_halts_the_guest_and_a_new_one_heals_it,
            a_disk_server_that_returns_in_time_goes_unnoticed
        ];
    an_unchecked_specification_is_seen: Fault::SpecUnchecked, [a_bad_specification_is_refused];
    an_unchecked_disk_is_seen: Fault::DiskUnchecked, [an_absent_disk_is_refused];
}

#[test]
fn what_a_back_end_cannot_do_is_skipped_by_name() {
    let fake = Fake::new().with_capabilities(Capabilities::default());
    let report = run(&fake, &Fixture::imagined());
    assert_eq!(report.failures().count(), 0, "{report}");
    let outcome = |name: &str| {
        let found = report.results.iter().find(|(found, _)| *found == name);
        found.unwrap().1.clone()
    };
    let skipped = Outcome::Skipped("it cannot suspend");
    assert_eq!(outcome("a_guest_goes_on_in_another_machine"), skipped);
    assert_eq!(outcome("what_it_cannot_do_is_unsupported"), Outcome::Passed);
    assert!(
        report.to_string().contains("skipped: it has no balloon"),
        "{report}"
    );
}

#[test]
fn what_works_undeclared_is_seen() {
    let fake = Fake::always(Fault::Undeclared).with_capabilities(Capabilities::default());
    found(fake, &["what_it_cannot_do_is_unsupported"]);
}

#[test]
fn a_script_is_followed_machine_by_machine() {
    let fake = Fake::scripted([None, Some(Fault::NeverReady)]);
    let mut fixture = Fixture::imagined();
    fixture.patience = Duration::from_millis(300);
    let outcomes: Vec<_> = (0..3)
        .map(|_| {
            let name = "a_reboot_ends_the_machine_if_asked";
            let property = PROPERTIES.iter().find(|property| property.name == name);
            property.unwrap().check(&fake, &fixture) == Outcome::Passed
        })
        .collect();
    assert_eq!(outcomes, [true, false, true]);
}
