//! Every mistake is told, with its place and a way out.

use chancery_policy::{Act, PolicySet, limits};

use crate::{problems, set};

/// The one problem's text.
fn told(text: &str) -> String {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn every_mistake_of_every_file_is_told_at_once_with_its_place() {
    let first = "// a comment\n@id(\"a\") permit (principal, action, resource)\nwhen { context.hours > 1 };\n\
                 \u{e9} permit;\n@id(\"b\") permit (principal, action == Action::\"sing\", resource);";
    let second = "permit (principal, action, resource);\n@id(\"b\") forbid (principal, action, resource)";
    let told = PolicySet::parse(&[("b.cedar", second), ("a.cedar", first)], false).unwrap_err();
    let places: Vec<_> =
        told.iter().map(|it| (it.file.as_str(), it.at.unwrap().line, it.at.unwrap().column)).collect();
    for place in
        [("a.cedar", 3, 8), ("a.cedar", 4, 1), ("a.cedar", 5, 38), ("b.cedar", 1, 1), ("b.cedar", 2, 1)]
    {
        let near = places.iter().any(|(file, line, _)| (*file, *line) == (place.0, place.1));
        assert!(near, "{place:?} not in {told:#?}");
    }
    assert!(places.is_sorted());
}

#[test]
fn ids_are_asked_for_checked_and_unique() {
    assert!(told("permit (principal, action, resource);").contains("no @id"));
    for bad in ["", "A", "-a", "a b", "\u{e9}", &"a".repeat(65)] {
        let text = format!("@id(\"{bad}\") permit (principal, action, resource);");
        assert!(told(&text).starts_with("p.cedar:1:1: @id("), "{bad}");
    }
    let twice =
        "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);";
    assert!(told(twice).contains("p.cedar:2:1: @id(\"a\") is taken, by p.cedar:1:1"));
}

#[test]
fn annotations_that_do_not_fit_are_refused() {
    for (annotations, effect, cause) in [
        ("@until(\"quorum\")", "forbid", "unknown annotation @until"),
        ("@unless(\"quorum\") @approvals(\"2\") @approvers(\"approver\")", "permit", "@unless on a permit"),
        ("@approvals(\"2\")", "forbid", "@approvals without"),
        ("@approvers(\"approver\")", "permit", "@approvers without"),
        ("@hook(\"risk\")", "forbid", "@hook without"),
        ("@unless(\"never\")", "forbid", "unknown"),
        ("@unless(\"hook\")", "forbid", "@hook(\"\") is no name"),
        ("@unless(\"hook\") @hook(\"risk\") @unreachable(\"maybe\")", "forbid", "@unreachable(\"maybe\")"),
        ("@unless(\"hook\") @hook(\"risk\") @approvals(\"2\")", "forbid", "@approvals without"),
        ("@unless(\"quorum\") @approvers(\"approver\")", "forbid", "no number of approvals"),
        ("@unless(\"quorum\") @approvals(\"0\") @approvers(\"a\")", "forbid", "no number of approvals"),
        ("@unless(\"quorum\") @approvals(\"+2\") @approvers(\"a\")", "forbid", "no number of approvals"),
        ("@unless(\"quorum\") @approvals(\"17\") @approvers(\"a\")", "forbid", "no number of approvals"),
        ("@unless(\"quorum\") @approvals(\"2\")", "forbid", "@approvers(\"\") is no name"),
    ] {
        let text = format!("@id(\"a\") {annotations} {effect} (principal, action, resource);");
        assert!(told(&text).contains(cause), "{annotations}: {}", told(&text));
    }
}

#[test]
fn what_could_fail_later_is_refused_now() {
    for condition in [
        "context.purpose == \"x\"",
        "context.hour == \"8\"",
        "resource.purpose == \"x\"",
        "Key::\"other\".purpose == \"x\"",
        "context.unknown == 1",
        "ip(\"10.0.0.0/99\").isLoopback()",
        "false",
    ] {
        let text = format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};");
        assert!(!problems(&text).is_empty(), "{condition}");
    }
    for scope in [
        "principal == User::\"x\", action, resource",
        "principal is Person, action == Action::\"sign\", resource",
        "principal == ?principal, action, resource",
    ] {
        assert!(!problems(&format!("@id(\"a\") permit ({scope});")).is_empty(), "{scope}");
    }
}

