//! The canonical forms of existing writers, held against the engines they run on: 100,000 random JSON values, made
//! nasty on purpose, hashed by Node.js, by Python and by the verifier.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use chancery_format::Hash;
use chancery_verify::events::canonical::Mode;
use chancery_verify::events::json::Value;

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
fn hashes(mut program: Command, script: &str, input: &str) -> Vec<String> {
    program.arg(format!("{WRITERS}/{script}")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = program.spawn().unwrap();
    let mut standard_input = running.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || standard_input.write_all(input.as_bytes()).unwrap());
        running.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_hundred_thousand_values_have_the_hashes_that_node_and_python_give_them() {
    let mut random = Random(0x5eed_cafe_f00d_0001);
    let lines: Vec<String> = (0..VALUES)
        .map(|_| {
            let mut text = String::new();
            random.value(4, &mut text);
            text
        })
        .collect();
    let input = lines.join("\n") + "\n";
    let node = hashes(Command::new("node"), "forms.mjs", &input);
    let python = hashes(Command::new("python3"), "forms.py", &input);
    assert_eq!((node.len(), python.len()), (VALUES, VALUES));
    for ((line, node), python) in lines.iter().zip(&node).zip(&python) {
        let value = Value::parse(line).unwrap();
        let hash = |mode: Mode| Hash::of(&[&mode.write(&value).unwrap()]).to_hex();
        let (concatenated, rebuilt) = node.split_once(' ').unwrap();
        assert_eq!(hash(Mode::Jcs), concatenated, "{line}");
        assert_eq!(hash(Mode::JsRebuild), rebuilt, "{line}");
        assert_eq!(hash(Mode::PyDefault), *python, "{line}");
    }
}
