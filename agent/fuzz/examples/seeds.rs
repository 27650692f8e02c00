//! Makes the seeds: `cargo run -p medley-fuzz --example seeds -- FOLDER [RECORDING…]`. Streams are the wire's
//! golden vectors; recordings are what `medley-presenter --record` wrote of a test guest. Everything else is made
//! by our own code.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use medley_rfb::encoding;
use medley_sealing::{Options, WrappingKey, seal};
use medley_wire::gui::{FromGuest, FromHost};
use medley_wire::record::{Record, Recorder, Replayer};
use medley_wire::{Channel, Decoder, Encoder, HEADER, Set};

const GOLDEN: &str = include_str!("../../wire/tests/golden/v1.txt");

/// Pixels of a recording that are larger than this are left out.
const LARGE: usize = 1500;

/// Where seeds go.
struct Corpus(PathBuf);

impl Corpus {
    fn put(&self, target: &str, name: &str, parts: &[&[u8]]) {
        let dir = self.0.join(target);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(name), parts.concat()).unwrap();
    }
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let to = arguments.next().expect("the folder that seeds go to");
    let corpus = Corpus(to.into());
    streams(&corpus);
    for recording in arguments {
        recordings(&corpus, Path::new(&recording));
    }
    dice(&corpus);
    states(&corpus);
    apps(&corpus);
    requests(&corpus);
    screens(&corpus);
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The golden vectors of a set, one after the other: a stream.
fn golden(set: &str) -> Vec<u8> {
    let of_set = GOLDEN.lines().filter_map(|line| line.strip_prefix(set));
    of_set
        .flat_map(|line| unhex(line.rsplit(' ').next().unwrap()))
        .collect()
}

fn streams(corpus: &Corpus) {
    let sets = ["gui guest", "control guest", "bulk guest"];
    for (target, set) in ["wire_gui", "wire_control", "wire_bulk"].iter().zip(sets) {
        for (name, how) in [("whole", 0), ("bytes", 1), ("pieces", 7)] {
            corpus.put(target, &format!("golden-{name}"), &[&[how], &golden(set)]);
        }
    }
    let mut file = Vec::new();
    let mut recorder = Recorder::new();
    let channels = ["gui", "control", "bulk"].iter().zip(Channel::ALL);
    for (at, (name, channel)) in (0..).zip(channels) {
        let host = golden(&format!("{name} host"));
        corpus.put("wire_host", &format!("golden-{name}"), &[&[7], &host]);
        for (from_guest, bytes) in [(true, golden(&format!("{name} guest"))), (false, host)] {
            for bytes in bytes.chunks(300) {
                let record = Record {
                    at,
                    channel: *channel,
                    from_guest,
                    bytes,
                };
                recorder.record(record, &mut file);
            }
        }
    }
    corpus.put("wire_recording", "golden", &[&file]);
}

/// Recordings of real sessions, without the large pictures and as long as a target takes them.
fn recordings(corpus: &Corpus, path: &Path) {
    let file = std::fs::read(path).unwrap();
    let name = path.file_stem().unwrap().to_str().unwrap();
    let mut out = Vec::new();
    let mut stream = vec![7];
    let mut recorder = Recorder::new();
    let (mut guest, mut host) = (
        Again::<FromGuest<'static>>::new(),
        Again::<FromHost<'static>>::new(),
    );
    'all: for record in Replayer::new(&file).unwrap().map_while(Result::ok) {
        let messages = if record.from_guest {
            guest.messages(record.bytes)
        } else {
            host.messages(record.bytes)
        };
        for bytes in messages {
            if out.len() + bytes.len() + 14 > 16 << 10 {
                break 'all;
            }
            recorder.record(
                Record {
                    bytes: &bytes,
                    ..record
                },
                &mut out,
            );
            if record.from_guest {
                stream.extend(&bytes);
            }
        }
    }
    corpus.put("presenter_replay", name, &[&out]);
    corpus.put("wire_recording", name, &[&out[..out.len().min(8 << 10)]]);
    corpus.put("wire_gui", name, &[&stream[..stream.len().min(8 << 10)]]);
    // With doings of the desktop that no message tells of: launch, lock and unlock, another monitor.
    let doings: [&[u8]; 5] = [&[3, 1], &[2, 90], &[0], &[1], &[4, 2, 1, 3]];
    let mut eventful = Vec::new();
    let mut recorder = Recorder::new();
    for (n, record) in Replayer::new(&out).unwrap().flatten().enumerate() {
        if eventful.len() + record.bytes.len() + 40 > 16 << 10 {
            break;
        }
        recorder.record(record, &mut eventful);
        if n % 11 == 10 {
            let doing = Record {
                channel: Channel::Control,
                bytes: doings[n / 11 % doings.len()],
                ..record
            };
            recorder.record(doing, &mut eventful);
        }
    }
    corpus.put(
        "presenter_replay",
        &format!("{name}-eventful"),
        &[&eventful],
    );
}

