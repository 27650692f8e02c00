//! The guest's apps: which there are, by what their windows are known, how they are launched.
mod compose;
pub mod entry;
pub mod exec;
pub mod icon;
pub mod launch;

use entry::Entry;
use medley_wire::AppId;
use medley_wire::limits::APPS;
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The variables by which a launched app's windows are known as its own.
pub const APP_VARIABLE: &str = "MEDLEY_APP";
/// The launch, with the run of the agent and the connection that it belongs to.
pub const LAUNCH_VARIABLE: &str = "MEDLEY_LAUNCH";

/// What stands before and behind a mark in the name of a startup notification.
const STARTUP: &str = "medley/";
const STARTUP_END: &str = "_TIME0";

/// Launches that are remembered.
const LAUNCHES: usize = 256;

/// How deep folders of entries are looked into.
const DEPTH: u32 = 4;

/// An app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Where its entry lies.
    pub path: PathBuf,
    /// What it says.
    pub entry: Entry,
}

/// All apps, by id.
#[derive(Debug)]
pub struct Apps {
    folders: Vec<PathBuf>,
    desktop: String,
    locale: String,
    /// The apps.
    pub all: BTreeMap<AppId, App>,
    /// By what windows are recognised.
    pub index: Rc<Index>,
}

impl Apps {
    /// Looks for apps in the folders that the environment names.
    #[must_use]
    pub fn new() -> Self {
        let home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let home =
            home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
        let system = std::env::var("XDG_DATA_DIRS").unwrap_or_default();
        let system = if system.is_empty() {
            "/usr/local/share:/usr/share".to_owned()
        } else {
            system
        };
        let folders = home
            .into_iter()
            .chain(system.split(':').map(PathBuf::from))
            .filter(|folder| folder.is_absolute())
            .collect();
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        Self::in_folders(folders, locale.unwrap_or_default())
    }

    /// Looks for apps in these folders, each of which has one named `applications`.
    #[must_use]
    pub fn in_folders(folders: Vec<PathBuf>, locale: String) -> Self {
        let desktop = std::env::var("XDG_CURRENT_DESKTOP").unwrap_or_default();
        let desktop = desktop.split(':').next().unwrap_or_default();
        let mut apps = Self {
            folders,
            desktop: if desktop.is_empty() {
                "Medley"
            } else {
                desktop
            }
            .to_owned(),
            locale,
            all: BTreeMap::new(),
            index: Rc::default(),
        };
        apps.scan();
        apps
    }

    /// The folders that are looked into.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The language in which apps are named from now on.
    pub fn set_locale(&mut self, locale: &str) {
        locale.clone_into(&mut self.locale);
    }

    /// Looks again.
    pub fn scan(&mut self) {
        let mut found: BTreeMap<String, Option<App>> = BTreeMap::new();
        for folder in &self.folders {
            self.look(&folder.join("applications"), "", DEPTH, &mut found);
        }
        let mut classes = HashMap::new();
        self.all.clear();
        for (name, app) in found {
            let Some(app) = app else { continue };
            if self.all.len() >= APPS as usize {
                tracing::warn!("more than {APPS} apps; the rest is not listed");
                break;
            }
            let id = id_of(&name);
            let stem = name.strip_suffix(".desktop").unwrap_or(&name);
            // Of a name with dots, as in org.example.Editor, windows often have the last part only.
            let last = stem.rsplit('.').next().unwrap_or(stem);
            let program = exec::commands(&app.entry.exec, &app.entry, "", &[])
                .ok()
                .and_then(|commands| commands.into_iter().flatten().next())
                .and_then(|path| {
                    Some(Path::new(&path).file_name()?.to_string_lossy().into_owned())
                });
            for class in [Some(last.to_owned()), program] {
                classes
                    .entry(class.unwrap_or_default().to_lowercase())
                    .or_insert(id);
            }
            classes.insert(stem.to_lowercase(), id);
            if let Some(class) = &app.entry.class {
                classes.insert(class.to_lowercase(), id);
            }
            self.all.insert(id, app);
        }
        classes.remove("");
        self.index = Rc::new(Index {
            classes,
            run: self.index.run.clone(),
            connection: self.index.connection.clone(),
            launched: self.index.launched.clone(),
        });
    }

