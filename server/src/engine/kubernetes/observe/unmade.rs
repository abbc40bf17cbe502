//! A Job without a Pod: what keeps the cluster from making it, or that it is gone.

use super::facts::{Facts, condition_of_job, is_warning, note};
use super::{Outlook, ended};
use k8s_openapi::api::events::v1::Event;
use knit_api::run::{Exit, exit_code};
use std::time::SystemTime;

pub(super) fn look(facts: &Facts<'_>) -> Outlook {
    let over = condition_of_job(facts.job, "Complete").is_some() || condition_of_job(facts.job, "Failed").is_some();
    match (over, facts.known_end) {
        (true, Some(end)) => ended(end.exit.clone(), None).into(),
        (true, None) => over_without_pod(facts),
        (false, _) => not_over(facts),
    }
}

fn over_without_pod(facts: &Facts<'_>) -> Outlook {
    if condition_of_job(facts.job, "Complete").is_some() {
        return ended(Exit { code: 0, message: String::new() }, None).into();
    }
    let (reason, said) = condition_of_job(facts.job, "Failed").unwrap_or_default();
    let message = if reason == "DeadlineExceeded" {
        format!("its deadline is exceeded: the cluster limits how long a Job may run ({said}); ask its administrator")
    } else {
        format!("its Pod is gone, and with it how it ended ({reason}: {said}); retry it")
    };
    ended(Exit { code: exit_code::LOST, message }, None).into()
}

fn not_over(facts: &Facts<'_>) -> Outlook {
    if let Some(gone) = facts.replaced {
        let message = format!("its Pod {gone} is gone: somebody deleted it, or its node is gone; retry it");
        return ended(Exit { code: exit_code::LOST, message }, None).into();
    }
    if let Some(until) = facts.unseen_until {
        return Outlook { again: Some(until), ..Outlook::preparing("its Pod is being given to a node") };
    }
    match facts.about_job().rev().find(|event| is_warning(event)) {
        Some(refusal) => refused(facts, refusal),
        None => Outlook::preparing("the cluster is about to make its Pod"),
    }
}

/// The Job controller tries again and again, in vain as long as the cause lasts.
fn refused(facts: &Facts<'_>, refusal: &Event) -> Outlook {
    let said = cause(note(refusal));
    let since = facts.job.metadata.creation_timestamp.as_ref().map_or(facts.now, |time| SystemTime::from(time.0));
    let for_ever = |trouble| Outlook::in_trouble(facts, since, trouble);
    if said.contains("exceeded quota") {
        return Outlook::preparing(format!(
            "the quota of its namespace is used up: {said}; it starts by itself when there is room in it"
        ));
    }
    if let Some(account) = said.strip_prefix("error looking up service account ") {
        let name = account.split_once(':').map_or(account, |(name, _)| name);
        let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
        return for_ever(format!(
            "service account {name} is not there: make it in the namespace of workers, or give the Plan another one \
             (knit plan serviceaccount); then retry it"
        ));
    }
    if let Some((_, class)) = said.split_once("no PriorityClass with name ") {
        let class = class.split_whitespace().next().unwrap_or("");
        return for_ever(format!(
            "priority class {class} is not there: the administrator makes it, or starts knitd with another \
             --worker-priority; then retry it"
        ));
    }
    if note(refusal).contains("is forbidden")
        || note(refusal).contains("is invalid")
        || note(refusal).contains("denied")
    {
        return for_ever(format!("the cluster's rules do not let its Pod in: {said}; ask its administrator"));
    }
    Outlook::preparing(format!("its Pod cannot be made at present: {said}; it is tried again"))
}

/// What is said without the name of a Pod that never was.
fn cause(note: &str) -> &str {
    let said = note.strip_prefix("Error creating: ").unwrap_or(note);
    said.split_once(" is forbidden: ").map_or(said, |(_, said)| said)
}
