//! The program `holdfast`: arguments in, output and an exit code out. The work is in
//! `holdfast-engine`; this crate wires it up.

mod args;
mod commands;
mod failure;
mod output;
mod policy;
mod progress;
mod root;

use args::{Cli, Command, WalCommand};
use clap::Parser;
use holdfast_core::ExitCode;
use std::io::Write;
use std::sync::atomic::Ordering;

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(c) => c,
        Err(e) => {
            let _ = e.print();
            let wal_get = std::env::args().skip_while(|a| a != "wal").nth(1).is_some_and(|a| a == "get");
            // 1 would tell PostgreSQL that the segment does not exist.
            let code = if wal_get && e.use_stderr() {
                200
            } else if e.use_stderr() {
                2
            } else {
                0
            };
            return code.into();
        }
    };
    root::step_down(&cli);
    let wal_get = matches!(cli.command, Command::Wal(WalCommand::Get { .. }));
    let runtime = if matches!(cli.command, Command::Wal(WalCommand::Push { .. } | WalCommand::Get { .. })) {
        // One per segment: start-up counts, and there is nothing to do in parallel but compression,
        // which has threads of its own.
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()
    };
    let result = match runtime {
        Ok(rt) => {
            let result = rt.block_on(async {
                // A handler costs a thread; the server's own commands are ended by a signal anyway.
                if !matches!(cli.command, Command::Wal(_)) {
                    tokio::spawn(on_interrupt(cli.json));
                }
                commands::run(&cli).await
            });
            rt.shutdown_background();
            result
        }
        Err(e) => Err(e.into()),
    };
    match result {
        Ok(code) => code.into(),
        Err(e) => {
            let (code, hint) = failure::judge(&e);
            if cli.json {
                output::json(&failure::as_json(&e));
            } else {
                let mut err = std::io::stderr().lock();
                let _ = writeln!(err, "error: {}", failure::text(&e));
                if let Some(h) = hint {
                    let _ = writeln!(err, "hint: {h}");
                }
            }
            if wal_get { 200.into() } else { (code as u8).into() }
        }
    }
}

/// The first Ctrl-C asks for a clean stop, the second one stops at once.
async fn on_interrupt(json: bool) {
    let wait = async || {
        let term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        match term {
            Ok(mut t) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = t.recv() => {}
                }
            }
            Err(_) => {
                let _ = tokio::signal::ctrl_c().await;
            }
        }
    };
    wait().await;
    progress::CANCELLED.store(true, Ordering::Relaxed);
    let text = "stopping; press Ctrl-C again to stop at once";
    let _ = match json {
        true => writeln!(std::io::stderr(), "{}", serde_json::json!({ "type": "info", "text": text })),
        false => writeln!(std::io::stderr(), "{text}"),
    };
    wait().await;
    #[allow(clippy::exit)]
    std::process::exit(ExitCode::Cancelled as i32);
}
