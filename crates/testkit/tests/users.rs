//! `ctl user` and `ctl events --audit` against a controller with a token: words, and exit codes.

mod common;

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use testkit::process::{self, Process};
use testkit::wait;

use common::PATIENCE;

/// Exit code, and what was said on either output.
fn ctl(url: &str, token: &str, words: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(process::holdfast()?);
    command.args(["ctl", "-H", url, "--wide"]).args(words).env("HOLDFAST_TOKEN", token);
    let Output { status, stdout, stderr } = command.output().context("run ctl")?;
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    Ok((status.code(), text))
}

#[test]
fn a_user_does_what_its_role_lets_it_and_stands_in_the_audit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (secret, config) = (folder.path().join("token"), folder.path().join("controller.toml"));
    std::fs::write(&secret, "geheim\n")?;
    let port = process::free_port()?;
    let text = format!(
        "listen = '127.0.0.1:{port}'\ntoken_file = '{}'\ndata = '{}'\n",
        secret.display(),
        folder.path().join("store.redb").display()
    );
    std::fs::write(&config, text)?;
    let config = config.display().to_string();
    let log = folder.path().join("controller.log");
    let controller = Process::start(&process::holdfast()?, &["controller", "-c", &config], &log)?;
    let url = format!("127.0.0.1:{port}");
    let admin = |words: &[&str]| ctl(&url, "geheim", words);
    wait::until("ctl is answered", PATIENCE, || {
        let (code, said) = admin(&["user", "list"])?;
        ensure!(code == Some(0) && said.contains("there are no users"), "{code:?} {said}");
        Ok(())
    })?;
    let (code, said) = admin(&["user", "add", "duty", "--role", "viewer", "--expires", "90d"])?;
    ensure!(code == Some(0) && said.contains("user duty added: viewer, until 2"), "{said}");
    let token = said.lines().find_map(|line| line.strip_prefix("token: ")).context(said.clone())?;

    let duty = |words: &[&str]| ctl(&url, token, words);
    ensure!(duty(&["list", "namespaces"])?.0 == Some(0));
    let (code, said) = duty(&["create", "namespace", "n"])?;
    ensure!(code == Some(1), "{said}");
    ensure!(said.contains("needs the role `admin`, and duty has `viewer`"), "{said}");
    let (code, said) = admin(&["user", "add", "duty", "--role", "admin"])?;
    ensure!(code == Some(1) && said.contains("ctl user remove duty"), "{said}");
    for words in [
        ["user", "add", "x", "--role", "root"].as_slice(),
        &["user", "add", "x", "--role", "viewer", "--expires", "soon"],
        &["user", "add", "x"],
    ] {
        let (code, said) = admin(words)?;
        ensure!(code == Some(2), "{words:?}: {said}");
    }
    ensure!(admin(&["create", "namespace", "n"])?.0 == Some(0));
    let (_, said) = admin(&["events", "--audit"])?;
    let made = said.lines().find(|line| line.contains("namespace n created"));
    let made = made.with_context(|| said.clone())?;
    ensure!(made.contains("(configured token)") && made.contains("127.0.0.1"), "{made}");
    ensure!(said.contains("user duty added: viewer") && !said.contains(token), "{said}");

    ensure!(admin(&["user", "remove", "duty"])?.0 == Some(0));
    let (code, said) = duty(&["list", "namespaces"])?;
    ensure!(code == Some(1) && said.contains("refuses this token"), "{said}");
    let (code, said) = admin(&["user", "remove", "duty"])?;
    ensure!(code == Some(1) && said.contains("user duty: not found"), "{said}");
    ensure!(said.contains("`ctl user list` shows all"), "{said}");
    // A name that is read as another path: once it deleted what that path names.
    for name in ["../namespaces/n", "x?y", ".."] {
        let (code, said) = admin(&["user", "remove", name])?;
        ensure!(code == Some(1) && said.contains("`ctl user list` shows all"), "{name}: {said}");
    }
    let (_, said) = admin(&["list", "namespaces"])?;
    ensure!(said.lines().eq(["n"]), "{said}");
    ensure!(!controller.log().contains(token), "{}", controller.log());
    Ok(())
}
