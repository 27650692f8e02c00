use super::*;
use crate::Quota;
use proptest::prelude::*;

const TABLE: [(u64, u32); 5] = [
    (1024, 378),
    (2048, 512),
    (4096, 1024),
    (8192, 1536),
    (16384, 2048),
];

fn guest(host: &Host) -> u32 {
    Policy::default().plan(host).unwrap().guest_mib
}

/// What the table says for so much RAM, rounded down to a row.
fn by_table(mib: u64) -> u32 {
    let row = TABLE.iter().rfind(|row| row.0 <= mib);
    row.unwrap_or(&TABLE[0]).1
}

fn group(limit_mib: u64, used_mib: u64) -> Group {
    Group {
        path: "/session".into(),
        limit_mib,
        limit: Limit::Max,
        used_mib,
    }
}

/// A real host: firmware and kernel keep some RAM, and the system uses some.
fn reported(total_mib: u64) -> Host {
    Host {
        installed_mib: None,
        available_mib: total_mib - total_mib / 8,
        ..Host::idle(total_mib, 4)
    }
}

#[test]
fn a_host_gets_what_the_table_says() {
    for gib in 1..=64 {
        assert_eq!(
            guest(&Host::idle(gib * 1024, 4)),
            by_table(gib * 1024),
            "{gib} GiB"
        );
    }
    let busy = |gib: u64| Host {
        available_mib: gib * 1024 - gib * 128,
        ..Host::idle(gib * 1024, 4)
    };
    for gib in [1, 2, 4, 8, 16, 64] {
        assert_eq!(guest(&busy(gib)), by_table(gib * 1024), "{gib} GiB");
    }
}

#[test]
fn a_control_group_is_a_host_to_those_in_it() {
    for host in [1, 2, 4, 8, 16, 64] {
        for limit in [1, 2, 3, 4, 6, 8, 12, 16, 32] {
            let limited = Host {
                groups: vec![group(48 * 1024, 100), group(limit * 1024, 0)],
                ..Host::idle(host * 1024, 4)
            };
            let expected = by_table(limit.min(host) * 1024);
            assert_eq!(guest(&limited), expected, "{limit} GiB of {host}");
        }
    }
}

#[test]
fn what_firmware_keeps_does_not_cost_a_row() {
    for (total, expected) in [
        (926, 378),
        (1792, 378),
        (1793, 512),
        (3584, 512),
        (3585, 1024),
        (3789, 1024),
        (6144, 1024),
        (7475, 1536),
        (12288, 1536),
        (15667, 2048),
        (64100, 2048),
    ] {
        assert_eq!(guest(&reported(total)), expected, "{total} MiB");
    }
    // Where the installed RAM is known, nothing is missing.
    assert_eq!(guest(&Host::idle(16383, 4)), 1536);
}

#[test]
fn free_memory_bounds_the_guest() {
    let host = Host {
        available_mib: 1641,
        swap_mib: 99,
        ..Host::idle(16384, 4)
    };
    let plan = Policy::default().plan(&host).unwrap();
    assert_eq!(plan.guest_mib, 1641 - 512 - 128 - 1);
    let why = plan.why.memory;
    assert!(
        why[0].contains("16384 MiB of RAM, installed, for which the table gives 2048"),
        "{why:?}"
    );
    assert!(why[1].contains("the host can give 1641 MiB now"), "{why:?}");
    assert!(why[2].contains("99 MiB of swap do not count"), "{why:?}");
}

#[test]
fn what_a_control_group_uses_bounds_the_guest() {
    let host = Host {
        groups: vec![group(4096, 3000)],
        ..Host::idle(65536, 4)
    };
    let plan = Policy::default().plan(&host).unwrap();
    assert_eq!(plan.guest_mib, 1096 - 409 - 128 - 1);
    let why = &plan.why.memory;
    assert!(
        why[0].starts_with("control group /session is limited to 4096 MiB"),
        "{why:?}"
    );
    assert!(
        why[1].starts_with("control group /session can give 1096"),
        "{why:?}"
    );

    let full = Host {
        groups: vec![group(1024, 2000)],
        ..host
    };
    let error = Policy::default().plan(&full).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLittle);
}

