//! The evidence itself: checkpoints, gaps, retention; and exactly what this report states and does not.

use super::Audit;
use super::opening::count_of;
use super::text::{esc, num, plural, put, span, when};

pub(super) fn shape(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    out.push_str("<section aria-labelledby=shape><h2 id=shape>Checkpoints, gaps, retention</h2>");
    put!(
        out,
        "<p>The entries lead to the signed roots of {}.",
        plural(survey.epochs, "checkpoint", "checkpoints")
    );
    if let Some((from, to)) = survey.largest_epoch {
        put!(
            out,
            " Most came at once with the one of size {}: {} after size {}.",
            num(to),
            plural(to - from, "entry", "entries"),
            num(from)
        );
    }
    out.push_str(" Checkpoints bear no time of their own.</p>");
    pauses(out, audit);
    put!(
        out,
        "<p>{} of {} of the signers registry are archived as published; {} of loaded policies.</p>",
        num(audit.checked("registryVersions")),
        plural(count_of(audit, "registry.published"), "version", "versions"),
        plural(count_of(audit, "policy.loaded"), "record", "records")
    );
    let surplus = count_of(audit, "signer.operations.surplus");
    put!(
        out,
        "<p>Devices’ own records: {} balanced against the ledger; {} of a use that the ledger does not know.</p>",
        plural(count_of(audit, "signer.operations.recorded"), "reading", "readings"),
        plural(surplus, "record", "records")
    );
    out.push_str(match audit.setting.archive.starts_with("s3://") {
        true => {
            "<p>Retention: the ledger records none. The bucket’s listing was read with all versions: an object that \
             was overwritten, deleted or uploaded in parts is a finding above. Whether and until when objects are \
             locked is the bucket’s to tell, and was not asked.</p>"
        }
        false => {
            "<p>Retention: the ledger records none, and a folder has none. Object Lock of the bucket it was copied \
             from was not verified.</p>"
        }
    });
    if let Some(checkpoint) = &survey.checkpoint {
        put!(
            out,
            "<h3>The last checkpoint</h3><p>Keep it: the next verification with <code>--since</code> proves that \
             nothing below it was changed.</p><pre>{}</pre>",
            esc(&checkpoint.note)
        );
    }
    out.push_str("</section>");
}

fn pauses(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    if !survey.pauses.is_empty() {
        out.push_str(
            "<div class=wide><table class=cards><caption>The longest times without an entry by the ledger’s own clock.</caption>\
             <thead><tr><th scope=col class=n>For<th scope=col>After entry<th scope=col>Before entry</thead><tbody>",
        );
        for pause in &survey.pauses {
            put!(
                out,
                "<tr><td class=n>{}<td data-l=\"after entry\">{} <span class=d>{}</span><td data-l=\"before entry\">{} \
                 <span class=d>{}</span>",
                span(pause.ms),
                audit.links.entry(pause.from.index),
                when(pause.from.ts),
                audit.links.entry(pause.to.index),
                when(pause.to.ts)
            );
        }
        out.push_str("</tbody></table></div>");
    }
    if survey.backwards > 0 {
        put!(
            out,
            "<p>The clock went back {}: times are what the appliance’s clock said, the order is proven.</p>",
            plural(survey.backwards, "time", "times")
        );
    }
}

pub(super) fn checked(out: &mut String, audit: &Audit<'_>) {
    out.push_str(
        "<section aria-labelledby=limits><h2 id=limits>What this report states</h2><h3>Verified</h3><ul>",
    );
    let n = |name| num(audit.checked(name));
    put!(
        out,
        "<li>{} entries ({} bytes): canonical form, hash, place in one of {} streams, the type’s own rules.\
         <li>{} full and {} tail bundles, {} hash tiles and {} checkpoints against the tree rebuilt from the entries.\
         <li>{} individual signatures, each with its key’s state at its index; {} registry versions.\
         <li>Halts, quorums, rotations and continuity of the ledger’s key, by the rules of the format.</ul>",
        n("entries"),
        n("bytes"),
        n("streams"),
        n("bundles"),
        n("tailBundles"),
        n("tiles"),
        n("checkpoints"),
        n("signatures"),
        n("registryVersions")
    );
    put!(
        out,
        "<h3>Not verified</h3><ul><li>{} MACs: only who holds the key can.<li>{} signatures over messages of which \
         the ledger keeps the hash alone: whoever has a message verifies it by its receipt.<li>{} digests were \
         anchored: no key was used, their receipts are their signatures.<li>Certificates of device attestation: that \
         they hold this very key was checked, their chains by the appliance alone.<li>Times: they are the \
         appliance’s clock, or for events of services possibly the service’s own.<li>Nothing was sampled: every entry \
         in the archive was read.</ul>",
        n("macsNotVerifiable"),
        n("signaturesOverMessages"),
        n("anchored")
    );
    out.push_str(
        "<h3>What it cannot tell</h3><ul><li>Whether others were shown another ledger, or a longer one: an archive \
         whose last epochs were removed whole looks like a shorter ledger. Only a checkpoint kept from earlier, \
         given with <code>--since</code>, or one that others hold, shows that.<li>Whether the registry is the right \
         one: everything rests on the file whose SHA-256 stands above.<li>Whether a key was used past the appliance, \
         except as far as devices’ own records were balanced.<li>Whether what was signed was right.</ul>",
    );
    put!(
        out,
        "<p>To repeat it:</p><pre>chancery-verify ledger {} --signers {}{}{}</pre></section>",
        esc(&audit.setting.archive),
        esc(&audit.setting.signers),
        esc(&audit.setting.since.as_ref().map(|file| format!(" --since {file}")).unwrap_or_default()),
        if audit.setting.strict { " --strict" } else { "" }
    );
}
