//! `medley boot --files-in` and its like: what guest and host may hand to each other. Nothing, unless it is said.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use medley_host::ServicesPolicy;
use medley_host::policy::{FilesIn, FilesOut, Filter, Notes, Print, Tray, Urls};

use crate::exit::{Failure, Kind, Result};
use crate::size;

/// Options of what guest and host may hand to each other.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// Let `medley send` and `medley run` send files of this host's to the guest
    #[arg(long, requires = "windows", help_heading = "Services")]
    files_in: bool,
    /// Take files that the guest hands out into this folder [default: ~/Workspace-Incoming/NAME]
    #[arg(
        long,
        value_name = "DIR",
        requires = "windows",
        help_heading = "Services"
    )]
    files_out: Option<Option<PathBuf>>,
    /// Only files whose names end so, both ways: pdf,odt [default: all but those that a desktop would run]
    #[arg(
        long,
        value_name = "EXT,EXT",
        value_delimiter = ',',
        requires = "windows",
        help_heading = "Services"
    )]
    files_types: Vec<String>,
    /// Most that one file may have, both ways
    #[arg(
        long,
        value_name = "N",
        default_value = "1G",
        value_parser = size::parse,
        requires = "windows",
        help_heading = "Services"
    )]
    files_bytes: u64,
    /// Ask this program about each file, both ways: it gets the file's path, and ends with 0 if it is clean
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "windows",
        help_heading = "Services"
    )]
    files_scan: Option<PathBuf>,
    /// Print what the guest prints, on this printer [default: the host's default printer]
    #[arg(
        long,
        value_name = "PRINTER-URI",
        requires = "windows",
        help_heading = "Services"
    )]
    print: Option<Option<String>>,
    /// Show the guest's notifications on this desktop, with their buttons if so
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        num_args = 0..=1,
        default_missing_value = "plain",
        requires = "windows",
        help_heading = "Services"
    )]
    notes: Option<NotesHow>,
    /// Show the guest's tray items in this desktop's panel
    #[arg(long, requires = "windows", help_heading = "Services")]
    tray: bool,
    /// Open addresses of the web (http, https) that the guest wants opened here
    #[arg(long, requires = "windows", help_heading = "Services")]
    urls: bool,
    /// What opens them: a program that gets the address as its only argument
    #[arg(
        long,
        value_name = "COMMAND",
        default_value = "xdg-open",
        requires = "urls",
        help_heading = "Services"
    )]
    urls_with: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NotesHow {
    /// Texts only
    Plain,
    /// With the app's buttons
    Buttons,
}

impl ServiceArgs {
    /// The policy, for a workspace of this name.
    pub fn policy(&self, workspace: &str) -> Result<ServicesPolicy> {
        let filter = Filter {
            types: self.files_types.clone(),
            bytes: self.files_bytes,
            scan: self.files_scan.clone(),
            ..Filter::default()
        };
        let folder = match &self.files_out {
            Some(None) => {
                let usual = FilesOut::usual_folder(workspace).ok_or_else(|| {
                    Failure::new(
                        Kind::Missing,
                        "there is no home folder for the guest's files",
                    )
                    .remedy("set HOME, or name a folder: --files-out DIR")
                });
                Some(usual?)
            }
            Some(named) => named.clone(),
            None => None,
        };
        let files_in = self.files_in.then(|| FilesIn {
            filter: filter.clone(),
        });
        Ok(ServicesPolicy {
            files_in,
            files_out: folder.map(|folder| FilesOut::new(folder, filter)),
            print: self.print.as_ref().map(|printer| Print {
                printer: printer.clone(),
                ..Print::default()
            }),
            notes: self.notes.map(|how| Notes {
                buttons: how == NotesHow::Buttons,
            }),
            tray: self.tray.then(Tray::default),
            urls: self.urls.then(|| Urls {
                with: self.urls_with.clone(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Typed {
        #[arg(long)]
        windows: bool,
        #[command(flatten)]
        services: ServiceArgs,
    }

    fn policy(line: &str) -> ServicesPolicy {
        let words = ["x", "--windows"]
            .into_iter()
            .chain(line.split_whitespace());
        let typed = Typed::try_parse_from(words).unwrap();
        assert!(typed.windows);
        typed.services.policy("of/fice").unwrap()
    }

    #[test]
    fn what_is_not_said_is_denied() {
        assert_eq!(policy(""), ServicesPolicy::default());
        assert!(
            Typed::try_parse_from(["x", "--tray"]).is_err(),
            "only with windows"
        );
    }

    #[test]
    fn each_service_has_its_option() {
        let all = "--files-in --files-out /in --files-types pdf,odt --files-bytes 5M --files-scan /scan \
                   --print ipp://p/ --notes=buttons --tray --urls --urls-with /open";
        let filter = Filter {
            types: vec!["pdf".into(), "odt".into()],
            bytes: 5 << 20,
            scan: Some("/scan".into()),
            ..Filter::default()
        };
        let expected = ServicesPolicy {
            files_in: Some(FilesIn {
                filter: filter.clone(),
            }),
            files_out: Some(FilesOut::new("/in", filter)),
            print: Some(Print {
                printer: Some("ipp://p/".into()),
                ..Print::default()
            }),
            notes: Some(Notes { buttons: true }),
            tray: Some(Tray {}),
            urls: Some(Urls {
                with: "/open".into(),
            }),
        };
        assert_eq!(policy(all), expected);
        let usual = policy("--files-out --print --notes --urls");
        let inbox = usual.files_out.unwrap().folder;
        let name = inbox.file_name().unwrap().to_str().unwrap();
        // With a digest, for "of-fice" would be another workspace.
        assert!(name.starts_with("of-fice") && name.len() == 15, "{inbox:?}");
        assert!(inbox.parent().unwrap().ends_with("Workspace-Incoming"));
        assert_eq!(usual.print, Some(Print::default()));
        assert_eq!(usual.notes, Some(Notes::default()));
        assert_eq!(usual.urls, Some(Urls::default()));
    }
}
