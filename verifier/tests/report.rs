//! The auditor's report: its counts against a plain count over the leaves, what it says of bad ledgers, that no name is
//! markup, its size, and how it becomes a file; and `explain`.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

#[path = "support/folder.rs"]
mod folder;
mod support;

use std::collections::BTreeMap;

use chancery_format::entry::{self, BirthRecord};
use chancery_format::merkle::{leaf_hash, node_hash};
use chancery_format::{Hash, SignatureAlgorithm};
use chancery_verify::html::{self, BYTES_MAX, Setting};
use chancery_verify::ledger::{self, Options, Told};
use chancery_verify::progress::Silent;
use chancery_verify::{Report, Trust, explain};
use folder::Folder;
use serde_json::{Value, json};
use support::{Archive, Writer, draft, long, small};

fn setting() -> Setting {
    Setting {
        archive: "./archive".to_owned(),
        signers: "signers.json".to_owned(),
        since: None,
        strict: false,
        began: "2026-11-22T06:00:00.000Z".parse().unwrap(),
        took_ms: 1_234,
    }
}

struct Made {
    report: Report,
    told: Told,
    html: String,
    counts: Value,
}

fn make(archive: &Archive, threads: usize) -> Made {
    let trust = Trust::parse(&archive.signers).unwrap();
    let options = Options { threads: Some(threads), ..Options::default() };
    let (report, told) = ledger::survey(archive, &trust, &options, &mut Silent);
    let html = html::render(&report, &told, &trust, &setting());
    let counts = told.survey.to_json(&trust);
    check_links(&html);
    Made { report, told, html, counts }
}

/// Every link within the report leads somewhere, and no anchor is there twice.
#[track_caller]
fn check_links(html: &str) {
    let values = |before: &str| -> Vec<String> {
        let parts = html.split(before).skip(1);
        parts.map(|rest| rest.split(['"', ' ', '>']).next().unwrap().to_owned()).collect()
    };
    let mut anchors = values(" id=\"");
    anchors.extend(values(" id=").into_iter().filter(|id| !id.is_empty()));
    let links = values("href=\"#");
    assert!(!links.is_empty());
    for link in links {
        assert!(anchors.contains(&link), "#{link} leads nowhere");
    }
    let count = anchors.len();
    anchors.sort();
    anchors.dedup();
    assert_eq!(anchors.len(), count, "an anchor is there twice");
}

/// What a report must count, counted the simple way: over the leaves, one after the other.
#[derive(Default)]
struct Plain {
    types: BTreeMap<String, u64>,
    streams: BTreeMap<String, u64>,
    purposes: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
    refusals: BTreeMap<String, u64>,
    verified: BTreeMap<String, u64>,
    recorded: BTreeMap<String, u64>,
    by_actor: BTreeMap<String, u64>,
}

fn plainly(leaves: &[Vec<u8>], not_counted: &[u64]) -> Plain {
    let mut plain = Plain::default();
    for (index, leaf) in (0..).zip(leaves) {
        let event: Value = serde_json::from_slice(leaf).unwrap();
        let (payload, name) = (&event["payload"], |value: &Value| value.as_str().unwrap().to_owned());
        *plain.types.entry(name(&event["eventType"])).or_default() += 1;
        *plain.streams.entry(name(&event["stream"])).or_default() += 1;
        *plain.by_actor.entry(name(&event["actor"])).or_default() += 1;
        match event["eventType"].as_str().unwrap() {
            "signing.signature.issued" if !not_counted.contains(&index) => {
                let is_mac = payload["operation"] == "mac";
                let keys = if is_mac { &mut plain.recorded } else { &mut plain.verified };
                *keys.entry(name(&payload["signer_kid"])).or_default() += 1;
                *plain.purposes.entry(name(&payload["purpose"])).or_default() += 1;
            }
            "signing.signature.failed" | "signing.signature.abandoned" => {
                *plain.failures.entry(name(&payload["code"])).or_default() += 1;
            }
            "request.refused" => {
                *plain.refusals.entry(name(&payload["code"])).or_default() +=
                    payload["count"].as_u64().unwrap();
            }
            _ => {}
        }
    }
    plain
}

