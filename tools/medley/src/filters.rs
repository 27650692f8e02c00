//! What stands between a disk and its clients because somebody asked for it: `--fault`, `--delay`, `--stats`
//! and `--readonly`, in the order in which they were typed, and where the statistics go.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use clap::builder::ArgAction;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde::Serialize;
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::{Handle, Signals};
use vdisk::Disk;
use vdisk_filters::{DelaySpec, FaultSpec, Filter, Stats, Summary, stack};

use crate::args::must_be_new;
use crate::exit::{Failure, Result};

/// Stands for standard error where a file could stand; no file has an empty name.
const STDERR: &str = "";

/// One wish.
#[derive(Debug, Clone)]
enum Wish {
    Fault(FaultSpec),
    Delay(DelaySpec),
    /// To standard error, if no file is named.
    Stats(Option<PathBuf>),
    ReadOnly,
}

impl Wish {
    /// As it is typed.
    fn to_arg(&self) -> OsString {
        match self {
            Self::Fault(spec) => format!("--fault={spec}").into(),
            Self::Delay(spec) => format!("--delay={spec}").into(),
            Self::Stats(None) => "--stats".into(),
            Self::Stats(Some(file)) => {
                let mut arg = OsString::from("--stats=");
                arg.push(file);
                arg
            }
            Self::ReadOnly => "--readonly".into(),
        }
    }
}

/// The wishes, in the order in which they were typed: clap's derivation keeps none between options.
#[derive(Debug, Clone, Default)]
pub struct FilterArgs(Vec<Wish>);