/// One side's messages, numbered anew after some were left out.
struct Again<S: Set> {
    decoder: Decoder<S>,
    encoder: Encoder<S>,
}

impl<S: Set> Again<S> {
    fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            encoder: Encoder::new(),
        }
    }

    fn messages(&mut self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(received) = self.decoder.push(&mut bytes).unwrap() {
            let length = HEADER + S::len(&received.message);
            if length <= LARGE {
                let mut room = vec![0; length];
                self.encoder.encode(&received.message, &mut room).unwrap();
                all.push(room);
            }
        }
        all
    }
}

/// Bytes for targets that make up what happens: anything, and as much of it as leads far.
fn dice(corpus: &Corpus) {
    for (target, count, length) in [
        ("presenter_model", 2_u8, 4000),
        ("presenter_pixels", 2_u8, 1500),
        ("wire_intake", 2_u8, 1500),
        ("link_end", 6, 500),
        ("link_pair", 3_u8, 1500),
        ("services_gate", 2_u8, 4000),
    ] {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for n in 0..count {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect();
            corpus.put(target, &format!("dice-{n}"), &[&[n], &bytes]);
        }
        let text = b"Medley shows windows of another system as your own. ".repeat(20);
        corpus.put(target, "text", &[&text]);
    }
}

/// Sealed under the key that the target knows.
fn states(corpus: &Corpus) {
    let dir = tempfile::tempdir().unwrap();
    let key = WrappingKey::from_bytes(&[0x5a; 32]);
    let zeros = vec![0; 3000];
    let mixed: Vec<u8> = (0..3000_u32).map(|n| ((n * n) >> 5) as u8).collect();
    for (name, stream, chunk_bytes) in [
        ("empty", &b""[..], 256),
        ("short", b"a machine's state", 256),
        ("zeros", &zeros, 256),
        ("mixed", &mixed, 512),
        ("one", &mixed, 4096),
    ] {
        let path = dir.path().join(name);
        let options = Options {
            chunk_bytes,
            ..Options::default()
        };
        let sealed = seal(stream, &path, &key, b"fuzz", &options).unwrap();
        sealed.publish().unwrap();
        corpus.put("sealing_open", name, &[&std::fs::read(&path).unwrap()]);
        corpus.put("sealing_round", name, &[stream]);
    }
    // A head is the body's length, the chunk's, and what was done to it.
    let head = |body: usize, chunk: usize, kind: u32| {
        [body as u32, chunk as u32, kind]
            .map(u32::to_le_bytes)
            .concat()
    };
    let packed = lz4_flex::block::compress(&zeros);
    for kind in 0..4 {
        let name = format!("kind-{kind}");
        corpus.put(
            "sealing_frame",
            &name,
            &[&head(mixed.len(), mixed.len(), kind), &mixed],
        );
        let name = format!("packed-{kind}");
        corpus.put(
            "sealing_frame",
            &name,
            &[&head(packed.len(), 3000, kind), &packed],
        );
    }
}

