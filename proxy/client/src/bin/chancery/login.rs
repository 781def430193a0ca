//! `login` and `logout`: the token comes, is kept, and goes, and is never printed.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use chancery_client::login::{
    self, DeviceLogin, LoginError, LoginOptions, Prompt, StoredLogin, default_token_file, wall_clock,
};
use serde_json::{Value, json};

use crate::args::{self, Connection};
use crate::output::{Failure, Report, columns};

pub(crate) async fn login(asked: args::Login, connection: &Connection) -> Result<Report, Failure> {
    let file = token_file(connection)?;
    if asked.status {
        return status(&file);
    }
    let missing = |option: &str| Failure::usage(&format!("give {option}"));
    let options = LoginOptions {
        issuer: asked.issuer.ok_or_else(|| missing("--issuer"))?,
        client_id: asked.client_id.ok_or_else(|| missing("--client-id"))?,
        scope: asked.scope,
        audience: asked.audience,
        resource: asked.resource,
        ca_file: asked
            .issuer_ca
            .map(std::path::absolute)
            .transpose()
            .map_err(|error| Failure::usage(&error))?,
    };
    let login = DeviceLogin::start(options).await?;
    tell(login.prompt(), connection.json)?;
    let kept = login.wait(wall_clock).await?;
    kept.keep(&file)?;
    let text = format!("logged in\n{}", describe(&kept, &file));
    Ok(Report::done(text, json!({ "login": summary(&kept, &file) }).to_string()))
}

pub(crate) async fn logout(connection: &Connection) -> Result<Report, Failure> {
    let file = token_file(connection)?;
    let was = login::logout(&file).await?;
    let text = if was { "logged out" } else { "was not logged in" };
    Ok(Report::done(text.to_owned(), json!({ "loggedOut": was }).to_string()))
}

/// Says no with exit code 1 where the next command would ask for a login.
fn status(file: &Path) -> Result<Report, Failure> {
    let kept = match StoredLogin::read(file) {
        Ok(kept) => kept,
        Err(LoginError::NoLogin(_)) => {
            let json = json!({ "login": null }).to_string();
            return Ok(Report::done("not logged in".to_owned(), json).invalid());
        }
        Err(error) => return Err(error.into()),
    };
    let report = Report::done(describe(&kept, file), json!({ "login": summary(&kept, file) }).to_string());
    let usable = kept.is_valid(wall_clock()) || kept.is_refreshable();
    Ok(if usable { report } else { report.invalid() })
}

/// On standard error: standard output is for the result.
fn tell(prompt: &Prompt, as_json: bool) -> Result<(), Failure> {
    let text = if as_json {
        json!({ "prompt": {
            "verificationUri": prompt.verification_uri,
            "verificationUriComplete": prompt.verification_uri_complete,
            "userCode": prompt.user_code,
            "expiresInSeconds": prompt.expires_in,
        }})
        .to_string()
    } else {
        let page = prompt.verification_uri_complete.as_ref().unwrap_or(&prompt.verification_uri);
        format!("Open  {page}\nCode  {}\nTime  {} s", prompt.user_code, prompt.expires_in)
    };
    writeln!(std::io::stderr(), "{text}").map_err(|error| Failure::usage(&error))
}

fn describe(kept: &StoredLogin, file: &Path) -> String {
    let state = match (kept.is_valid(wall_clock()), kept.is_refreshable()) {
        (true, true) => "valid, renewed when it ends",
        (true, false) => "valid",
        (false, true) => "ended, renewed when it is used",
        (false, false) => "ENDED: log in again",
    };
    let (until, file) = (kept.expires_at.to_string(), file.display().to_string());
    columns(&[
        ("issuer", kept.issuer.as_str()),
        ("client", &kept.client_id),
        ("until", &until),
        ("token", state),
        ("file", &file),
    ])
}

fn summary(kept: &StoredLogin, file: &Path) -> Value {
    json!({
        "issuer": kept.issuer,
        "clientId": kept.client_id,
        "expiresAt": kept.expires_at,
        "valid": kept.is_valid(wall_clock()),
        "refreshable": kept.is_refreshable(),
        "tokenFile": file,
    })
}

/// Where the login is kept.
pub(crate) fn token_file(connection: &Connection) -> Result<PathBuf, Failure> {
    match &connection.token_file {
        Some(path) => Ok(path.clone()),
        None => Ok(default_token_file()?),
    }
}
