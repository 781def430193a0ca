//! Where rows come from: every kind of file, packed or not, a folder, an archive, and part of any of them.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use chancery_tests::servers::ObjectStore;
use serde_json::{Value, json};

use crate::export::{DIALECTS, Export, ROWS, kinds, message, report_of};

#[test]
fn the_same_rows_in_every_kind_of_file_have_the_same_verdict() {
    for dialect in DIALECTS {
        let export = Export::of(dialect);
        let (report, code) = export.report("rows.ndjson", &[]);
        assert_eq!(code, 0, "{dialect}");
        let lines = export.read("rows.ndjson");
        let array = format!("[{}]", lines.trim().replace('\n', ",\n"));
        export.write("rows.json", &array);
        for (at, list) in ["events", "rows", "audit_events", "records", "entries"].iter().enumerate() {
            let end = if at % 2 == 0 { "\n" } else { "" };
            let object = format!("{{\"exportedAt\":\"2026-01-16\",\"count\":12,{end}\"{list}\":{array}}}\n");
            export.write(&format!("{list}.json"), object.replace(",\n", ","));
        }
        let pretty: Value = serde_json::from_str(&format!("{{\"events\":{array}}}")).unwrap();
        // Numbers that lose their text when written anew would be other rows.
        if dialect != "kernel-go" {
            export.write("pretty.json", serde_json::to_string_pretty(&pretty).unwrap());
        } else {
            export.write("pretty.json", format!("{{\n \"events\": {array}\n}}"));
        }
        export.write("rows.jsonl", format!("\u{feff}{}\n\n", lines.replace('\n', "\r\n\n")));
        let files = ["rows.json", "events.json", "rows.jsonl", "rows.ndjson", "pretty.json"];
        for file in files.into_iter().chain(["audit_events.json", "records.json", "entries.json"]) {
            export.pack(file);
            for file in [file.to_owned(), format!("{file}.gz")] {
                let (again, code) = export.report(&file, &[]);
                assert_eq!((code, &again["checked"]), (0, &report["checked"]), "{dialect} {file}");
            }
        }
        // Several files are one export, in their order.
        let (first, second) = lines.split_at(lines.match_indices('\n').nth(5).unwrap().0 + 1);
        export.write("first.ndjson", first);
        export.write("second.ndjson", second);
        let [first, second] = ["first.ndjson", "second.ndjson"].map(|name| export.path(name));
        let (again, code) = report_of(export.command().args([&first, &second]));
        assert_eq!((code, &again["checked"]["heads"]), (0, &report["checked"]["heads"]), "{dialect}");
        let (again, code) = report_of(export.command().args([&second, &first]));
        assert_eq!((kinds(&again, "error"), code), (vec!["chain-broken".to_owned()], 1), "{dialect}");
    }
}

#[test]
fn a_packed_file_that_is_cut_off_is_no_evidence() {
    let export = Export::of("shared");
    export.pack("rows.ndjson");
    let packed = std::fs::read(export.path("rows.ndjson.gz")).unwrap();
    export.write("half.ndjson.gz", &packed[..packed.len() / 2]);
    assert_eq!(export.report("half.ndjson.gz", &[]).1, 3);
}

/// The Go kernel keeps a file for each event, named by ids that say nothing of their order.
#[test]
fn a_folder_of_the_go_file_store_is_a_chain_with_its_head() {
    let export = Export::of("kernel-go");
    let folder = export.path("archive");
    std::fs::create_dir(&folder).unwrap();
    let lines = export.read("rows.ndjson");
    for (at, line) in lines.lines().enumerate() {
        export.write(&format!("archive/audit_{:02}-{at}.json", (at * 7) % 12), line);
    }
    export.write("archive/manifest_signature_1.json", "{\"id\":\"m\"}");
    let head = export.rows[ROWS - 1]["hash"].as_str().unwrap();
    export.write("archive/head.hash", format!("{head}\n"));
    let (report, code) = export.report("archive", &[]);
    assert_eq!((code, &report["checked"]["rows"]), (0, &json!(ROWS)), "{report:#}");
    assert_eq!(report["checked"]["heads"], json!([head]));
    let last = folder.join(format!("audit_{:02}-11.json", (11 * 7) % 12));
    let event = std::fs::read(&last).unwrap();
    std::fs::remove_file(&last).unwrap();
    let (report, code) = export.report("archive", &[]);
    assert_eq!((kinds(&report, "error"), code), (vec!["truncated".to_owned()], 1));
    std::fs::write(&last, event).unwrap();
    std::fs::remove_file(folder.join(format!("audit_{:02}-4.json", (4 * 7) % 12))).unwrap();
    assert_eq!(kinds(&export.report("archive", &[]).0, "error"), ["gap"]);
    export.write("archive/head.hash", "no hash");
    assert_eq!(export.report("archive", &[]).1, 3);
}

