//! What guests get.

use crate::common::*;

/// Host and guest RAM in MiB, as MED-V had it.
const TABLE: [(u64, u64); 5] = [
    (1024, 378),
    (2048, 512),
    (4096, 1024),
    (8192, 1536),
    (16384, 2048),
];

fn by_table(mib: u64) -> u64 {
    TABLE.iter().rfind(|row| row.0 <= mib).unwrap().1
}

#[test]
fn a_plan_matches_the_table() {
    let folder = Folder::new();
    for gib in [1, 2, 3, 4, 7, 8, 15, 16, 64] {
        let plan = folder.json(&format!("machine plan --host-memory {gib}G --cpus 8"));
        assert_eq!(plan["guest_mib"], by_table(gib * 1024), "{gib} GiB: {plan}");
        assert_eq!(
            (&plan["cpus"], &plan["simulated"]),
            (&4.into(), &true.into())
        );
    }
    for limit in [1, 2, 4, 8, 16] {
        let plan = folder.json(&format!(
            "machine plan --host-memory 64G --cgroup-limit {limit}G"
        ));
        assert_eq!(plan["guest_mib"], by_table(limit * 1024), "{limit}: {plan}");
    }
}

#[test]
fn a_plan_explains_itself() {
    let folder = Folder::new();
    let text = folder.ok(
        "machine plan --host-memory 8G --free 1.5G --swap 2G --cgroup-limit 6G --cgroup-used 5G \
         --cpus 8 --cpu-limit 2.5",
    );
    for words in [
        "guest       384 MiB of RAM, 1 processor\n",
        "host        8 GiB of RAM, 1.5 GiB available, 8 processors; imagined\n",
        "limited to 6144 MiB, and counts as 4096, for which the table gives 1024\n",
        "the host can give 1536 MiB now",
        "control group /imagined can give 1024 MiB now",
        "2048 MiB of swap do not count",
        "the guest gets 384 MiB\n",
        "all but 128 MiB",
        "the time of 2.50, which counts as 2\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn this_host_is_planned_for() {
    let folder = Folder::new();
    // The machine of the test may have too little left, and then says so.
    let ran = folder.run("machine plan --json");
    if ran.code == 0 {
        let plan: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(plan["simulated"], false);
        assert!(plan["guest_mib"].as_u64().unwrap() >= 128);
        assert!(plan["cpus"].as_u64().unwrap() >= 1);
    } else {
        assert!(ran.code == 1 && ran.err.contains("are left"), "{ran:?}");
    }
}

#[test]
fn administrators_write_policies() {
    let folder = Folder::new();
    let plan = |policy: &str, more: &str| {
        folder.write("office.toml", policy.as_bytes());
        folder.json(&format!(
            "machine plan --policy office.toml --host-memory 12G --cpus 8 {more}"
        ))
    };
    let fixed = plan("[memory]\nguest = 3000\n[cpus]\nguest = 3\n", "");
    assert_eq!(
        (&fixed["guest_mib"], &fixed["cpus"]),
        (&3000.into(), &3.into())
    );
    let share = plan("[memory]\nguest = { percent = 25, min = 512 }\n", "");
    assert_eq!(share["guest_mib"], 3072);
    let table = plan(
        "[memory]\nguest = { table = [[512, 100], [12288, 3333]] }\n",
        "",
    );
    assert_eq!(table["guest_mib"], 3333);
    // What is printed is a policy, too.
    let policy = serde_json::to_vec(&table["policy"]).unwrap();
    folder.write("again.json", &policy);
    let again = folder.json("machine plan --policy again.json --host-memory 12G");
    assert_eq!(again["policy"], table["policy"]);
}

#[test]
fn the_policy_in_the_help_is_the_default() {
    let folder = Folder::new();
    let help = folder.ok("machine plan --help");
    let lines = help.lines().map(str::trim);
    let policy: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("[memory]"))
        .take_while(|line| !line.starts_with("Every rule"))
        .collect();
    folder.write("help.toml", policy.join("\n").as_bytes());
    let default = folder.json("machine plan --host-memory 8G");
    let same = folder.json("machine plan --host-memory 8G --policy help.toml");
    assert!(
        policy.len() > 6 && default["policy"] == same["policy"],
        "{same}"
    );
}

#[test]
fn what_cannot_be_planned_is_told() {
    let folder = Folder::new();
    let error = folder.fails(1, "machine plan --host-memory 8G --free 700M");
    assert!(
        error.contains("60 MiB are left") && error.contains("close programs"),
        "{error}"
    );
    let error = folder.fails(2, "machine plan --host-memory 8G --free 9G");
    assert!(error.contains("only 8192 MiB"), "{error}");
    for args in [
        "--cpus 0",
        "--cpu-limit nan",
        "--cgroup-used 1G",
        "--host-memory many",
    ] {
        assert_eq!(
            folder.run(&format!("machine plan {args}")).code,
            2,
            "{args}"
        );
    }
    for (policy, words) in [
        (
            "[memory]\nguest = { table = [[2, 2], [1, 1]] }",
            "ascending",
        ),
        ("[memory]\nguset = 3", "guset"),
        ("[memory]\nminimum = 0", "memory.minimum"),
        ("not toml", "not a policy"),
    ] {
        folder.write("bad.toml", policy.as_bytes());
        let error = folder.fails(2, "machine plan --policy bad.toml");
        assert!(error.contains(words), "{policy}: {error}");
    }
    let error = folder.fails(1, "machine plan --policy nowhere.toml");
    assert!(
        error.contains("nowhere.toml: cannot read the policy"),
        "{error}"
    );
}

#[test]
fn a_screen_is_viewed_where_there_is_one() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("a.session")).unwrap();
    let error = folder.fails(2, "view a.session");
    assert!(
        error.contains("no machine shows a screen") && error.contains("--desktop"),
        "{error}"
    );
    folder.write("a.session/screen.json", b"{\"socket\": 1}");
    let error = folder.fails(5, "view a.session");
    assert!(error.contains("screen.json"), "{error}");
    // A name is of windows or of a screen.
    let ran = folder.run("boot a.vhd --label office");
    assert!(ran.code == 2 && ran.err.contains("--desktop"), "{ran:?}");
}
