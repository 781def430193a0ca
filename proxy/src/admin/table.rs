//! Every call of the admin listener: one row each, with the act that policies must allow.

use chancery_policy::Act;
use hyper::Method;

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What is called.
    pub call: Call,
    /// Label of metrics and log lines.
    pub name: &'static str,
    /// The one method.
    pub method: Method,
    /// The path, with `{…}` for its parameter.
    pub path: &'static str,
    /// What policies must allow; `None`: any person with a token.
    pub act: Option<Act>,
    /// One line for the documentation.
    pub summary: &'static str,
}

macro_rules! routes {
    ($($call:ident $name:literal $method:ident $path:literal $act:expr, $summary:literal;)*) => {
        /// What can be called.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Call { $(#[doc = $summary] $call,)* }

        /// Every route, in the order of the documentation.
        pub static ROUTES: &[Route] = &[$(Route {
            call: Call::$call, name: $name, method: Method::$method, path: $path, act: $act, summary: $summary,
        },)*];
    };
}

routes! {
    WhoAmI "admin_whoami" GET "/admin/v1/whoami" None, "Who the token says you are, and which roles you hold.";
    Status "admin_status" GET "/admin/v1/status" Some(Act::ReadStatus), "What is halted, asked for and being rotated.";
    Halt "admin_halt" POST "/admin/v1/halt" Some(Act::Halt), "Stop signing: everything, a key, a principal or a stream.";
    Resume "admin_resume" POST "/admin/v1/resume" Some(Act::Resume), "Ask for signing to go on; approvers decide.";
    Approvals "admin_approvals" GET "/admin/v1/approvals" Some(Act::ReadStatus), "Requests for approval; ?status= pending, refused, expired or executed.";
    Approval "admin_approval" GET "/admin/v1/approvals/{id}" Some(Act::ReadStatus), "One request, and the text an approver signs.";
    Approve "admin_approve" POST "/admin/v1/approvals/{id}/approve" Some(Act::Approve), "Say yes to exactly this act.";
    Reject "admin_reject" POST "/admin/v1/approvals/{id}/reject" Some(Act::Reject), "Say no.";
    Keys "admin_keys" GET "/admin/v1/keys" Some(Act::ReadStatus), "Every key pair with its state.";
    Rotate "admin_rotate" POST "/admin/v1/keys/{kid}/rotate" Some(Act::RotateKey), "Replace a key by another, step by step.";
    Retire "admin_retire" POST "/admin/v1/keys/{kid}/retire" Some(Act::RetireKey), "End a replaced key before its time.";
    Compromise "admin_compromise" POST "/admin/v1/keys/{kid}/compromise" Some(Act::CompromiseKey), "Halt a key for ever and list what it signed.";
    Signatures "admin_signatures" GET "/admin/v1/keys/{kid}/signatures" Some(Act::ReadAudit), "What a key pair signed; ?signer_kid= and ?from= an index.";
    Audit "admin_audit" GET "/admin/v1/audit" Some(Act::ReadAudit), "Acts of people, as they stand on the ledger; ?from= a position.";
    Policy "admin_policy" GET "/admin/v1/policy" Some(Act::ReadAudit), "The policies in force, by name and hash.";
    PolicyReload "admin_policy_reload" POST "/admin/v1/policy/reload" Some(Act::ReloadPolicy), "Read the policies again; bad ones never replace good ones.";
    LedgerState "admin_ledger_state" GET "/admin/v1/ledger" Some(Act::ReadAudit), "How far the check of the ledger is, or what the last one found.";
    LedgerCheck "admin_ledger_check" POST "/admin/v1/ledger/check" Some(Act::ReadAudit), "Hold store, archive and signed checkpoints against each other; writes nothing.";
    LedgerRepair "admin_ledger_repair" POST "/admin/v1/ledger/repair" Some(Act::RepairArchive), "The same, and ship again what the archive lacks and a checkpoint proves.";
    PolicyExplain "admin_policy_explain" POST "/admin/v1/policy/explain" Some(Act::ReadAudit), "Which policy would decide a question, and why.";
}

impl Route {
    /// Value of `Allow`.
    pub fn allow(&self) -> &'static str {
        if self.method == Method::GET { "GET" } else { "POST" }
    }

    /// Whether it has a body.
    pub fn takes_body(&self) -> bool {
        self.method == Method::POST
    }

    /// Whether policies are asked about a key and not about the appliance.
    pub fn is_about_a_key(&self) -> bool {
        matches!(self.call, Call::Rotate | Call::Retire | Call::Compromise)
    }
}

/// The route of a path and its parameter.
pub fn find(path: &str) -> Option<(&'static Route, &str)> {
    ROUTES.iter().find_map(|route| match route.path.split_once('{') {
        None => (route.path == path).then_some((route, "")),
        Some((start, rest)) => {
            let end = rest.split_once('}').map_or("", |(_, end)| end);
            let parameter = path.strip_prefix(start)?.strip_suffix(end)?;
            (!parameter.is_empty() && !parameter.contains('/')).then_some((route, parameter))
        }
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn every_row_is_found_by_its_path_alone() {
        for route in ROUTES {
            let path = route.path.replace("{id}", "x-1").replace("{kid}", "orders");
            let (found, parameter) = find(&path).unwrap();
            assert_eq!(found.call, route.call, "{path}");
            assert_eq!(parameter.is_empty(), !route.path.contains('{'));
        }
        for nothing in
            ["/admin/v1/approvals/", "/admin/v1/approvals//approve", "/admin/v1/keys/a/b/rotate", "/"]
        {
            assert!(find(nothing).is_none(), "{nothing}");
        }
    }
}
