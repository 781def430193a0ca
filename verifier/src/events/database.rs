//! A table's rows, read by PostgreSQL's own client program: this one links no database.
//!
//! `psql` copies the rows out as JSON, one after the other, in one statement and so in one snapshot. Everything of the
//! URL goes to it as it is, but the password: that goes by the environment, because everybody sees command lines.
//! Rows of a table have no order but what they say themselves, so none is made of them.

use std::io::{BufRead, BufReader, Read as _};
use std::process::{ChildStderr, Command, Stdio};

use super::rows::RowsError;
use super::window::Window;

/// Most that is kept of what `psql` complains about, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 16 << 10;
/// Longest wait for a connection, unless `PGCONNECT_TIMEOUT` says otherwise, in seconds.
const CONNECT_SECONDS: &str = "10";

/// Why a database gave no rows, or not all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// The URL is none of PostgreSQL. Whoever gave it is at fault.
    #[error("a database is named postgres://USER@HOST/DATABASE")]
    Url,
    /// The client program is not there, or does not start.
    #[error("psql, PostgreSQL's client program, cannot be started: {0}")]
    NoClient(String),
    /// The server is away or refuses; `psql`'s own words.
    #[error("psql: {0}")]
    Refused(String),
    /// The database has no such table.
    #[error("there is no table {0}")]
    NoTable(String),
    /// A window was asked for, and nothing says when a row was written.
    #[error("{0} has neither a column ts nor created_at, so it has no window")]
    NoTime(String),
}

/// A table.
#[derive(Clone)]
pub struct Database {
    url: String,
    password: Option<String>,
    table: String,
    window: Window,
}

/// The password is not shown, nor what else the URL may hold.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Database {
    /// The table (with its schema, if need be) in the database of that URL; of its rows, those of the window.
    pub fn new(url: &str, table: &str, window: Window) -> Result<Self, DatabaseError> {
        let (url, password) = split_password(url).ok_or(DatabaseError::Url)?;
        Ok(Self { url, password, table: table.to_owned(), window })
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.table
    }

    /// Gives the rows to `each`: a line for each, escaped as COPY does.
    pub(super) fn read(
        &self,
        mut each: impl FnMut(&mut dyn BufRead) -> Result<(), RowsError>,
    ) -> Result<(), RowsError> {
        let (table, time) = self.find()?;
        let query = self.query(&table, time)?;
        self.ask(&query, &mut each)
    }

    /// The table's name as SQL writes it, and which column says when.
    fn find(&self) -> Result<(String, Option<&'static str>), RowsError> {
        let table = literal(&self.table);
        let query = format!(
            "SELECT to_regclass({table})::text, (SELECT string_agg(attname::text, ' ') FROM pg_attribute \
             WHERE attrelid = to_regclass({table}) AND attnum > 0 AND NOT attisdropped)"
        );
        let mut answer = String::new();
        self.ask(&query, &mut |input| {
            input
                .read_to_string(&mut answer)
                .map_err(|source| RowsError::Io { name: "psql".into(), source })?;
            Ok(())
        })?;
        let (table, columns) = answer.trim().rsplit_once('|').unwrap_or_default();
        if table.is_empty() {
            return Err(DatabaseError::NoTable(self.table.clone()).into());
        }
        let has = |wanted: &&str| columns.split(' ').any(|column| column == *wanted);
        Ok((table.to_owned(), ["ts", "created_at"].into_iter().find(has)))
    }

    fn query(&self, table: &str, time: Option<&str>) -> Result<String, RowsError> {
        let copy = |rows: &str| format!("COPY (SELECT row_to_json(r) FROM {rows} r) TO STDOUT");
        let Window { from, to, limit } = self.window;
        let order = time.map(|time| format!(" ORDER BY {time}")).unwrap_or_default();
        if self.window.is_all() {
            return Ok(copy(&format!("(SELECT * FROM {table}{order})")));
        }
        let time = time.ok_or_else(|| DatabaseError::NoTime(self.table.clone()))?;
        // Columns hold microseconds: a bound's millisecond is meant as a whole.
        let bounds = [
            from.map(|from| format!("{time} >= '{from}'")),
            to.map(|to| format!("{time} < '{to}'::timestamptz + interval '1 millisecond'")),
        ];
        let bounds: Vec<String> = bounds.into_iter().flatten().collect();
        let bounds =
            if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) };
        let Some(limit) = limit else {
            return Ok(copy(&format!("(SELECT * FROM {table}{bounds}{order})")));
        };
        let last = format!("(SELECT * FROM {table}{bounds} ORDER BY {time} DESC LIMIT {limit})");
        Ok(copy(&format!("(SELECT * FROM {last} l{order})")))
    }

    /// Runs one statement. What it prints goes to `each`; how it ended is looked at before anything is believed.
    fn ask(
        &self,
        query: &str,
        each: &mut dyn FnMut(&mut dyn BufRead) -> Result<(), RowsError>,
    ) -> Result<(), RowsError> {
        let no_client = |error: std::io::Error| DatabaseError::NoClient(error.to_string());
        let mut child = self.client(query).spawn().map_err(no_client)?;
        let complaints = child.stderr.take();
        let output = child.stdout.take();
        std::thread::scope(|scope| {
            let complaints = scope.spawn(move || complaints.map(listen).unwrap_or_default());
            let read = match output {
                Some(output) => each(&mut BufReader::with_capacity(1 << 18, output)),
                None => Ok(()),
            };
            if read.is_err() {
                // Nobody reads on; the reason is told whether or not it could be ended.
                drop(child.kill());
            }
            let ended = child.wait().map_err(no_client)?;
            let complaint = complaints.join().unwrap_or_default();
            read?;
            if ended.success() {
                return Ok(());
            }
            let complaint = complaint.trim();
            let reason = if complaint.is_empty() { ended.to_string() } else { complaint.to_owned() };
            Err(DatabaseError::Refused(reason).into())
        })
    }

    fn client(&self, query: &str) -> Command {
        let mut client = Command::new("psql");
        client.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-c", query, "-d", &self.url]);
        client.env("PGTZ", "UTC").env("PGCLIENTENCODING", "UTF8").env("PGAPPNAME", "chancery-verify");
        if std::env::var_os("PGCONNECT_TIMEOUT").is_none() {
            client.env("PGCONNECT_TIMEOUT", CONNECT_SECONDS);
        }
        if let Some(password) = &self.password {
            client.env("PGPASSWORD", password);
        }
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        client
    }
}