#[track_caller]
fn compare(counts: &Value, leaves: &[Vec<u8>], not_counted: &[u64]) {
    let plain = plainly(leaves, not_counted);
    assert_eq!(counts["entries"], leaves.len());
    assert_eq!(counts["eventTypes"], json!(plain.types));
    assert_eq!(counts["streams"], json!(plain.streams));
    assert_eq!(counts["purposes"], json!(plain.purposes));
    assert_eq!(counts["failures"], json!(plain.failures));
    assert_eq!(counts["refusals"], json!(plain.refusals));
    let of_keys = |what: &str| -> BTreeMap<String, u64> {
        let keys = counts["keys"].as_object().unwrap().iter();
        keys.map(|(name, it)| (name.clone(), it[what].as_u64().unwrap())).filter(|(_, n)| *n > 0).collect()
    };
    assert_eq!((of_keys("verified"), of_keys("recorded")), (plain.verified.clone(), plain.recorded.clone()));
    let actors = counts["actors"].as_object().unwrap();
    let entries: BTreeMap<_, _> =
        actors.iter().map(|(name, it)| (name.clone(), it["entries"].as_u64().unwrap())).collect();
    assert_eq!(entries, plain.by_actor);
    let total: u64 = plain.verified.values().chain(plain.recorded.values()).sum();
    let over_time = counts["signaturesOverTime"]["counts"].as_array().unwrap();
    assert_eq!(over_time.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), total);
}

/// A ledger of everything, in an order nobody chose.
fn any(seed: u64, entries: u64) -> Writer {
    let mut writer = small();
    let mut state = seed;
    let mut any = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % limit
    };
    let actors = ["spiffe://a.example/one", "spiffe://a.example/two", "three"];
    while writer.next_index() < entries {
        let stream = format!("stream/{}", any(5));
        match any(12) {
            0..4 => writer.sign("orders-v2", &stream, &any(1_000).to_be_bytes()),
            4 => writer.sign("invoices-p256-v1", &stream, b"p"),
            5 => writer.sign("hooks-hmac-v1", &stream, b"m"),
            6 => writer.fail("legacy-rsa-v1", &stream),
            7 => writer.abandon("orders-v2", &stream),
            8 => writer.refuse(),
            9 => writer.anchor("orders"),
            _ => writer.add(&draft("order.paid", actors[any(3) as usize], &stream, "{}")),
        };
        writer.clock_ms += any(40_000) as i64;
        if any(97) == 0 {
            writer.epoch();
        }
    }
    writer.epoch();
    writer
}

#[test]
fn the_counts_are_those_of_a_plain_count_over_the_leaves() {
    for (seed, threads) in [(1, 1), (2, 4), (3, 2)] {
        let writer = any(seed, 900);
        let made = make(&writer.archive(), threads);
        assert_eq!(made.report.exit_code(), 0, "{}", made.report.to_text());
        compare(&made.counts, &writer.leaves, &[]);
        assert_eq!(made.counts["verifiedUntil"], 900);
        assert_eq!(made.report.checked()["entries"], 900);
        let verified: u64 = made.counts["keys"]
            .as_object()
            .unwrap()
            .values()
            .map(|it| it["verified"].as_u64().unwrap())
            .sum();
        assert_eq!(made.report.checked()["signatures"], verified);
        assert!(made.html.contains("<strong>Valid</strong>"));
        assert!(made.html.contains(&writer.head().root.to_hex()));
        assert!(made.html.contains(&Hash::of(&[&writer.archive().signers]).to_hex()));
    }
}

#[test]
fn only_what_a_signed_root_covers_is_counted_where_entries_are_bad() {
    let sizes = [300, 600, 900];
    let writer = long(1_100, &sizes);
    // A byte of entry 700: neither the root at 900 nor any later one follows from the entries.
    let mut archive = writer.archive();
    let bundle = archive.files.get_mut("tile/entries/002").unwrap();
    let at = bundle.windows(11).skip(80_000).position(|it| it == b"\"order.paid").unwrap() + 80_000 + 3;
    bundle[at] ^= 1;
    let made = make(&archive, 2);
    assert_eq!(made.report.exit_code(), 1);
    assert!(made.html.contains("<strong>Not valid</strong>"));
    let until = made.counts["verifiedUntil"].as_u64().unwrap();
    assert_eq!(until, 600);
    compare(&made.counts, &writer.leaves[..600], &[]);
    let findings = made.html.find("id=findings").unwrap();
    assert!(findings < made.html.find("id=figures").unwrap());
    assert!(made.html.contains("Verification reached entry 599"), "says how far");

    // A bundle that is gone, while its hashes are there: the roots hold, what was in it is not known.
    let mut archive = writer.archive();
    archive.files.remove("tile/entries/001");
    archive.files.remove("tile/entries/001.p/44");
    let made = make(&archive, 2);
    assert_eq!(made.report.exit_code(), 3, "{}", made.report.to_text());
    assert!(made.html.contains("<strong>Undecided</strong>"));
    assert_eq!(made.counts["verifiedUntil"], 256);
    compare(&made.counts, &writer.leaves[..256], &[]);

    // No checkpoint, and no archive at all.
    let mut archive = writer.archive();
    archive.files.retain(|name, _| !name.starts_with("checkpoint/"));
    let made = make(&archive, 1);
    assert_eq!((made.report.exit_code(), &made.counts["entries"]), (3, &json!(0)));
    assert!(made.html.contains("No entry is verified"));
    let nothing = make(&Archive { signers: archive.signers.clone(), ..Archive::default() }, 1);
    assert_eq!(nothing.report.exit_code(), 3);
}