#[test]
fn the_head_beside_an_export_of_the_kernel_is_pinned() {
    let export = Export::of("kernel");
    let lines = export.read("rows.ndjson");
    export.write("audit_export_1.jsonl", &lines);
    export.pack("audit_export_1.jsonl");
    let last = &export.rows[ROWS - 1];
    let head = json!({
        "headHash": last["hash"], "headSignature": last["signature"], "signerId": last["signer_id"],
        "ts": last["ts"], "eventType": last["event_type"],
    });
    let files = ["audit_export_1.jsonl", "audit_export_1.jsonl.gz"];
    export.write("audit_export_1.head.json", head.to_string());
    for file in files {
        assert_eq!(export.report(file, &[]).1, 0, "{file}");
    }
    let cut = lines.trim_end().rsplit_once('\n').unwrap().0;
    export.write("audit_export_1.jsonl", cut);
    export.pack("audit_export_1.jsonl");
    for file in files {
        let (report, code) = export.report(file, &[]);
        assert_eq!((kinds(&report, "error"), code), (vec!["truncated".to_owned()], 1), "{file}");
    }
    for wrong in ["{}", "{\"headHash\":\"abc\"}", "no JSON"] {
        export.write("audit_export_1.head.json", wrong);
        assert_eq!(export.report(files[0], &[]).1, 3, "{wrong}");
    }
    export.write("audit_export_1.head.json", "{\"headHash\":null}");
    assert_eq!(export.report(files[0], &[]).1, 0, "an export of nothing has no head");
}

/// The options of the tools this one stands in for.
#[test]
fn part_of_a_chain_begins_anywhere_and_has_no_gap() {
    for dialect in ["kernel", "shared", "agent-manager", "memory-layer"] {
        let export = Export::of(dialect);
        for (options, rows) in [
            (&["--limit", "5"][..], 5),
            (&["--limit", "100"], 12),
            (&["--since", "2026-01-15T12:00:04Z"], 8),
            (&["--from", "2026-01-15T12:00:04.000Z", "--to", "2026-01-15T12:00:08Z"], 5),
            (&["--from", "2026-01-15 13:00:04+01:00", "--limit", "4"], 4),
            (&["--to", "2026-01-15T12:00:07Z", "--limit", "6"], 6),
            (&["--from", "2026-01-15", "--to", "2026-01-15"], 12),
            (&["--since", "2026-01-16"], 0),
        ] {
            let (report, code) = export.report("rows.ndjson", options);
            assert_eq!(
                (code, &report["checked"]["rows"]),
                (0, &json!(rows)),
                "{dialect} {options:?} {report:#}"
            );
            let is_cut = kinds(&report, "warning").contains(&"partial-chain".to_owned());
            assert_eq!(is_cut, rows > 0 && rows < 12, "{dialect} {options:?}");
            if is_cut {
                let said = message(&report, "partial-chain");
                assert!(dialect == "shared" || said.starts_with("of 1 of the chains"), "{said}");
            }
        }
        // What is within the window is checked as ever.
        let last = ["--limit", "8"];
        let step = if dialect == "shared" { 3 } else { 1 };
        let removed = export.after_with(&last, |rows| drop(rows.remove(4 + step)));
        assert_eq!(removed, (vec!["gap".to_owned()], 1), "{dialect}");
        let (found, code) = export.after_with(&last, |rows| rows[9]["payload"]["order"] = json!(77));
        assert!(code == 1 && !found.is_empty(), "{dialect}");
        let (found, code) = export.after_with(&last, |rows| rows[1]["payload"]["order"] = json!(77));
        assert_eq!((found, code), (vec![], 0), "{dialect}: not asked for");
    }
    let export = Export::of("shared");
    for wrong in [&["--since", "yesterday"][..], &["--limit", "-1"], &["--to", "2026-02-30"]] {
        assert_eq!(export.verify("rows.ndjson", wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_older_tools_options_have_their_short_names() {
    let export = Export::of("kernel");
    let (report, code) = report_of(export.command().arg("-a").arg(export.path("rows.ndjson")));
    assert_eq!((code, &report["checked"]["rows"]), (0, &json!(ROWS)), "{report:#}");
    let help = export.command().arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    for option in
        ["-s, --signers", "-d, --database-url", "-a, --archive", "--limit", "--since", "--from", "--to"]
    {
        assert!(text.contains(option), "{option} in {text}");
    }
    // Rows come from somewhere, and from one place.
    assert_eq!(export.command().output().unwrap().status.code(), Some(2));
    let both = export.command().arg(export.path("rows.ndjson")).args(["-d", "postgres://h/d"]).output();
    assert_eq!(both.unwrap().status.code(), Some(2));
}

#[test]
fn an_archived_export_is_read_from_its_bucket() {
    let server = ObjectStore::MiniStack.shared().unwrap_or_else(|error| panic!("{error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(server.endpoint_url())
        .force_path_style(true)
        .build();
    let raw = Client::from_conf(config);
    let export = Export::of("kernel");
    std::fs::copy(export.path("rows.ndjson"), export.path("rows.jsonl")).unwrap();
    export.pack("rows.jsonl");
    let body = ByteStream::from(std::fs::read(export.path("rows.jsonl.gz")).unwrap());
    runtime.block_on(async {
        raw.create_bucket().bucket("exports").send().await.unwrap();
        raw.put_object().bucket("exports").key("audit/2026/rows.jsonl.gz").body(body).send().await.unwrap();
    });
    let verify = |name: &str| {
        let mut command = export.command();
        command.arg("-a").arg(format!("s3://exports/audit/{name}"));
        command.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
        report_of(
            command.envs([("AWS_REGION", "us-east-1"), ("AWS_ENDPOINT_URL_S3", &server.endpoint_url())]),
        )
    };
    let (report, code) = verify("2026/rows.jsonl.gz");
    assert_eq!((code, &report["checked"]["signatures"]), (0, &json!(ROWS)), "{report:#}");
    assert_eq!(verify("2026/nothing.jsonl.gz").1, 3);
}