/// All of it is read, so that the program does not wait; the beginning is kept.
fn listen(mut complaints: ChildStderr) -> String {
    let mut kept = Vec::new();
    // What cannot be read cannot be told.
    drop(complaints.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut kept));
    drop(std::io::copy(&mut complaints, &mut std::io::sink()));
    String::from_utf8_lossy(&kept).into_owned()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The URL without its password, and the password.
fn split_password(url: &str) -> Option<(String, Option<String>)> {
    let (scheme, rest) = url.split_once("://")?;
    if !["postgres", "postgresql"].contains(&scheme) {
        return None;
    }
    let (server, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (server, mut password) = match server.rsplit_once('@') {
        None => (server.to_owned(), None),
        Some((user, hosts)) => {
            let (user, password) = user.split_once(':').map_or((user, None), |(user, it)| (user, Some(it)));
            (format!("{user}@{hosts}"), password)
        }
    };
    let mut path = path.to_owned();
    if let Some((before, query)) = path.clone().split_once('?') {
        let kept = query.split('&').filter(|option| !option.starts_with("password="));
        path = format!("{before}?{}", kept.collect::<Vec<_>>().join("&"));
        let given = query.split('&').find_map(|option| option.strip_prefix("password="));
        let given = given.map(percent_decoded);
        let password = given.or_else(|| password.take().map(percent_decoded));
        return Some((format!("{scheme}://{server}{path}"), password));
    }
    Some((format!("{scheme}://{server}{path}"), password.map(percent_decoded)))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let decoded = (*first == b'%')
            .then(|| u8::from_str_radix(std::str::from_utf8(after.get(..2)?).ok()?, 16).ok())
            .flatten();
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Undoes COPY's escapes in what stands behind `from`.
pub(super) fn unescape(text: &mut Vec<u8>, from: usize) {
    let Some(row) = text.get(from..).filter(|row| row.contains(&b'\\')) else { return };
    let mut plain = Vec::with_capacity(row.len());
    let mut bytes = row.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            (_, true) => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
        });
    }
    text.truncate(from);
    text.extend_from_slice(&plain);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn passwords_leave_the_url_wherever_they_stand() {
        for (url, without, password) in [
            ("postgres://me@host/db", "postgres://me@host/db", None),
            ("postgres://me:p%40ss at host:5433/db", "postgres://me@host:5433/db", Some("p@ss")),
            (
                "postgresql://me:a:b at h1,h2/db?sslmode=require",
                "postgresql://me@h1,h2/db?sslmode=require",
                Some("a:b"),
            ),
            ("postgres://host/db?user=me&password=x%20y&x=1", "postgres://host/db?user=me&x=1", Some("x y")),
            ("postgres:///db", "postgres:///db", None),
            ("postgres://me:100% at host", "postgres://me@host", Some("100%")),
        ] {
            let found = split_password(&url.replace(" at ", "@")).unwrap();
            assert_eq!((found.0.as_str(), found.1.as_deref()), (without, password), "{url}");
        }
        for url in ["", "mysql://host/db", "host/db", "postgres:/host"] {
            assert_eq!(Database::new(url, "t", Window::default()).unwrap_err(), DatabaseError::Url, "{url}");
        }
        let shown = format!(
            "{:?}",
            Database::new(&"postgres://me:secret at host/db".replace(" at ", "@"), "t", Window::default())
        );
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn copy_escapes_are_undone() {
        let mut text = b"kept\\n{\"a\":\"\\\\n\\\\u0041\",\\n\\t\"b\":1}\\".to_vec();
        unescape(&mut text, 6);
        assert_eq!(String::from_utf8(text).unwrap(), "kept\\n{\"a\":\"\\n\\u0041\",\n\t\"b\":1}\\");
    }
}
