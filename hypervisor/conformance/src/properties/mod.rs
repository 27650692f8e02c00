//! What must hold: the list, and what each takes of a back end.

mod devices;
mod life;
mod refusal;
mod suspend;

use crate::{Fixture, Property};
use medley_hypervisor::Capabilities;

type Lacks = fn(&Capabilities, &Fixture) -> Option<&'static str>;

const NOTHING: Lacks = |_, _| None;
const SUSPEND: Lacks = |can, _| (!can.suspend).then_some("it cannot suspend");
const BALLOON: Lacks = |can, _| (!can.balloon).then_some("it has no balloon");
const CARDS: Lacks = |can, _| (!can.network_hotplug).then_some("it cannot plug networks");
const CHANNELS: Lacks = |can, _| (!can.channels).then_some("it has no channels");
const PATIENCE: Lacks = |can, _| (!can.disk_reconnect).then_some("its disks do not wait");
const VHOST: Lacks = |can, _| (!can.vhost_user_disk).then_some("it has no vhost-user disks");
const MAKER: Lacks = |_, fixture| {
    let lacking = "its machines cannot be made by another process as well";
    fixture.maker.is_none().then_some(lacking)
};

/// Gives every property to a macro of this crate: its name, the module of its check, and what a
/// back end may lack for it.
#[doc(hidden)]
#[macro_export]
macro_rules! each_property {
    ($then:ident $($argument:tt)*) => {
        $crate::$then! { $($argument)* =>
            a_machine_starts_pauses_and_powers_down: life, NOTHING;
            what_the_guest_flushed_survives_a_kill: life, NOTHING;
            a_machine_that_never_started_can_be_stopped: life, NOTHING;
            a_reboot_starts_again: life, NOTHING;
            a_reboot_ends_the_machine_if_asked: life, NOTHING;
            a_dead_hypervisor_is_seen: life, NOTHING;
            a_dropped_machine_leaves_nothing: life, NOTHING;
            no_machine_outlives_its_maker_unseen: life, MAKER;
            a_dead_disk_server_halts_the_guest_and_a_new_one_heals_it: devices, NOTHING;
            a_disk_server_that_returns_in_time_goes_unnoticed: devices, PATIENCE;
            a_guest_runs_on_a_vhost_user_disk: devices, VHOST;
            the_guest_follows_the_balloon: devices, BALLOON;
            a_network_card_comes_and_goes: devices, CARDS;
            channels_carry_bytes_both_ways: devices, CHANNELS;
            a_guest_goes_on_in_another_machine: suspend, SUSPEND;
            a_saved_machine_may_go_on_itself: suspend, SUSPEND;
            a_bad_state_is_refused_and_leaves_nothing: suspend, SUSPEND;
            a_bad_specification_is_refused: refusal, NOTHING;
            an_absent_disk_is_refused: refusal, NOTHING;
            what_it_cannot_do_is_unsupported: refusal, NOTHING;
        }
    };
}

/// The table of properties.
#[doc(hidden)]
#[macro_export]
macro_rules! table {
    (=> $($name:ident: $module:ident, $lacks:ident;)*) => {
        /// All properties, in the order in which they are checked.
        pub const PROPERTIES: &[Property] = &[
            $(Property {
                name: stringify!($name),
                lacks: $lacks,
                check: $module::$name,
            }),*
        ];
    };
}

each_property! { table }
