//! What users are given: `handout/knitprofile`, the input of `knit init`.

use crate::caller::Caller;
use crate::durable;
use crate::folder::Folder;
use crate::problem::{Kind, Problem};
use crate::record::Server;
use knit_api::profile::{Cert, Profile};
use knit_api::server::Registry;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;

/// How users reach this server.
pub fn profile(server: &Server, token: Option<String>) -> Profile {
    Profile {
        api_root: format!("http://{}{}", server.api, knit_api::endpoint::API),
        cert: Cert::default(),
        token,
        registry: Some(Registry { host: server.registry.clone(), insecure: true }),
    }
}

/// Writes the handout: it belongs to the caller for whom it was made first, and nobody else reads it.
pub fn write(folder: &Folder, caller: &Caller, profile: &Profile) -> Result<(), Problem> {
    let place = folder.handout();
    match DirBuilder::new().mode(0o700).create(&place) {
        Ok(()) => caller.own(&place).map_err(|e| Problem::file("give away", &place, &e))?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Problem::file("make", &place, &e)),
    }
    let path = folder.knitprofile();
    let text = serde_saphyr::to_string(profile)
        .map_err(|e| Problem::new(Kind::Failed, format!("the profile has no YAML form: {e}")))?;
    durable::write_for_owner(&path, text.as_bytes(), 0o600).map_err(|e| Problem::file("write", &path, &e))
}

/// Reads the handout again; none where there is none yet.
pub fn read(folder: &Folder) -> Result<Option<Profile>, Problem> {
    let path = folder.knitprofile();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Problem::file("read", &path, &e)),
    };
    serde_saphyr::from_str(&text).map(Some).map_err(|e| {
        Problem::new(Kind::Failed, format!("{} is no profile: {e}", path.display()))
            .advise("run `knitctl down` and `knitctl up`: they write it anew")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_handout_is_a_private_knitprofile() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::at(place.path()).unwrap();
        assert_eq!(read(&folder).unwrap(), None);
        let server = Server { pid: 1, api: "127.0.0.1:30803".into(), registry: "127.0.0.1:30503".into() };
        for token in [Some("secret-token-1".to_owned()), None] {
            let profile = profile(&server, token.clone());
            profile.check().unwrap();
            write(&folder, &Caller::find(), &profile).unwrap();
            assert_eq!(read(&folder).unwrap(), Some(profile));
            let text = std::fs::read_to_string(folder.knitprofile()).unwrap();
            assert!(text.contains("apiRoot: http://127.0.0.1:30803/api\n"), "{text}");
            assert!(text.contains("cert: {}\n"), "{text}");
            assert_eq!(text.contains("token: secret-token-1\n"), token.is_some(), "{text}");
            let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(folder.handout()), mode(folder.knitprofile())), (0o700, 0o600));
        }
    }
}
