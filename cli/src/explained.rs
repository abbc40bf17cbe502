//! Explanations and foresights as text for a person: what fits and what nearly does, what a change would come to.

use crate::terminal::output::yaml;
use crate::terminal::{Failure, Format, plain, print, print_json};
use knit_api::explain::{Count, DataExplained, InputExplained, PlanExplained, PlanForeseen, TaggedData};
use knit_api::impact::{Deed, Fate, GoingData, Inputs, NewRuns, RunImpact, TagImpact};
use knit_api::tag::Tag;
use knit_api::why::Why;
use serde::Serialize;
use std::fmt::Write as _;

/// Prints something that a table cannot hold: as text for a person, else as JSON, YAML or its ids.
pub fn show<T: Serialize + ?Sized>(
    value: &T,
    text: impl FnOnce() -> String,
    names: &[String],
    chosen: Option<Format>,
) -> Result<(), Failure> {
    match Format::or_fitting(chosen) {
        Format::Json => print_json(value),
        Format::Yaml => print(&yaml(value)?),
        Format::Name => print(&names.iter().flat_map(|name| [name, "\n"]).collect::<String>()),
        Format::Table | Format::Wide => print(&plain(&text())),
    }
}

fn words(tags: &[Tag]) -> String {
    tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn runs(count: Count) -> String {
    match count {
        Count { count: 0, capped: false } => "no new Run".to_owned(),
        Count { count: 1, capped: false } => "1 new Run".to_owned(),
        count => format!("{count} new Runs"),
    }
}

/// A line that is set in, and no longer than what tells it from others.
fn line(text: &mut String, kind: &str, id: &str, said: &str) {
    const LONGEST: usize = 200;
    let mut said: String = said.replace('\n', " ");
    if let Some((end, _)) = said.char_indices().nth(LONGEST) {
        said.truncate(end);
        said.push('\u{2026}');
    }
    let _ = writeln!(text, "{}", format!("    {kind:<5} {id}  {said}").trim_end());
}

fn inputs_text(text: &mut String, inputs: &[InputExplained]) {
    for input in inputs {
        let InputExplained { mountpoint, fitting, data, nearest, nearest_capped, unused } = input;
        let verb = if *fitting == Count::exactly(1) { "fits" } else { "fit" };
        let _ = writeln!(text, "input {} ({}): {fitting} Data {verb}", mountpoint.path, words(&mountpoint.tags));
        for TaggedData { id, tags } in data {
            line(text, "fits", id.as_str(), &words(tags));
        }
        let more = fitting.count.saturating_sub(data.len() as u64);
        if more > 0 && !data.is_empty() {
            let _ = writeln!(text, "          and {}{more} more", if fitting.capped { "at least " } else { "" });
        }
        for near in nearest {
            line(text, "near", near.data.id.as_str(), &near.lack.to_string());
        }
        for unused in unused {
            let similar = match &unused.similar[..] {
                [] => format!("no Data has any tag {}:\u{2026} either", unused.tag.key),
                similar => format!("there are {}", words(similar)),
            };
            let _ = writeln!(text, "    no Data has the tag {}; {similar}", unused.tag);
        }
        if *nearest_capped {
            text.push_str("    (there are so many Data with these tags that not all were looked at for near ones)\n");
        }
    }
}

/// What registering a Plan would come to.
pub fn foreseen(name: &str, plan: &PlanForeseen) -> String {
    let mut text = match (&plan.equal, &plan.cycle) {
        (Some(id), _) => format!("An equal Plan is there already: {id}. Nothing would be registered.\n"),
        (None, Some(_)) => "It would be refused, because it would feed itself.\n".to_owned(),
        (None, None) => {
            let activity = if plan.active { "" } else { ", which would stay parked because it is not active" };
            format!("{name} would become a Plan with {} at once{activity}.\n", runs(plan.runs))
        }
    };
    for combination in &plan.combinations {
        let parts = plan.inputs.iter().zip(combination).map(|(input, id)| format!("{}={id}", input.mountpoint.path));
        let _ = writeln!(text, "    Run   {}", parts.collect::<Vec<_>>().join(" "));
    }
    if plan.runs.count > plan.combinations.len() as u64 && !plan.combinations.is_empty() {
        text.push_str("          and so on\n");
    }
    inputs_text(&mut text, &plan.inputs);
    text
}

/// What fits a Plan.
pub fn plan(plan: &PlanExplained) -> String {
    let image = plan.image.as_ref().map_or_else(String::new, |image| format!(" ({image})"));
    let mut text = format!("Plan {}{image}", plan.id);
    if plan.active {
        text.push_str(" is active\n");
    } else {
        let _ = writeln!(text, " is INACTIVE: its Runs are parked; to let them go: knit plan active yes {}", plan.id);
    }
    let by_status: Vec<String> = plan.runs.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let more = if plan.runs_capped { " (and more that were not counted)" } else { "" };
    let by_status = if by_status.is_empty() { "none".to_owned() } else { by_status.join(", ") };
    let _ = writeln!(text, "Runs: {by_status}{more}; combinations of Data that fit now: {}", plan.combinations);
    if plan.projecting {
        text.push_str("More Runs are about to be made.\n");
    }
    inputs_text(&mut text, &plan.inputs);
    text
}

/// What a Data fits.
pub fn data(data: &DataExplained) -> String {
    let mut text = format!("Data {} ({})\n", data.data.id, words(&data.data.tags));
    match data.transient.as_deref() {
        None => {}
        Some(knit_api::tag::FAILED) => text.push_str("It fits nothing, because the Run that made it failed.\n"),
        Some(_) => text.push_str("It fits nothing yet, because it is still being made.\n"),
    }
    let _ = writeln!(text, "inputs that it fits: {}", data.fitting);
    let inactive = |active: bool| if active { "" } else { " (the Plan is inactive)" };
    for input in &data.inputs {
        line(&mut text, "fits", &input.title(), inactive(input.active));
    }
    let more = data.fitting.count.saturating_sub(data.inputs.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "          and {}{more} more", if data.fitting.capped { "at least " } else { "" });
    }
    for near in &data.nearest {
        line(&mut text, "near", &near.input.title(), &format!("{}{}", near.lack, inactive(near.input.active)));
    }
    if data.nearest_capped {
        text.push_str("    (there are so many inputs with these tags that not all were looked at for near ones)\n");
    }
    text
}

