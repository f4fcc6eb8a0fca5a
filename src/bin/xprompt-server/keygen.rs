//! `xprompt-server keygen`: a new API key.

use std::io::Write as _;

use clap::Parser;
use xprompt::server::{NewKey, Scopes};

/// Make an API key: the key goes to standard error, once; its line for the file of keys to standard output
///
/// xprompt-server keygen web --predict 'tweets,news-*' >> keys.toml
#[derive(Debug, Parser)]
#[command(name = "keygen")]
pub(crate) struct Keygen {
    /// Name that the log has for the key
    #[arg(value_name = "NAME")]
    name: String,

    /// Tasks that it may predict on; * at the end stands for any ending
    #[arg(long, value_name = "TASK,…", value_delimiter = ',')]
    predict: Vec<String>,

    /// Whether it may change what is served; metrics are included
    #[arg(long)]
    admin: bool,

    /// Whether it may read metrics
    #[arg(long)]
    metrics: bool,
}

// === impl Keygen ===

impl Keygen {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self { name, predict, admin, metrics } = self;
        let key = NewKey::make(&name, &Scopes { predict, admin, metrics }).map_err(anyhow::Error::msg)?;
        writeln!(std::io::stdout(), "{}", key.line())?;
        eprintln!("{}", key.text());
        eprintln!("The key of {name} is the line above. It is not kept anywhere: copy it now.");
        Ok(())
    }
}
