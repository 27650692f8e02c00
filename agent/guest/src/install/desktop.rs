//! What `install` writes for people in the guest: ways to send a file to the host from whatever manages files
//! there, the host's browser as a program of the guest, the host's printer as a queue.

/// A file's path below the root, and what is in it.
pub type Written = (&'static str, &'static str);

/// Sending: once for everybody who opens files "with" something, and once for each kind of file manager that has a
/// menu of its own. All of them run the same command without a shell.
pub const SENDING: [Written; 5] = [
    (
        "usr/share/applications/medley-send.desktop",
        "\
[Desktop Entry]
Type=Application
Name=Send to host
Name[de]=An den Host senden
Comment=Offer files to the machine that this one runs on
Exec=/usr/bin/medley-guest send %F
Icon=document-send
NoDisplay=true
MimeType=application/octet-stream;
",
    ),
    (
        "usr/share/Thunar/sendto/medley-send.desktop",
        "\
[Desktop Entry]
Type=Application
Name=Host
Exec=/usr/bin/medley-guest send %F
Icon=document-send
",
    ),
    (
        // PCManFM, and whoever else follows the draft of actions for file managers.
        "usr/share/file-manager/actions/medley-send.desktop",
        "\
[Desktop Entry]
Type=Action
Name=Send to host
Name[de]=An den Host senden
Icon=document-send
Profiles=send;

[X-Action-Profile send]
MimeTypes=all/allfiles;
Exec=/usr/bin/medley-guest send %F
",
    ),
    (
        "usr/share/kio/servicemenus/medley-send.desktop",
        "\
[Desktop Entry]
Type=Service
MimeType=all/allfiles;
Actions=send;

[Desktop Action send]
Name=Send to host
Name[de]=An den Host senden
Icon=document-send
Exec=/usr/bin/medley-guest send %F
",
    ),
    (
        "usr/share/nemo/actions/medley-send.nemo_action",
        "\
[Nemo Action]
Name=Send to host
Name[de]=An den Host senden
Icon-Name=document-send
Selection=notnone
Extensions=nodirs;
Exec=/usr/bin/medley-guest send %F
",
    ),
];

/// The host's browser. It says of no address that it opens it, so that it is nobody's choice by accident: an image
/// with a browser of its own keeps that one, unless somebody chooses this.
pub const BROWSER: Written = (
    "usr/share/applications/medley-open.desktop",
    "\
[Desktop Entry]
Type=Application
Name=Browser of the host
Name[de]=Browser des Hosts
Comment=Open addresses of the web on the machine that this one runs on
Exec=/usr/bin/medley-guest open %u
Icon=web-browser
NoDisplay=true
",
);

/// The choice. Associations of this file's name hold for this desktop only, come before those of the system, and
/// after a user's own.
pub const CHOICE: Written = (
    "etc/xdg/medley-mimeapps.list",
    "\
[Added Associations]
x-scheme-handler/http=medley-open.desktop;
x-scheme-handler/https=medley-open.desktop;

[Default Applications]
x-scheme-handler/http=medley-open.desktop
x-scheme-handler/https=medley-open.desktop
",
);

/// The printer's queue, where there is CUPS. The agent says by a file that its printer listens; only then can the
/// queue learn what the printer is like.
pub const PRINTER_PATH: &str = "\
[Unit]
Description=Waits for the host's printer
ConditionPathExists=/usr/sbin/lpadmin

[Path]
PathExists=/run/medley/printer

[Install]
WantedBy=multi-user.target
";

/// What is done then, once after each boot.
pub const PRINTER_UNIT: &str = "\
[Unit]
Description=The host's printer as a queue of this machine
Wants=cups.service
After=cups.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/lpadmin -p Medley -E -v ipp://localhost:8631/ipp/print -m everywhere
Restart=on-failure
RestartSec=5
";