#[test]
fn too_little_is_an_error_with_figures_and_a_remedy() {
    let host = Host {
        available_mib: 700,
        ..Host::idle(8192, 4)
    };
    let error = Policy::default().plan(&host).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLittle);
    let text = error.to_string();
    for words in ["60 MiB are left", "700", "close programs"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn administrators_have_rules_of_their_own() {
    let plan = |rule: &str, host: &Host| {
        let policy: Policy = toml::from_str(&format!("[memory]\nguest = {rule}")).unwrap();
        policy.plan(host).unwrap().guest_mib
    };
    let host = Host::idle(12 << 10, 4);
    assert_eq!(plan("3001", &host), 3001);
    assert_eq!(plan("{ percent = 25 }", &host), 3072);
    assert_eq!(plan("{ percent = 25, max = 2000 }", &host), 2000);
    assert_eq!(plan("{ percent = 1, min = 512 }", &host), 512);
    assert_eq!(
        plan("{ table = [[1, 200], [6000, 777], [12289, 4000]] }", &host),
        777
    );
    // No rule makes memory.
    assert_eq!(plan("99999", &host), 12 * 1024 - 512 - 128);
}

#[test]
fn the_balloon_and_growth_have_bounds() {
    let plan = Policy::default().plan(&Host::idle(8192, 4)).unwrap();
    assert_eq!((plan.floor_mib, plan.ceiling_mib), (384, 8192 - 512 - 128));
    let tight = Host {
        groups: vec![group(2048, 0)],
        ..Host::idle(8192, 4)
    };
    let plan = Policy::default().plan(&tight).unwrap();
    assert_eq!((plan.floor_mib, plan.ceiling_mib), (128, 2048 - 204 - 128));
    let policy: Policy =
        toml::from_str("[memory]\nceiling = { percent = 30 }\nfloor = 9999").unwrap();
    let plan = policy.plan(&Host::idle(8192, 4)).unwrap();
    assert_eq!((plan.floor_mib, plan.ceiling_mib), (1536, 2457));
    let policy: Policy = toml::from_str("[memory]\nceiling = 100").unwrap();
    let plan = policy.plan(&Host::idle(8192, 4)).unwrap();
    assert_eq!(plan.ceiling_mib, plan.guest_mib);
}

#[test]
fn processors_are_half_of_those_that_may_be_used() {
    let cpus = |host: &Host| Policy::default().plan(host).unwrap().cpus;
    for (run, expected) in [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 2),
        (6, 3),
        (8, 4),
        (64, 4),
    ] {
        assert_eq!(cpus(&Host::idle(8192, run)), expected, "{run}");
    }
    let pinned = Host {
        cpus_allowed: 4,
        ..Host::idle(8192, 64)
    };
    assert_eq!(cpus(&pinned), 2);
    let quota = |milli_cpus| Quota {
        path: "/".into(),
        milli_cpus,
    };
    let slowed = Host {
        quotas: vec![quota(9000), quota(2500)],
        ..pinned.clone()
    };
    assert_eq!(cpus(&slowed), 1);
    let policy: Policy = toml::from_str("[cpus]\nguest = 16").unwrap();
    let plan = policy.plan(&slowed).unwrap();
    assert_eq!(plan.cpus, 2);
    assert!(plan.why.cpus[2].contains("2.50"), "{:?}", plan.why.cpus);
    let starved = Host {
        quotas: vec![quota(100)],
        ..pinned
    };
    assert_eq!(policy.plan(&starved).unwrap().cpus, 1);
    let policy: Policy = toml::from_str("[cpus]\nguest = { table = [[1, 1], [4, 3]] }").unwrap();
    assert_eq!(policy.plan(&Host::idle(8192, 4)).unwrap().cpus, 3);
}

#[test]
fn a_host_without_psi_is_told() {
    let host = Host {
        pressure: false,
        ..Host::idle(8192, 4)
    };
    let why = Policy::default().plan(&host).unwrap().why;
    assert!(why.pressure[0].contains("free memory alone"), "{why:?}");
}

#[test]
fn a_bad_policy_is_refused() {
    let mut policy = Policy::default();
    policy.memory.guest = Rule::Table { table: vec![] };
    let error = policy.plan(&Host::idle(8192, 4)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadPolicy);
}

proptest! {
    #[test]
    fn a_plan_never_promises_what_is_not_there(
        total: u64, installed: Option<u64>, available: u64, limit: u64, used: u64, swap: u64,
        cpus: u32, cpus_allowed: u32, milli_cpus: u64,
    ) {
        let host = Host {
            total_mib: total,
            installed_mib: installed,
            available_mib: available,
            swap_mib: swap,
            groups: vec![group(limit, used)],
            cpus,
            cpus_allowed,
            quotas: vec![Quota { path: "/".into(), milli_cpus }],
            pressure: true,
        };
        if let Ok(plan) = Policy::default().plan(&host) {
            let guest = u64::from(plan.guest_mib);
            prop_assert!((128..=2048).contains(&guest));
            prop_assert!(guest + 128 + 128 <= available);
            if limit < installed.unwrap_or(total) {
                prop_assert!(guest + 128 + 128 <= limit - used);
            }
            prop_assert!(plan.floor_mib <= plan.guest_mib);
            prop_assert!(plan.guest_mib <= plan.ceiling_mib);
            prop_assert!(plan.cpus >= 1 && u64::from(plan.cpus) <= (milli_cpus / 1000).max(1));
            prop_assert!(u32::from(plan.cpus) <= cpus.min(cpus_allowed).max(1));
        }
    }
}