    /// Looks into a folder. Of two entries with one name the first counts, even if it only hides the other.
    fn look(
        &self,
        folder: &Path,
        prefix: &str,
        depth: u32,
        found: &mut BTreeMap<String, Option<App>>,
    ) {
        let Ok(files) = std::fs::read_dir(folder) else {
            return;
        };
        for file in files.flatten() {
            let Ok(name) = file.file_name().into_string() else {
                continue;
            };
            let path = file.path();
            if path.is_dir() {
                if depth > 0 {
                    self.look(&path, &format!("{prefix}{name}-"), depth - 1, found);
                }
            } else if name.ends_with(".desktop") {
                found
                    .entry(format!("{prefix}{name}"))
                    .or_insert_with(|| self.read(path));
            }
        }
    }

    fn read(&self, path: PathBuf) -> Option<App> {
        let mut text = String::new();
        std::fs::File::open(&path)
            .ok()?
            .take(entry::MOST)
            .read_to_string(&mut text)
            .ok()?;
        let entry = Entry::parse(&text, &self.locale, &self.desktop).ok()?;
        let there = entry
            .try_exec
            .as_ref()
            .is_none_or(|program| launch::find_program(program).is_some());
        there.then_some(App { path, entry })
    }
}

impl Default for Apps {
    fn default() -> Self {
        Self::new()
    }
}

/// An app's id: it says nothing, and stays the same when the app is updated or moved.
#[must_use]
pub fn id_of(desktop_id: &str) -> AppId {
    let digest = Sha256::digest(desktop_id.as_bytes());
    AppId::new(digest.first_chunk().copied().unwrap_or_default())
}

/// By what windows are recognised: the class that an app's entry names, or what it was launched with. Never by
/// titles, which any document can give.
#[derive(Debug)]
pub struct Index {
    classes: HashMap<String, AppId>,
    /// Of this run of the agent: a former run's launches have the same numbers.
    run: Rc<str>,
    /// The host's connection: the next one's launches have the same numbers, too.
    connection: Rc<Cell<u32>>,
    /// The apps that this host launched last, by the launches' numbers.
    launched: Rc<RefCell<VecDeque<(u32, AppId)>>>,
}

impl Default for Index {
    fn default() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        Self {
            classes: HashMap::new(),
            run: format!("{:x}-{now:x}", std::process::id()).into(),
            connection: Rc::default(),
            launched: Rc::default(),
        }
    }
}

impl Index {
    /// What a launch puts into its app's environment.
    #[must_use]
    pub fn mark(&self, request: u32) -> String {
        format!("{}/{}/{request}", self.run, self.connection.get())
    }

    /// What a launch is called in startup notifications.
    #[must_use]
    pub fn startup_id(&self, request: u32) -> String {
        format!("{STARTUP}{}{STARTUP_END}", self.mark(request))
    }

    /// The launch that a window says it belongs to: an app that runs already is handed the launch's name.
    #[must_use]
    pub fn launch_of(&self, startup_id: &str) -> Option<u32> {
        let mark = startup_id.strip_prefix(STARTUP)?;
        self.request_of(mark.strip_suffix(STARTUP_END)?)
    }

    /// The launch of this host's that has that mark.
    fn request_of(&self, mark: &str) -> Option<u32> {
        let request = mark.rsplit('/').next()?.parse().ok()?;
        (mark == self.mark(request)).then_some(request)
    }

    /// The host that launched is gone.
    pub fn next_connection(&self) {
        self.connection.set(self.connection.get().wrapping_add(1));
        self.launched.borrow_mut().clear();
    }

    /// That app is launched.
    pub fn launches(&self, request: u32, app: AppId) {
        let mut launched = self.launched.borrow_mut();
        launched.push_back((request, app));
        if launched.len() > LAUNCHES {
            launched.pop_front();
        }
    }

