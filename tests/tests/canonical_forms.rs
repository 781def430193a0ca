//! The canonical forms of existing writers, held against the engines they run on: 100,000 random JSON values, made
//! nasty on purpose, hashed by Node.js, by Python, by Go, written by jq, and by the verifier.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use chancery_format::Hash;
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::json::Value;

const VALUES: usize = 100_000;
const WRITERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/writers");

/// xorshift64*: the same values in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    /// JSON text of a value, never deeper than `depth`.
    fn value(&mut self, depth: u64, out: &mut String) {
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0 => out.push_str(self.pick(&["null", "true", "false"])),
            1 | 2 => self.number(out),
            3..=5 => self.text(out),
            6 | 7 => {
                out.push('[');
                for position in 0..self.below(4) {
                    out.push_str(if position > 0 { ", " } else { "" });
                    self.value(depth - 1, out);
                }
                out.push(']');
            }
            _ => {
                out.push('{');
                for position in 0..self.below(6) {
                    out.push_str(if position > 0 { " , " } else { "" });
                    self.text(out);
                    out.push_str(": ");
                    self.value(depth - 1, out);
                }
                out.push('}');
            }
        }
    }

    fn number(&mut self, out: &mut String) {
        let digits = self.below(1 << 31);
        let text = match self.below(8) {
            0 => self
                .pick(&["0", "-0", "1.0", "-0.0", "1e21", "1e-7", "5e-324", "1.7976931348623157e308"])
                .to_owned(),
            1 => format!("{digits}"),
            2 => format!("-{digits}{:05}", self.below(100_000)),
            3 => format!("{digits}.{}", self.below(1_000_000)),
            4 => format!("{digits}{digits}{digits}"),
            5 => format!("0.{:09}{digits}", self.below(1_000)),
            6 => format!("{}.{digits}e{}", self.below(10), self.below(300)),
            _ => format!("-{}.{digits}E-{}", self.below(10), self.below(320)),
        };
        out.push_str(&text);
    }

    fn text(&mut self, out: &mut String) {
        const PARTS: [&str; 24] = [
            "a",
            "b",
            "10",
            "9",
            "1",
            "0",
            "4294967294",
            "4294967295",
            "01",
            "é",
            "\u{fb33}",
            "😀",
            "\u{80}",
            "\u{7f}",
            "<&>",
            "\\u2028",
            "\u{2029}",
            "\\n",
            "\\\"",
            "\\\\",
            "\\u0007",
            "\\ud83d\\ude00",
            "\\b\\f",
            "/\\/",
        ];
        out.push('"');
        for _ in 0..self.below(3) {
            out.push_str(self.pick(&PARTS));
        }
        out.push('"');
    }
}

/// What a program prints for these lines, a line for each.
fn answers(mut program: Command, input: &str) -> Vec<String> {
    let mut running = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut standard_input = running.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || standard_input.write_all(input.as_bytes()).unwrap());
        running.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program:?}");
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), input.lines().count(), "{program:?}");
    lines
}

fn script(program: &str, script: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(format!("{WRITERS}/{script}"));
    command
}

/// The first words a program says of its version.
fn version(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn values() -> Vec<String> {
    let mut random = Random(0x5eed_cafe_f00d_0001);
    let value = |_| {
        let mut text = String::new();
        random.value(4, &mut text);
        text
    };
    (0..VALUES).map(value).collect()
}

fn write(mode: Mode, line: &str) -> Vec<u8> {
    mode.write(&Value::parse(line).unwrap()).unwrap()
}

fn hash(mode: Mode, line: &str) -> String {
    Hash::of(&[&write(mode, line)]).to_hex()
}

#[test]
fn a_hundred_thousand_values_have_the_hashes_that_node_and_python_give_them() {
    let lines = values();
    let input = lines.join("\n") + "\n";
    let node = answers(script("node", "forms.mjs"), &input);
    let python = answers(script("python3", "forms.py"), &input);
    for ((line, node), python) in lines.iter().zip(&node).zip(&python) {
        let (concatenated, rebuilt) = node.split_once(' ').unwrap();
        assert_eq!(hash(Mode::Jcs, line), concatenated, "{line}");
        assert_eq!(hash(Mode::JsRebuild, line), rebuilt, "{line}");
        assert_eq!(hash(Mode::PyDefault, line), *python, "{line}");
    }
}

/// Since 1.22 Go writes two control characters shorter; each form is held against the Go that is here.
#[test]
fn a_hundred_thousand_values_have_the_hashes_that_go_gives_them() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("forms");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(format!("{WRITERS}/forms.go"));
    let cache = chancery_tests::servers::cache_dir().join("go/build");
    build.env("GOCACHE", cache).env("GOTOOLCHAIN", "local").env("GOFLAGS", "-buildvcs=false");
    assert!(build.status().unwrap().success());
    let version = version("go", "version");
    let minor = version.split("go1.").nth(1).unwrap().split(['.', ' ', 'r', 'b']).next().unwrap();
    let [html, text, raw] = match minor.parse::<u32>().unwrap() {
        ..22 => [Mode::GoHtmlOld, Mode::GoHtmlTextOld, Mode::GoRawOld],
        _ => [Mode::GoHtml, Mode::GoHtmlText, Mode::GoRaw],
    };
    let lines = values();
    let go = answers(Command::new(&program), &(lines.join("\n") + "\n"));
    for (line, go) in lines.iter().zip(&go) {
        let ours = [html, text, raw].map(|mode| hash(mode, line)).join(" ");
        assert_eq!(ours, *go, "{line}");
    }
}

fn has_number(value: &Value<'_>) -> bool {
    match value {
        Value::Number(_) => true,
        Value::Array(items) => items.iter().any(has_number),
        Value::Object(members) => members.iter().any(|(_, value)| has_number(value)),
        _ => false,
    }
}

/// Later versions than 1.6 write other numbers, so theirs are held against values without any.
#[test]
fn a_hundred_thousand_values_are_written_as_jq_writes_them() {
    let is_16 = version("jq", "--version").starts_with("jq-1.6");
    let suits = |line: &String| is_16 || !has_number(&Value::parse(line).unwrap());
    let lines: Vec<String> = values().into_iter().filter(suits).collect();
    assert!(lines.len() > VALUES / 10);
    let mut jq = Command::new("jq");
    jq.args(["-cS", "."]);
    let written = answers(jq, &(lines.join("\n") + "\n"));
    for (line, jq) in lines.iter().zip(&written) {
        assert_eq!(String::from_utf8(write(Mode::Jq16, line)).unwrap(), *jq, "{line}");
    }
}
