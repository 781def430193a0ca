//! `agent`: serves until SIGTERM or SIGINT.

use std::time::Duration;

use chancery_client::agent::{Agent, AgentError, Door};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::{AgentArgs, Connection};
use crate::commands::service_options;
use crate::output::{Failure, Report};

/// Opens the door, says where, and serves.
pub(crate) async fn run(asked: AgentArgs, connection: &Connection) -> Result<Report, Failure> {
    let door = match (asked.listen, asked.socket) {
        (Some(address), None) => Door::Loopback(address),
        (None, Some(path)) => Door::Socket(path),
        _ => return Err(Failure::usage(&"give --listen or --socket")),
    };
    let options = service_options(connection)?;
    let patience = Duration::from_millis(asked.patience_ms);
    let agent = Agent::open(&door, options, patience).await.map_err(|error| match error {
        AgentError::Door { .. } => Failure::unavailable(&error),
        error => Failure::usage(&error),
    })?;
    eprintln!("listening on {}", agent.door());
    let failed = |error: std::io::Error| Failure::unavailable(&error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    let mut serving = std::pin::pin!(agent.serve(stopped));
    tokio::select! {
        () = serving.as_mut() => return Ok(Report::silent()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send_replace(true);
    serving.await;
    Ok(Report::silent())
}