#[test]
fn a_signature_that_does_not_verify_is_taken_back_everywhere() {
    let mut writer = any(5, 400);
    let mut bad = Vec::new();
    for (key, n) in [("orders-v2", 0u8), ("invoices-p256-v1", 1), ("orders-v2", 2)] {
        let other = writer.key(key).sign_message(&[n, n]);
        bad.push(writer.issue(key, "orders", &[n], other));
        writer.sign(key, "orders", &[n]);
    }
    writer.epoch();
    let made = make(&writer.archive(), 2);
    assert_eq!(made.report.findings().bad(), 3, "{}", made.report.to_text());
    compare(&made.counts, &writer.leaves, &bad);
    assert_eq!(made.counts["notCounted"]["signatures"], 3);
    for index in bad {
        assert!(made.html.contains(&format!("<article id=\"entry-{index}\">")));
        assert!(made.html.contains(&format!("href=\"#entry-{index}\"")));
    }
}

#[test]
fn an_entry_that_something_is_wrong_with_is_told_and_not_counted() {
    let mut writer = any(7, 300);
    let late = writer.sign("orders-v1", "orders", b"after it was retired");
    writer.epoch();
    let made = make(&writer.archive(), 2);
    assert_eq!(made.report.exit_code(), 1);
    assert_eq!(made.counts["entries"], late);
    compare(&made.counts, &writer.leaves[..late as usize], &[]);
    assert!(made.html.contains("<b class=error>not verified</b>"));
}

#[test]
fn nothing_on_a_ledger_is_markup() {
    let hostile = "<script>alert('x')</script><img/src=x&onerror=y>";
    let mut writer = small();
    let payload = r#"{"a":"</pre></style><script>alert(1)</script>","b":"\u0000 \u202e"}"#;
    writer.add(&draft(hostile, hostile, hostile, payload));
    let mut refused = entry::request_refused(
        "kid-not-granted",
        Some(&hostile.parse().unwrap()),
        7,
        "2026-11-21T00:00:00.000Z".parse().unwrap(),
        "2026-11-21T00:00:00.000Z".parse().unwrap(),
    );
    refused.payload = support::payload(
        r#"{"code":"</td><script>","count":2,"firstTs":"</pre><script>","lastTs":"","principal":"<script>"}"#,
    );
    writer.add(&refused);
    writer.next_birth = Some(BirthRecord { device: Some("<script>".to_owned()), ..BirthRecord::default() });
    writer.activate("extra", "extra-v1", SignatureAlgorithm::Ed25519);
    writer.epoch();
    let mut archive = writer.archive();
    archive.files.insert("<script>alert(2)</script>".to_owned(), Vec::new());
    let made = make(&archive, 1);
    assert_eq!(made.report.exit_code(), 1);
    for forbidden in ["<script", "<img", "</td><script", "</pre></style", "\u{202e}", "\u{0}"] {
        assert!(!made.html.contains(forbidden), "{forbidden:?}");
    }
    assert!(
        made.html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;img/src=x&amp;onerror=y&gt;")
    );
    assert!(made.html.contains("default-src 'none'"));
    assert!(!made.html.contains(" style="), "a style that the policy forbids");
    assert_eq!(made.counts["refusals"]["</td><script>"], 2);
}

#[test]
fn whatever_the_ledger_holds_the_report_is_small_enough() {
    let mut writer = Writer::open();
    for number in 0..400 {
        let kid = format!("key-{number}-{}", "k".repeat(40));
        writer.activate(&kid, &format!("{kid}-v1"), SignatureAlgorithm::Ed25519);
    }
    let long_name = |number: u64| format!("{number}{}", "<".repeat(250));
    for number in 0..24_000 {
        let name = long_name(number);
        writer.add(&draft(&name[..120], &name, &name, "{}"));
        if number % 8 == 0 {
            writer.fail(&format!("key-{}-{}-v1", number % 400, "k".repeat(40)), "orders");
            writer.refuse();
        }
    }
    writer.epoch();
    let mut archive = writer.archive();
    for number in 0..1_500 {
        archive.files.insert(format!("{}{number}", "<".repeat(200)), Vec::new());
    }
    let made = make(&archive, 2);
    assert_eq!(made.report.findings().bad(), 1_500);
    assert!(made.html.len() < BYTES_MAX, "{} bytes", made.html.len());
    assert_eq!(made.counts["entries"], writer.next_index());
    assert_eq!(made.counts["actors"].as_object().unwrap().len(), 40);
    assert!(made.html.contains("more together"), "the rest is summed");
    drop(made.told);
}