/// What a machine's screen says, a message of each kind, with a greeting and without.
fn screens(corpus: &Corpus) {
    let head = |place: [u16; 4], kind: i32| {
        let place = place.iter().flat_map(|n| n.to_be_bytes());
        place.chain(kind.to_be_bytes()).collect::<Vec<u8>>()
    };
    let update = |rectangles: &[&[u8]]| {
        let count = rectangles.len() as u16;
        [&[0, 0][..], &count.to_be_bytes(), &rectangles.concat()].concat()
    };
    let raw = [head([2, 1, 3, 2], encoding::RAW), vec![7; 24]].concat();
    let copy = [head([10, 5, 3, 2], encoding::COPY), vec![0, 2, 0, 1]].concat();
    let arrow = [head([4, 1, 9, 2], encoding::CURSOR), vec![0x80; 18 * 4 + 4]].concat();
    let size = [
        head([1, 4, 20, 10], encoding::SIZE_EXTENDED),
        vec![1; 4 + 16],
    ]
    .concat();
    let pixels = update(&[&raw, &copy]);
    let ways = update(&[
        &head([1, 0, 0, 0], encoding::POINTER),
        &head([0; 4], encoding::KEYS),
    ]);
    let sizes = update(&[&size, &head([0, 0, 16, 9], encoding::SIZE)]);
    let cut = [&[2, 3, 0, 0, 0, 0, 0, 0, 3][..], b"cut"].concat();
    let arrow = update(&[&arrow]);
    let greeting = [
        &b"RFB 003.008\n\x01\x01\0\0\0\0\0\x10\0\x08"[..],
        &[0; 16],
        &[0, 0, 0, 4],
        b"QEMU",
    ]
    .concat();
    let all = [pixels, ways, arrow, cut, sizes].concat();
    corpus.put("rfb_screen", "all", &[&[8], &all]);
    corpus.put("rfb_screen", "greeted", &[&[7], &greeting, &all]);
    let refused = b"RFB 003.008\n\0\0\0\0\x02no";
    corpus.put("rfb_screen", "refused", &[&[1], refused]);
}

fn apps(corpus: &Corpus) {
    let editor = "# a comment\n[Desktop Entry]\nType=Application\nName=Editor\nName[de]=Bearbeiter\n\
        Name[de_DE@euro]=Schreiber\nComment=Writes\\stext\nKeywords=Text;Brief\\;Post;\n\
        Exec=\"/opt/my editor/run\" --new %U\nIcon=editor\nTryExec=/opt/my\\ editor/run\nPath=/tmp\n\
        Categories=Office;TextEditor;\nMimeType=text/plain;x-scheme-handler/note;\nStartupWMClass=Ed\n\
        Terminal=false\nActions=new;gone;\nOnlyShowIn=Medley;\n\n[Desktop Action new]\nName=New\n\
        Exec=editor --empty %i %c %k %%\n[Other]\nName=nobody\n";
    corpus.put("guest_entry", "editor", &[editor.as_bytes()]);
    let hidden =
        "[Desktop Entry]\nType=Application\nName=A\nExec=a\nNoDisplay=true\nNotShowIn=Medley\n";
    corpus.put("guest_entry", "hidden", &[hidden.as_bytes()]);
    for (name, text) in [
        ("list", "app --open %U -- end\nhttps://a/?b=c d\nnote:x"),
        ("one", "app %u\nhttps://a/\nhttps://b/"),
        ("files", "app %F\nfile:///a%20b\nfile://localhost/c"),
        (
            "quotes",
            r#""/opt/my app/run" "a \"b\" \$c \\ `" --x=%% %k %i %c %m"#,
        ),
        ("inside", "app --at=%u %d%D%n"),
    ] {
        corpus.put("guest_exec", name, &[text.as_bytes()]);
    }
    let mut small = vec![16, 2, 2, 1, 2, 3, 4, 3, 1];
    small.extend([9; 3]);
    corpus.put("guest_icon", "small", &[&small]);
    let words = [
        2_u32,
        2,
        0xff00_00ff,
        0x8000_ff00,
        0x0000_0000,
        0xffff_ffff,
        32,
        32,
    ];
    let bytes: Vec<u8> = words
        .into_iter()
        .chain(0..1024)
        .flat_map(u32::to_le_bytes)
        .collect();
    corpus.put("guest_icon", "two", &[&[17], &bytes]);
}

