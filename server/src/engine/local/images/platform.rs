//! Which image of a multi-platform index fits this machine.

use crate::content::{Descriptor, Platform};

/// This machine.
pub(super) fn host() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
        "powerpc64" => ("ppc64", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    };
    Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: variant.map(str::to_owned) }
}

/// How well an image fits: the smaller the better; nothing for one that does not run.
fn distance(host: &Platform, image: &Platform) -> Option<u32> {
    if image.os != host.os || image.architecture != host.architecture {
        return None;
    }
    let number = |platform: &Platform| match platform.variant.as_deref() {
        None | Some("") => None,
        Some(variant) => Some(variant.strip_prefix('v').and_then(|n| n.split('.').next()?.parse::<u32>().ok())),
    };
    match (number(host), number(image)) {
        (_, None) => Some(1),
        // A processor runs what was made for older variants. amd64's first is what every one has.
        (None, Some(Some(1))) => Some(0),
        (Some(Some(host)), Some(Some(image))) if image <= host => Some((host - image) * 2),
        _ => None,
    }
}

/// Attestations stand in an index as if they were images, for no platform.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
        || entry.annotations.as_ref().is_some_and(|words| words.contains_key("vnd.docker.reference.type"))
}

/// The entry that fits best, or the platforms that there are.
pub(super) fn choose<'a>(host: &Platform, entries: &'a [Descriptor]) -> Result<&'a Descriptor, Vec<String>> {
    let images = || entries.iter().filter(|entry| !is_attestation(entry));
    let fitting = images().filter_map(|entry| match &entry.platform {
        // Nothing is said; its configuration will tell.
        None => Some((1000, entry)),
        Some(platform) => distance(host, platform).map(|distance| (distance, entry)),
    });
    match fitting.min_by_key(|(distance, _)| *distance) {
        Some((_, entry)) => Ok(entry),
        None => Err(images().filter_map(|entry| entry.platform.as_ref()).map(ToString::to_string).collect()),
    }
}

/// True when an image's configuration names a platform that does not run on this machine. One that
/// says nothing is given the benefit of the doubt.
pub(super) fn is_foreign(host: &Platform, image: &Platform) -> bool {
    (!image.os.is_empty() && image.os != host.os)
        || (!image.architecture.is_empty() && image.architecture != host.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Digest;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform { os: parts.next().unwrap(), architecture: parts.next().unwrap(), variant: parts.next() }
    }

    fn entry(index: usize, text: &str) -> Descriptor {
        Descriptor {
            media_type: "m".to_owned(),
            digest: Digest::of(&[index as u8]),
            size: 0,
            platform: (!text.is_empty()).then(|| platform(text)),
            artifact_type: None,
            annotations: None,
            urls: None,
        }
    }

    #[test]
    fn the_best_image_for_a_machine_is_chosen() {
        for (host, entries, chosen) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some(1)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64", "linux/amd64/v2"], Some(1)),
            ("linux/amd64", &["linux/amd64", "linux/amd64/v1"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3"], None),
            ("linux/amd64", &["windows/amd64", "unknown/unknown"], None),
            ("linux/amd64", &["unknown/unknown", "linux/amd64"], Some(1)),
            ("linux/amd64", &["", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/arm64", ""], Some(1)),
            ("linux/amd64", &[], None),
            ("linux/arm64/v8", &["linux/arm64"], Some(0)),
            ("linux/arm64/v8", &["linux/arm64", "linux/arm64/v8"], Some(1)),
            ("linux/arm64/v8", &["linux/arm64/v9", "linux/arm64"], Some(1)),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm64"], Some(1)),
        ] {
            let listed: Vec<_> = entries.iter().enumerate().map(|(i, text)| entry(i, text)).collect();
            let found = choose(&platform(host), &listed).ok().map(|found| found.digest);
            assert_eq!(found, chosen.map(|i: usize| listed[i].digest), "{host} of {entries:?}");
        }
    }

    #[test]
    fn a_refusal_lists_the_platforms_but_not_attestations() {
        let listed = [entry(0, "linux/arm64/v8"), entry(1, "unknown/unknown"), entry(2, "linux/s390x")];
        assert_eq!(choose(&platform("linux/amd64"), &listed).unwrap_err(), ["linux/arm64/v8", "linux/s390x"]);
    }
}