impl clap::Args for FilterArgs {
    fn augment_args(command: Command) -> Command {
        let option = |name: &'static str, value: &'static str| {
            Arg::new(name)
                .long(name)
                .value_name(value)
                .help_heading("Filters, in the order in which a request walks them")
        };
        command
            .arg(
                option("fault", "SPEC")
                    .help("Let requests fail, as in write:every=100,error=io")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(FaultSpec)),
            )
            .arg(
                option("delay", "SPEC")
                    .help("Slow requests down, as in read=2ms,jitter=1ms")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(DelaySpec)),
            )
            .arg(
                option("stats", "FILE")
                    .help("Count and time requests; at the end and at SIGUSR1 tell it as JSON, to FILE or on standard error")
                    .action(ArgAction::Append)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value(STDERR)
                    .value_parser(value_parser!(OsString)),
            )
            .arg(
                option("readonly", "")
                    .help("Refuse writes of clients, however the disk itself is opened")
                    .action(ArgAction::SetTrue),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut wishes: Vec<(usize, Wish)> = Vec::new();
        let mut take = |name: &str, wish: &dyn Fn(&ArgMatches) -> Vec<Wish>| {
            if matches.value_source(name) == Some(ValueSource::CommandLine) {
                let places = matches.indices_of(name).into_iter().flatten();
                wishes.extend(places.zip(wish(matches)));
            }
        };
        take("fault", &|m| {
            all(m, "fault", |spec: &FaultSpec| Wish::Fault(spec.clone()))
        });
        take("delay", &|m| {
            all(m, "delay", |spec: &DelaySpec| Wish::Delay(spec.clone()))
        });
        take("stats", &|m| {
            all(m, "stats", |file: &OsString| {
                Wish::Stats((file != STDERR).then(|| file.into()))
            })
        });
        take("readonly", &|_| vec![Wish::ReadOnly]);
        wishes.sort_by_key(|(place, _)| *place);
        Ok(Self(wishes.into_iter().map(|(_, wish)| wish).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn all<T: Clone + Send + Sync + 'static>(
    matches: &ArgMatches,
    name: &str,
    wish: impl Fn(&T) -> Wish,
) -> Vec<Wish> {
    matches
        .get_many::<T>(name)
        .into_iter()
        .flatten()
        .map(wish)
        .collect()
}

impl FilterArgs {
    /// The same options for another process.
    pub fn to_args(&self) -> Vec<OsString> {
        self.0.iter().map(Wish::to_arg).collect()
    }

    /// As they were typed, for reports.
    pub fn words(&self) -> Vec<String> {
        let words = |wish: &Wish| wish.to_arg().to_string_lossy().into_owned();
        self.0.iter().map(words).collect()
    }

    /// What can be said before anybody types a passphrase; `background` is a process that nobody listens to.
    pub fn check(&self, background: bool) -> Result<()> {
        let mut files = HashSet::new();
        for wish in &self.0 {
            match wish {
                Wish::Stats(Some(file)) if !files.insert(file) => {
                    let what = format!("--stats={}: asked for twice", file.display());
                    return Err(Failure::usage(what).remedy("name another file for each"));
                }
                Wish::Stats(Some(file)) => must_be_new(file)?,
                Wish::Stats(None) if background => {
                    return Err(Failure::usage(
                        "--stats: nobody sees the standard error of a process in the background",
                    )
                    .remedy("name a file, as in --stats=stats.json, or stay in the foreground"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the filters, and the files of statistics.
    pub fn start(&self, disk: &Path) -> Result<Filters> {
        let (mut list, mut outlets) = (Vec::new(), Vec::new());
        for (index, wish) in self.0.iter().enumerate() {
            list.push(match wish {
                Wish::Fault(spec) => Filter::Fault(spec.clone()),
                Wish::Delay(spec) => Filter::Delay(spec.clone()),
                Wish::ReadOnly => Filter::ReadOnly,
                Wish::Stats(file) => {
                    let stats = Arc::new(Stats::default());
                    let outlet = Outlet {
                        // Absolute: a process in the background changes its directory.
                        file: file
                            .as_deref()
                            .map(std::path::absolute)
                            .transpose()
                            .map_err(Failure::io("the folder of the statistics"))?,
                        disk: disk.to_owned(),
                        behind: self.words()[..index].to_vec(),
                        stats: stats.clone(),
                        begin: Instant::now(),
                        vain: AtomicBool::new(false),
                    };
                    outlet.tell(true)?;
                    outlet.vain.store(true, Ordering::Relaxed);
                    outlets.push(outlet);
                    Filter::Stats(stats)
                }
            });
        }
        let outlets = Arc::new(outlets);
        let teller = match outlets.is_empty() {
            true => None,
            false => Some(Teller::start(outlets.clone())?),
        };
        Ok(Filters {
            list,
            outlets,
            teller,
        })
    }
}

/// Filters at work.
pub struct Filters {
    list: Vec<Filter>,
    outlets: Arc<Vec<Outlet>>,
    /// `None` without statistics: then SIGUSR1 is what it always was.
    teller: Option<Teller>,
}

impl Filters {
    /// The disk behind them.
    pub fn stack(&self, disk: Disk) -> Disk {
        stack(disk, &self.list)
    }

    /// Tells the statistics for the last time.
    pub fn finish(mut self) -> Result<()> {
        drop(self.teller.take());
        for outlet in self.outlets.iter() {
            outlet.vain.store(false, Ordering::Relaxed);
        }
        self.tell()
    }

    /// Tells the statistics as they are now.
    pub fn tell(&self) -> Result<()> {
        self.outlets
            .iter()
            .try_for_each(|outlet| outlet.tell(false))
    }
}

/// The thread that tells statistics when SIGUSR1 comes.
struct Teller {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Teller {
    fn start(outlets: Arc<Vec<Outlet>>) -> Result<Self> {
        let mut signals =
            Signals::new([SIGUSR1]).map_err(Failure::io("cannot listen for SIGUSR1"))?;
        let handle = signals.handle();
        let thread = std::thread::Builder::new()
            .name("statistics".into())
            .spawn(move || {
                for _ in signals.forever() {
                    for outlet in outlets.iter() {
                        if let Err(failure) = outlet.tell(false) {
                            tracing::warn!("{failure}");
                        }
                    }
                }
            })
            .map_err(Failure::io("cannot start a thread"))?;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.handle.close();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Where the statistics of one `--stats` go.
struct Outlet {
    file: Option<PathBuf>,
    disk: PathBuf,
    /// The filters that requests have passed before they are counted.
    behind: Vec<String>,
    stats: Arc<Stats>,
    begin: Instant,
    /// The file is ours, and of no use unless something is served.
    vain: AtomicBool,
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // A command that fails before it serves leaves no file.
        if let (Some(file), true) = (&self.file, self.vain.load(Ordering::Relaxed)) {
            let _ = std::fs::remove_file(file);
        }
    }
}

#[derive(Serialize)]
struct Told<'a> {
    disk: &'a Path,
    behind: &'a [String],
    /// Since the beginning.
    seconds: f64,
    #[serde(flatten)]
    summary: Summary,
}

impl Outlet {
    fn tell(&self, first: bool) -> Result<()> {
        let told = Told {
            disk: &self.disk,
            behind: &self.behind,
            seconds: self.begin.elapsed().as_secs_f64(),
            summary: self.stats.summary(),
        };
        let Some(file) = &self.file else {
            // One line each, so that many make a stream.
            if !first && let Ok(text) = serde_json::to_string(&told) {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            return Ok(());
        };
        let fail = |error: std::io::Error| {
            if error.kind() == ErrorKind::AlreadyExists {
                return must_be_new(file)
                    .err()
                    .unwrap_or_else(|| Failure::io("")(error));
            }
            Failure::io(format!("{}: cannot write the statistics", file.display()))(error)
        };
        // Whoever reads it sees a whole document, whenever they look.
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut draft = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
        serde_json::to_writer_pretty(&mut draft, &told)
            .map_err(std::io::Error::from)
            .and_then(|()| draft.write_all(b"\n"))
            .map_err(fail)?;
        let named = if first {
            draft.persist_noclobber(file)
        } else {
            draft.persist(file)
        };
        named.map(drop).map_err(|error| fail(error.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn parse(args: &[&str]) -> Result<Vec<String>, clap::Error> {
        let command = FilterArgs::augment_args(Command::new("x")).arg(Arg::new("disk"));
        let matches = command.try_get_matches_from([&["x"], args].concat())?;
        Ok(FilterArgs::from_arg_matches(&matches)?.words())
    }

    #[test]
    fn the_order_is_that_in_which_they_were_typed() {
        let typed = [
            "--stats=above.json",
            "--delay=read=1ms",
            "--fault=write",
            "--stats",
            "--readonly",
            "--delay=write=1ms,jitter=2us",
            "--fault=any:nth=3",
            "--stats=",
        ];
        let mut expected = typed.map(String::from);
        expected[7] = "--stats".into();
        assert_eq!(parse(&typed).unwrap(), expected);
        let apart = [
            "--fault", "read", "disk", "--delay", "read=1ms", "--fault", "write",
        ];
        assert_eq!(
            parse(&apart).unwrap(),
            ["--fault=read", "--delay=read=1ms", "--fault=write"]
        );
        // A file for statistics comes with `=`, so that the disk is never taken for one.
        assert_eq!(parse(&["--stats", "disk"]).unwrap(), ["--stats"]);
        assert!(parse(&[]).unwrap().is_empty());
    }

    /// Nor is a file removed that was there before.
    #[test]
    fn what_cannot_start_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("there"), "mine").unwrap();
        for second in ["no folder/s.json", "there", "first"] {
            let wishes = ["first", second].map(|name| Wish::Stats(Some(path(name))));
            let args = FilterArgs(wishes.into());
            assert!(args.start(Path::new("disk")).is_err(), "{second}");
            assert!(!path("first").exists(), "{second}");
        }
        assert_eq!(std::fs::read(path("there")).unwrap(), b"mine");
        let twice = ["a", "a"].map(|name| Wish::Stats(Some(path(name))));
        let failure = FilterArgs(twice.into()).check(false).unwrap_err();
        assert!(failure.to_string().contains("twice"), "{failure}");
    }

    #[test]
    fn a_bad_one_says_what_would_be_right() {
        let error = parse(&["--fault", "wirte:every=3"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("wirte") && error.contains("write"),
            "{error}"
        );
        assert!(parse(&["--fault"]).is_err() && parse(&["--delay", "read"]).is_err());
    }
}
