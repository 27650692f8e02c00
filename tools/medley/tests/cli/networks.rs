//! What policies of networks come to, before any guest is started.

use crate::common::*;

#[test]
fn a_policy_is_explained() {
    let folder = Folder::new();
    folder.write(
        "office.toml",
        b"[network]\nallow = [\"*.example.org:443/tcp\"]\n\
          dns = { mode = \"fixed\", servers = [\"192.0.2.53\"] }\nsearch = { domains = [\"corp.example\"] }\n\
          [memory]\nguest = 512\n",
    );
    let told = folder.json("network explain office.toml");
    assert_eq!(told["policy"]["mode"], "nat");
    assert_eq!(told["names"]["servers"][0], "192.0.2.53");
    assert_eq!(told["names"]["search"][0], "corp.example");
    let text = folder.ok("network explain office.toml");
    for words in [
        "policy   office.toml\n",
        "nothing but *.example.org:443/tcp",
        "servers  192.0.2.53\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = folder.ok("network explain");
    assert!(
        text.contains("everything but the host's loopback"),
        "{text}"
    );
    // What is printed is a policy, too.
    let again = serde_json::json!({"network": told["policy"]});
    folder.write("again.json", again.to_string().as_bytes());
    assert_eq!(
        folder.json("network explain again.json")["policy"],
        told["policy"]
    );
}

#[test]
fn the_policy_in_the_help_is_the_default() {
    let folder = Folder::new();
    let help = folder.ok("network explain --help");
    let lines = help.lines().map(str::trim);
    let policy: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("[network]"))
        .take_while(|line| !line.starts_with("and without"))
        .collect();
    assert!(policy.len() > 3, "{help}");
    folder.write("help.toml", policy.join("\n").as_bytes());
    let [default, same] =
        ["", "help.toml"].map(|file| folder.json(&format!("network explain {file}")));
    assert_eq!(default["policy"], same["policy"]);
}

#[test]
fn a_policy_that_is_none_starts_nothing() {
    let folder = Folder::new();
    for (policy, words) in [
        ("", "missing field `network`"),
        ("[netwrok]\nallow = []\n", "missing field `network`"),
        ("[network]\nalow = []\n", "alow"),
        ("[network]\nallow = [\"10.0.0.1/8\"]\n", "10.0.0.0/8"),
        ("[network]\nbridge = \"br0\"\n", "network.bridge"),
        (
            "[network]\nmode = \"bridge\"\nallow = []\n",
            "network.allow",
        ),
    ] {
        folder.write("bad.toml", policy.as_bytes());
        for command in [
            "network explain bad.toml",
            "boot a.vhd --network-policy bad.toml",
        ] {
            let error = folder.fails(2, command);
            assert!(
                error.contains(words) && error.contains("bad.toml"),
                "{command}: {error}"
            );
        }
    }
}

#[test]
fn a_choice_does_not_overrule_a_policy() {
    let folder = Folder::new();
    folder.write("nat.toml", b"[network]\nallow = []\n");
    folder.write("none.toml", b"[network]\nmode = \"none\"\n");
    for (args, words) in [
        (
            "nat.toml --network bridge --bridge br0",
            "network.mode is \"nat\"",
        ),
        ("none.toml --network nat", "network.mode is \"none\""),
        ("nat.toml --bridge br0", "network.bridge"),
    ] {
        let error = folder.fails(2, &format!("boot a.vhd --network-policy {args}"));
        assert!(error.contains(words), "{args}: {error}");
    }
    let error = folder.fails(2, "boot a.vhd --network nat --bridge br0");
    assert!(error.contains("network.bridge"), "{error}");
    assert!(folder.is_tidy());
}