#[test]
fn bounds_hold() {
    let nested = format!(
        "@id(\"a\") permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(9_000),
        ")".repeat(6_000)
    );
    assert!(told(&nested).contains("nested") || told(&nested).contains("bytes"));
    let long = format!("@id(\"a\") permit (principal, action, resource); // {}", "x".repeat(1 << 20));
    assert!(told(&long).contains("bytes long"));
    let many = "x;".repeat(limits::POLICIES_MAX + 1);
    assert!(told(&many).contains("more than 10000 policies"));
    let chained = format!(
        "@id(\"a\") permit (principal, action, resource) when {{ {}true }};",
        "context.hour > 1 && ".repeat(700)
    );
    assert!(told(&chained).contains("operators"));
}

#[test]
fn what_the_bounds_let_through_fits_a_small_stack() {
    let when = |condition: String| {
        format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};")
    };
    let deepest = [
        when(format!("{}true", "context.hour > 1 && ".repeat(60))),
        when(format!("{}true", "true || ".repeat(limits::OPERATORS_MAX - 1))),
        when(format!("1{} > 1", " + 1".repeat(limits::OPERATORS_MAX - 1))),
        when(format!("{}true", "if action == Action::\"sign\" then true else ".repeat(7))),
        format!(
            "@id(\"a\") permit (principal, action, resource) {};",
            "when { true }".repeat(limits::OPERATORS_MAX)
        ),
        when(format!(
            "{}true{}",
            "(true && ".repeat(limits::NESTING_MAX - 2),
            ")".repeat(limits::NESTING_MAX - 2)
        )),
        when(format!(
            "{}{}true{}",
            "true && ".repeat(90),
            "(true || ".repeat(limits::NESTING_MAX - 2),
            ")".repeat(limits::NESTING_MAX - 2)
        )),
        "[".repeat(limits::NESTING_MAX),
    ];
    for text in deepest {
        let small = std::thread::Builder::new().stack_size(1024 * 1024);
        let run = small.spawn(move || {
            if let Ok(set) = PolicySet::parse(&[("p.cedar", &text)], false) {
                let asked = crate::question(crate::service("a", &[]), Act::Sign, crate::key("k", ""));
                drop(set.explain(&asked));
            }
        });
        run.unwrap().join().unwrap();
    }
}

#[test]
fn the_hash_is_of_names_and_texts_in_any_order() {
    let a = ("a.cedar", "@id(\"a\") permit (principal, action, resource);");
    let b = ("b.cedar", "@id(\"b\") forbid (principal, action, resource);");
    let hash = |files: &[(&str, &str)], roles| PolicySet::parse(files, roles).unwrap().sha256();
    assert_eq!(hash(&[a, b], false), hash(&[b, a], false));
    let others = [
        hash(&[a], false),
        hash(&[], false),
        hash(&[a], true),
        hash(&[("c.cedar", a.1)], false),
        hash(&[("a.cedar", &format!("{} ", a.1))], false),
    ];
    for (position, hash) in others.iter().enumerate() {
        assert!(!others[..position].contains(hash), "{position}");
    }
    assert!(set("").is_empty());
}

#[test]
fn a_folder_is_read_sorted_and_its_faults_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("b.cedar", b"@id(\"b\") permit (principal, action, resource);");
    write("a.cedar", b"@id(\"a\") permit (principal, action, resource);");
    write(".a.cedar", b"not read");
    write("notes.txt", b"not read");
    let set = PolicySet::load(folder.path(), false).unwrap();
    assert_eq!(set.ids().map(|id| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    write("c.cedar", b"\xff");
    write("d.cedar", &vec![b' '; limits::FILE_BYTES_MAX + 1]);
    assert_eq!(PolicySet::load(folder.path(), true).unwrap_err().len(), 2);
    assert_eq!(PolicySet::load(&folder.path().join("none"), true).unwrap_err().len(), 1);
    assert!(chancery_policy::load_cases(folder.path()).is_err());
}
