//! Runs the built-in balancer alone: `balance FILE` reads a configuration; ends with SIGINT. For measuring it without the rest.

use anyhow::Context;
use balancer::server::{Config, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("usage: balance FILE")?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let config = Config::from_toml(&text)?;
    run(config, async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await
}