#[test]
fn explain_leads_every_entry_to_the_signed_root() {
    let writer = long(700, &[5, 256, 300]);
    let archive = writer.archive();
    let trust = Trust::parse(&archive.signers).unwrap();
    for index in (0..700).filter(|index| index % 13 == 0 || *index > 690) {
        let report = explain::entry(&archive, index, &trust);
        assert_eq!(report.exit_code(), 0, "{index}: {}", report.to_text());
        let told = report.checked();
        assert_eq!(told["root"], writer.head().root.to_hex());
        let mut node = leaf_hash(&writer.leaves[index as usize]);
        assert_eq!(told["leafHash"], node.to_hex());
        for step in told["path"].as_array().unwrap() {
            let sibling = Hash::from_hex(step["sibling"].as_str().unwrap()).unwrap();
            let left = step["side"] == "left";
            node = if left { node_hash(&sibling, &node) } else { node_hash(&node, &sibling) };
            assert_eq!(step["result"], node.to_hex());
            let (beside, under) = (&step["siblingEntries"], &step["resultEntries"]);
            assert_eq!(
                beside[if left { "from" } else { "until" }],
                under[if left { "from" } else { "until" }]
            );
        }
        assert_eq!(node, writer.head().root);
        assert_eq!(
            told["event"]["seq"],
            serde_json::from_slice::<Value>(&writer.leaves[index as usize]).unwrap()["seq"]
        );
    }
    assert_eq!(explain::entry(&archive, 700, &trust).exit_code(), 3);

    let mut damaged = archive.clone();
    damaged.files.get_mut("tile/entries/001").unwrap()[40] ^= 1;
    assert_eq!(explain::entry(&damaged, 256, &trust).exit_code(), 1);
    assert_eq!(explain::entry(&damaged, 600, &trust).exit_code(), 0, "its own path is whole");
    damaged.files.remove("tile/entries/001");
    assert_eq!(explain::entry(&damaged, 256, &trust).exit_code(), 0, "a tail bundle holds it too");
    assert_eq!(explain::entry(&damaged, 300, &trust).exit_code(), 3, "that bundle ends before it");
    damaged.files.remove("tile/entries/001.p/44");
    assert_eq!(explain::entry(&damaged, 256, &trust).exit_code(), 3);
}

#[test]
fn a_receipt_explains_its_own_entry() {
    let writer = small();
    let trust = Trust::parse(&writer.registry_json()).unwrap();
    let json = writer.receipt(5).to_json().unwrap();
    let report = explain::receipt(json.as_bytes(), &trust);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    let text = report.to_text();
    for said in [
        "signing.signature.issued",
        "\"kid\": \"orders\"",
        "from the entry to the signed root",
        "signed by ledger-v1",
    ] {
        assert!(text.contains(said), "no {said:?} in\n{text}");
    }
    let forged = json.replace("\"kid\":\"orders\"", "\"kid\":\"others\"");
    assert_eq!(explain::receipt(forged.as_bytes(), &trust).exit_code(), 1);
}

#[test]
fn the_program_writes_the_report_and_keeps_its_exit_codes() {
    let writer = small();
    let folder = Folder::new(&writer.archive());
    std::fs::write(folder.path("receipt.json"), writer.receipt(5).to_json().unwrap()).unwrap();
    let run = |code: i32, arguments: &[&str]| {
        folder.expect(code, &[arguments, &["--signers", "signers.json"]].concat())
    };
    let read = || std::fs::read_to_string(folder.path("report.html")).unwrap();
    let told: Value =
        serde_json::from_str(&run(0, &["ledger", "archive", "--report", "report.html", "--json"])).unwrap();
    assert_eq!(told["checked"]["survey"]["entries"], writer.next_index());
    let first = read();
    assert!(first.starts_with("<!doctype html>") && first.ends_with("</html>\n"));
    assert!(run(0, &["explain", "archive", "5"]).contains("from the entry to the signed root"));
    assert!(run(0, &["explain", "receipt.json", "--json"]).contains("\"leafHash\""));
    assert!(run(0, &["explain", "--help"]).contains("Example"));
    run(2, &["explain", "archive"]);
    run(2, &["explain", "receipt.json", "5"]);
    run(3, &["explain", "archive", "99"]);
    run(2, &["ledger", "archive", "--report", "archive"]);
    run(2, &["ledger", "archive", "--report", "nowhere/report.html"]);
    assert_eq!(read(), first, "what was not asked for is not touched");

    std::fs::write(folder.path("archive/junk"), "").unwrap();
    run(1, &["ledger", "archive", "--report", "report.html"]);
    assert!(read().contains("<strong>Not valid</strong>"));
    let left: Vec<_> =
        std::fs::read_dir(folder.path("")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}
