//! `holdfast generate`: what a package ships beside the binary, from the definitions that the
//! binary itself reads.
//!
//! Man pages and completions come from the command line's own definition. A node reads its
//! arguments itself, so its part is made from the node's table of options. Nothing here is written
//! by hand a second time.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use node::config::load::FLAGS;
use node::config::{OPTIONS, Values};

use crate::{Cli, VERSION};

/// Shells that completions are made for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder to write `man/` and `completions/` into; made if it is missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Writes all files.
///
/// # Errors
/// A file cannot be written; the text names it.
pub(crate) fn run(args: &Args) -> Result<()> {
    for (name, page) in pages().context("write a man page")? {
        write(&args.dir.join("man"), &name, &page)?;
    }
    for shell in SHELLS {
        let folder = args.dir.join("completions").join(shell.to_string());
        write(&folder, file_name(shell), &completion(shell))?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let file = folder.join(name);
    std::fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))
}

/// The whole command line, with the node's options in place of "whatever follows".
fn definition() -> Command {
    let documented = Cli::command().mut_subcommand("node", |_| node_command());
    let mut command = documented.disable_help_subcommand(true);
    command.build();
    command
}

fn node_command() -> Command {
    let flags = FLAGS.iter().map(|flag| {
        let arg = Arg::new(flag.long).long(flag.long).help(flag.help);
        let arg = match flag.short {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        match flag.value {
            Some(name) => arg.value_name(name).action(ArgAction::Set),
            None => arg.action(ArgAction::SetTrue),
        }
    });
    let defaults = Values::default();
    let options = OPTIONS.iter().map(|option| {
        let doc: Vec<&str> = option.doc.lines().map(str::trim).collect();
        let default = defaults.get(option.name).filter(|default| !default.is_empty());
        let default = default.map_or(String::new(), |text| format!(" [default: {text}]"));
        let arg = Arg::new(option.name).long(option.name).value_name("VALUE");
        arg.help(format!("{}{default}", doc.join(" ")))
    });
    Command::new("node")
        .about("Run a data node")
        .long_about(
            "Runs a data node. Every option of its file, whose format and names are Kvrocks', may \
             also stand here, and wins over the file.",
        )
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(flags)
        .args(options)
}

/// Name and text of each page: the program's, and that of every verb which is shown in its help.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    collect(&definition(), &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        collect(verb, pages)?;
    }
    let man = Man::new(command.clone()).source(format!("holdfast {VERSION}")).manual("Holdfast");
    let mut text = Vec::new();
    if command.get_name() == "node" && command.get_arguments().count() > OPTIONS.len() {
        // The usual synopsis would name every option.
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        text.extend_from_slice(
            b".SH SYNOPSIS\n\\fBholdfast node\\fR [\\fB\\-\\-check\\fR] [\\fB\\-c\\fR \\fIFILE\\fR] \
              [\\fB\\-\\-\\fIOPTION VALUE\\fR]...\n",
        );
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
    } else {
        man.render(&mut text)?;
    }
    pages.push((man.get_filename(), text));
    Ok(())
}

/// As the shell looks for it.
fn file_name(shell: Shell) -> &'static str {
    match shell {
        Shell::Zsh => "_holdfast",
        Shell::Fish => "holdfast.fish",
        _ => "holdfast",
    }
}

fn completion(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut definition(), "holdfast", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pages: &[(String, Vec<u8>)], name: &str) -> String {
        let (_, page) = pages.iter().find(|(page, _)| page == name).unwrap();
        // Roff escapes hyphens.
        String::from_utf8(page.clone()).unwrap().replace("\\-", "-")
    }

    #[test]
    fn every_verb_has_a_page_and_hidden_ones_have_none() {
        let pages = pages().unwrap();
        for name in [
            "holdfast.1",
            "holdfast-node.1",
            "holdfast-controller.1",
            "holdfast-balancer.1",
            "holdfast-ctl.1",
            "holdfast-ctl-create-cluster.1",
            "holdfast-ctl-shard-accept-loss.1",
        ] {
            let page = text(&pages, name);
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(!pages.iter().any(|(name, _)| name.contains("generate")));
        assert!(text(&pages, "holdfast-ctl-status.1").contains("--timeout"));
    }

    #[test]
    fn the_nodes_page_has_every_option_of_its_file() {
        let page = text(&pages().unwrap(), "holdfast-node.1");
        for option in OPTIONS {
            assert!(page.contains(&format!("--{}", option.name)), "{}", option.name);
        }
        for flag in FLAGS {
            assert!(page.contains(&format!("--{}", flag.long)), "{}", flag.long);
        }
    }

    #[test]
    fn every_shell_completes_verbs_and_options() {
        for shell in SHELLS {
            let text = String::from_utf8(completion(shell)).unwrap();
            for word in ["accept-loss", "haproxy-config", "client-access", "take-over"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }
}