/// What clients ask a printer: IPP, as its standard has it, in HTTP.
fn requests(corpus: &Corpus) {
    let attribute = |tag: u8, name: &str, value: &[u8]| {
        let mut out = vec![tag];
        out.extend((name.len() as u16).to_be_bytes());
        out.extend(name.as_bytes());
        out.extend((value.len() as u16).to_be_bytes());
        out.extend(value);
        out
    };
    let ipp = |operation: u16, more: &[u8], document: &[u8]| {
        let mut out = vec![2, 0];
        out.extend(operation.to_be_bytes());
        out.extend([0, 0, 0, 1, 1]);
        out.extend(attribute(0x47, "attributes-charset", b"utf-8"));
        out.extend(attribute(0x48, "attributes-natural-language", b"en"));
        out.extend(attribute(0x45, "printer-uri", b"ipp://localhost/ipp/print"));
        out.extend(attribute(0x42, "requesting-user-name", b"user"));
        out.extend(more);
        out.push(3);
        out.extend(document);
        out
    };
    let post = |head: &str, body: &[u8]| {
        let mut out = format!(
            "POST /ipp/print HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/ipp\r\n{head}\r\n"
        )
        .into_bytes();
        out.extend(body);
        out
    };
    let whole = |body: &[u8]| post(&format!("Content-Length: {}\r\n", body.len()), body);
    let pdf =
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";
    let mut job = attribute(0x42, "job-name", b"a letter");
    job.extend(attribute(0x49, "document-format", b"application/pdf"));
    job.push(2);
    job.extend(attribute(0x21, "copies", &2_u32.to_be_bytes()));
    job.extend(attribute(0x44, "media", b"iso_a4_210x297mm"));
    job.extend(attribute(0x44, "sides", b"two-sided-long-edge"));
    let print = ipp(2, &job, pdf);
    let all: [(&str, Vec<u8>); 8] = [
        (
            "attributes",
            whole(&ipp(
                0x0b,
                &attribute(0x44, "requested-attributes", b"all"),
                b"",
            )),
        ),
        ("validate", whole(&ipp(4, &job, b""))),
        ("print", whole(&print)),
        ("create", whole(&ipp(5, &job, b""))),
        ("send", {
            let mut send = attribute(0x21, "job-id", &1_u32.to_be_bytes());
            send.extend(attribute(0x22, "last-document", &[1]));
            [whole(&ipp(5, &job, b"")), whole(&ipp(6, &send, pdf))].concat()
        }),
        (
            "jobs",
            [whole(&print), whole(&ipp(0x0a, b"", b""))].concat(),
        ),
        ("cancel", {
            let cancel = attribute(0x21, "job-id", &1_u32.to_be_bytes());
            [
                whole(&print),
                whole(&ipp(8, &cancel, b"")),
                whole(&ipp(9, &cancel, b"")),
            ]
            .concat()
        }),
        ("chunked", {
            let mut body = Vec::new();
            for piece in print.chunks(90) {
                body.extend(format!("{:x}\r\n", piece.len()).bytes());
                body.extend(piece);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            post(
                "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
                &body,
            )
        }),
    ];
    for (name, bytes) in all {
        corpus.put("print_request", name, &[&bytes]);
    }
    corpus.put(
        "print_request",
        "get",
        &[b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    );
}