/// Why a Run stands where it stands.
pub fn why(why: &Why) -> String {
    let run = &why.run;
    let since = crate::terminal::time::full(run.updated_at);
    let mut text =
        format!("Run {} of Plan {} ({}): {} since {since}\n", run.id, run.plan.id, run.plan.title(), run.status);
    for cause in &why.causes {
        let _ = writeln!(text, "  {}: {}", cause.code, cause.text);
        if !cause.advice.is_empty() {
            let _ = writeln!(text, "    try: {}", cause.advice);
        }
    }
    if let Some(tail) = &why.log_tail {
        text.push_str("the end of its log:\n");
        for line in tail.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

/// A Data that goes, with the output that made it.
pub fn going(data: &GoingData) -> String {
    let path = data.path.as_deref().unwrap_or("log");
    match data.bytes {
        Some(bytes) => format!("{} ({path}, {bytes} bytes)", data.id),
        None => format!("{} ({path})", data.id),
    }
}

fn withdrawn_text(text: &mut String, what: &str, inputs: &Inputs) {
    if inputs.count.count == 0 {
        return;
    }
    let _ = writeln!(text, "{what}: {}", inputs.count);
    for input in &inputs.inputs {
        line(text, "", &input.title(), "");
    }
}

fn new_runs_text(text: &mut String, all: &[NewRuns]) {
    for new in all {
        let parked = if new.active { "" } else { ", parked because it is inactive" };
        let _ = writeln!(text, "    {} of Plan {}{parked}", runs(new.runs), new.plan);
    }
}

/// What a deed on a Run would come to.
pub fn run_impact(impact: &RunImpact) -> String {
    let verb = match impact.of {
        Deed::Rm => "Deleting",
        Deed::Retry => "Retrying",
    };
    let mut text = format!("Nothing was changed. {verb} the Run {}, which is {}:\n", impact.run, impact.status);
    if let Some(refused) = &impact.refused {
        let _ = writeln!(text, "would be refused: {}", refused.reason);
        return text;
    }
    text.push_str(match impact.becomes {
        Fate::Erased => "would leave nothing of it\n",
        Fate::Invalidated => "would keep it as deleted, so that its combination of Data is not run again\n",
        Fate::Waiting => "would execute it again; what it made is replaced by new Data\n",
    });
    for data in &impact.data {
        let _ = writeln!(text, "would delete the Data {}", going(data));
    }
    withdrawn_text(&mut text, "would take them from inputs that they fit", &impact.withdrawn);
    if impact.forgotten.count > 0 {
        let _ = writeln!(text, "would forget deleted Runs that used them: {}", impact.forgotten);
    }
    if !impact.feeds.is_empty() {
        text.push_str("would, if it ends well, lead to\n");
        new_runs_text(&mut text, &impact.feeds);
    }
    text
}

/// What a change of tags would come to.
pub fn tag_impact(impact: &TagImpact) -> String {
    let stays = if impact.tags.is_empty() { " no tags".to_owned() } else { format!(": {}", words(&impact.tags)) };
    let mut text = format!("Nothing was changed. The change would leave Data {} with{stays}\n", impact.data);
    withdrawn_text(&mut text, "inputs that it would fit, and does not now", &impact.nominated);
    withdrawn_text(&mut text, "inputs that it would no longer fit (Runs that use it stay)", &impact.withdrawn);
    if impact.nominated.count.count + impact.withdrawn.count.count == 0 {
        text.push_str("It would fit the same inputs as now.\n");
    }
    if !impact.runs.is_empty() {
        text.push_str("It would lead to\n");
        new_runs_text(&mut text, &impact.runs);
    } else if impact.nominated.count.count > 0 {
        text.push_str("It would lead to no new Run.\n");
    }
    if impact.runs_capped {
        text.push_str("    and those of further Plans\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_api::explain::{Lack, NearData, UnusedTag};
    use knit_api::plan::Mountpoint;

    #[test]
    fn an_input_is_told_with_what_fits_what_nearly_does_and_what_nobody_has() {
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        let near = Lack { missing: vec![tag("c:d")], ..Lack::default() };
        let input = InputExplained {
            mountpoint: Mountpoint { path: "/in".to_owned(), tags: vec![tag("a:b"), tag("c:d")] },
            fitting: Count::exactly(3),
            data: vec![TaggedData { id: "d1".into(), tags: vec![tag("a:b")] }],
            nearest: vec![NearData { data: TaggedData { id: "d2".into(), tags: vec![] }, lack: near }],
            nearest_capped: false,
            unused: vec![UnusedTag { tag: tag("c:d"), similar: vec![tag("c:e")] }],
        };
        let mut text = String::new();
        inputs_text(&mut text, &[input]);
        let wanted = "input /in (a:b c:d): 3 Data fit\n    fits  d1  a:b\n          and 2 more\n    near  d2  lacks c:d\n    \
                      no Data has the tag c:d; there are c:e\n";
        assert_eq!(text, wanted);
    }
}