    /// The app of a launch, as far back as they are remembered. Some apps write over the environment that would tell,
    /// and have a class that no entry names.
    #[must_use]
    pub fn app_of(&self, launch: u32) -> Option<AppId> {
        let launched = self.launched.borrow();
        let mut newest = launched.iter().rev();
        newest
            .find(|(request, _)| *request == launch)
            .map(|(_, app)| *app)
    }

    /// The app and the launch that a window belongs to; none and zero if nobody knows.
    #[must_use]
    pub fn whose(&self, process: Option<u32>, class: &(String, String)) -> (AppId, u32) {
        let environment = process.map(environment).unwrap_or_default();
        let variable = |name: &str| {
            environment.split(|byte| *byte == 0).find_map(|line| {
                let (key, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
                (key == name).then(|| value.to_owned())
            })
        };
        let by_class = [&class.1, &class.0]
            .into_iter()
            .find_map(|class| self.classes.get(&class.to_lowercase()).copied());
        let app = by_class.or_else(|| AppId::parse(&variable(APP_VARIABLE)?));
        let launch = variable(LAUNCH_VARIABLE).and_then(|mark| self.request_of(&mark));
        (app.unwrap_or(AppId::NONE), launch.unwrap_or(0))
    }
}

/// The environment that a process began with; empty, if the agent may not see it.
fn environment(process: u32) -> Vec<u8> {
    const MOST: u64 = 256 << 10;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(format!("/proc/{process}/environ"));
    match file.map(|file| file.take(MOST).read_to_end(&mut bytes)) {
        Ok(Ok(_)) => bytes,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, lines: &str) {
        let path = folder.join("applications").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text =
            format!("[Desktop Entry]\nType=Application\nName={name}\nExec=/bin/true\n{lines}\n");
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn folders_come_in_order_and_hide_each_other() {
        let (user, system) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(user.path(), "a.desktop", "Comment=mine");
        put(system.path(), "a.desktop", "Comment=theirs");
        put(user.path(), "gone.desktop", "Hidden=true");
        put(system.path(), "gone.desktop", "");
        put(
            system.path(),
            "kde/org.example.Edit.desktop",
            "StartupWMClass=EditClass",
        );
        put(system.path(), "try.desktop", "TryExec=/nowhere/at/all");
        let folders = vec![user.path().to_path_buf(), system.path().to_path_buf()];
        let apps = Apps::in_folders(folders, String::new());
        let names: Vec<_> = apps
            .all
            .values()
            .map(|app| app.entry.name.as_str())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(apps.all[&id_of("a.desktop")].entry.comment, "mine");
        let edit = id_of("kde-org.example.Edit.desktop");
        let class = |class: &str| apps.index.whose(None, &("x".into(), class.into())).0;
        assert_eq!(class("editclass"), edit);
        assert_eq!(class("Edit"), edit);
        assert_eq!(class("kde-org.example.Edit"), edit);
        assert_eq!(class("other"), AppId::NONE);
    }

    #[test]
    fn launches_are_known_until_the_host_goes() {
        let index = Index::default();
        let child = |mark: &str| {
            std::process::Command::new("sleep")
                .arg("9")
                .env(LAUNCH_VARIABLE, mark)
                .env(APP_VARIABLE, "000102030405060708090a0b0c0d0e0f")
                .spawn()
                .unwrap()
        };
        let mut launched = child(&index.mark(7));
        let class = (String::new(), String::new());
        // The new program's environment shows when it has replaced the copy of this one.
        let whose = || index.whose(Some(launched.id()), &class);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while whose().1 == 0 && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(whose().1, 7);
        assert_ne!(whose().0, AppId::NONE);
        let startup = index.startup_id(8);
        assert_eq!(index.launch_of(&startup), Some(8));
        assert_eq!(index.launch_of("medley/x/0/8_TIME0"), None);
        assert_eq!(index.launch_of(""), None);
        let app = AppId::new([3; 16]);
        index.launches(8, app);
        assert_eq!((index.app_of(8), index.app_of(9)), (Some(app), None));
        index.next_connection();
        assert_eq!((index.launch_of(&startup), index.app_of(8)), (None, None));
        assert_eq!(index.whose(Some(launched.id()), &class).1, 0);
        launched.kill().unwrap();
        launched.wait().unwrap();
    }
}
