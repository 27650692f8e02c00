//! `medley disk key token`: JSON objects that a header carries for others. They are in clear text.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use vdisk::keys::KeyFile;
use vdisk::luks::{Json, TokenId};

use crate::cmd::key::{HeaderArgs, judged};
use crate::exit::{Failure, Result};
use crate::output::{Fields, Report, Ui};

/// A token in a header of 16 MiB has no more room than this.
const MAX_LEN: u64 = 4 << 20;

/// Verbs of `key token`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A token is a JSON object with a `type` and `keyslots`, an array of slot numbers as strings. Anybody
who has the header can read it: no secrets.

EXAMPLES
  medley disk key token list office.vhd
  medley disk key token add office.vhd --file token.json")]
pub enum Token {
    /// List the tokens
    List(List),
    /// Add a token
    Add(Add),
    /// Remove a token
    Remove(Remove),
}

/// Options of `key token list`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  medley disk key token list office.vhd
  medley disk key token list office.vhd --json | jq '.tokens[].token.type'")]
pub struct List {
    #[command(flatten)]
    header: HeaderArgs,
}

/// Options of `key token add`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  medley disk key token add office.vhd --file token.json
  echo '{\"type\": \"org.example\", \"keyslots\": [\"0\"], \"until\": \"2027-01-01\"}' |
    medley disk key token add office.vhd --file -")]
pub struct Add {
    #[command(flatten)]
    header: HeaderArgs,
    /// The token's JSON text, `-` for standard input
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
}

/// Options of `key token remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
A LUKS1 twin whose token is removed is on its own: it keeps the passphrases it has.

EXAMPLES
  medley disk key token remove office.vhd --token 0")]
pub struct Remove {
    #[command(flatten)]
    header: HeaderArgs,
    /// The token's number
    #[arg(long, value_name = "N")]
    token: TokenId,
}

#[derive(Serialize)]
struct Listed {
    header: PathBuf,
    tokens: Vec<Numbered>,
}

#[derive(Serialize)]
struct Numbered {
    id: TokenId,
    token: Json,
}

impl Report for Listed {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row("header", self.header.display().to_string());
        for Numbered { id, token } in &self.tokens {
            // Somebody else's words, as JSON prints them: no control characters reach the terminal.
            fields.row(&format!("  token {id}"), token.to_string());
        }
        if self.tokens.is_empty() {
            fields.row("  tokens", "none");
        }
        fields.to_string()
    }
}

#[derive(Serialize)]
struct Changed {
    verb: &'static str,
    header: PathBuf,
    token: TokenId,
}

impl Report for Changed {
    fn human(&self) -> String {
        let Self {
            verb,
            header,
            token,
        } = self;
        format!("{verb}  token {token} of {}\n", header.display())
    }
}

/// Runs it.
pub fn run(verb: Token, ui: Ui) -> Result<()> {
    match verb {
        Token::List(args) => {
            let header = args.header.path();
            let file = KeyFile::open(&header)?;
            let tokens = file.tokens().into_iter();
            let tokens = tokens
                .map(|(id, token)| Numbered {
                    id,
                    token: token.clone(),
                })
                .collect();
            ui.show(&Listed { header, tokens })
        }
        Token::Add(args) => {
            let header = judged(args.header.path())?;
            let token = KeyFile::add_token(&header, &read(&args.file)?)?;
            ui.done(&Changed {
                verb: "added",
                header,
                token,
            })
        }
        Token::Remove(args) => {
            let header = judged(args.header.path())?;
            KeyFile::remove_token(&header, args.token)?;
            ui.done(&Changed {
                verb: "removed",
                header,
                token: args.token,
            })
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(
            std::fs::File::open(path)
                .map_err(Failure::io(format!("{name}: cannot read the token")))?,
        ),
    };
    let mut text = String::new();
    let read = source.take(MAX_LEN + 1).read_to_string(&mut text);
    let read = read.map_err(Failure::io(format!("{name}: cannot read the token")))?;
    match read as u64 > MAX_LEN {
        true => Err(Failure::usage(format!(
            "{name}: more than {MAX_LEN} bytes, which is no token"
        ))),
        false => Ok(text),
    }
}
