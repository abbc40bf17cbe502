//! Who a container runs as: the image's `USER`, looked up in the image's own lists.

/// A user as the kernel knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home folder, if the image knows one.
    pub home: Option<String>,
}

/// The kernel's ids end here for what images may ask for; above lie values with meanings of their own.
const LARGEST_ID: u32 = i32::MAX as u32;

/// Resolves `USER`: empty for root, else a name or number, optionally `:` and a group's name or number.
/// `passwd` and `group` are the image's lists, empty when it has none. The error is a sentence.
pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (who, group_part) = match user.trim().split_once(':') {
        Some((who, part)) => (who, Some(part).filter(|part| !part.is_empty())),
        None => (user.trim(), None),
    };
    let who = if who.is_empty() { "0" } else { who };
    let entry = passwd.lines().filter_map(Account::read).find(|account| account.is(who));
    let (uid, gid) = match (&entry, id(who)) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => {
            return Err(format!("the image's USER \"{user}\" cannot be resolved: \"{who}\" is not in its /etc/passwd"));
        }
    };
    let home = entry.as_ref().map(|account| account.home.to_owned()).filter(|home| home.starts_with('/'));
    let Some(part) = group_part else {
        // As with a login: the groups that list the account by name.
        let name = entry.map_or("", |account| account.name);
        let groups = group.lines().filter_map(Group::read).filter(|g| g.has(name)).map(|g| g.gid).collect();
        return Ok(Identity { uid, gid, groups, home });
    };
    let gid = match group.lines().filter_map(Group::read).find(|g| g.name == part) {
        Some(found) => found.gid,
        None => id(part).ok_or_else(|| {
            format!("the image's USER \"{user}\" cannot be resolved: \"{part}\" is not in its /etc/group")
        })?,
    };
    Ok(Identity { uid, gid, groups: Vec::new(), home })
}

fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= LARGEST_ID)
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    }

    fn is(&self, who: &str) -> bool {
        self.name == who || id(who) == Some(self.uid)
    }
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        Some(Self { name, gid: id(fields.next()?)?, members: fields.next().unwrap_or("") })
    }

    fn has(&self, name: &str) -> bool {
        !name.is_empty() && self.members.split(',').any(|member| member.trim() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\nbroken\nodd:x:x:1::/:\n\
                          nohome:x:7:8\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\ndata:x:2000:ann,bob\ngpu:x:2001:root, ann\nbad\n";

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let identity = |uid, gid, groups: &[u32], home: Option<&str>| {
            Ok(Identity { uid, gid, groups: groups.to_vec(), home: home.map(ToOwned::to_owned) })
        };
        for (user, expected) in [
            ("", identity(0, 0, &[2001], Some("/root"))),
            ("root", identity(0, 0, &[2001], Some("/root"))),
            ("ann", identity(1000, 1001, &[2000, 2001], Some("/home/ann"))),
            ("1000", identity(1000, 1001, &[2000, 2001], Some("/home/ann"))),
            ("1234", identity(1234, 0, &[], None)),
            ("1234:99", identity(1234, 99, &[], None)),
            ("ann:data", identity(1000, 2000, &[], Some("/home/ann"))),
            ("ann:", identity(1000, 1001, &[2000, 2001], Some("/home/ann"))),
            (":data", identity(0, 2000, &[], Some("/root"))),
            ("nohome", identity(7, 8, &[], None)),
        ] {
            assert_eq!(resolve(user, PASSWD, GROUP), expected, "{user}");
        }
    }

    #[test]
    fn an_image_without_lists_still_has_numbers() {
        assert_eq!(resolve("", "", "").unwrap(), Identity::default());
        assert_eq!(resolve("12:13", "", "").unwrap(), Identity { uid: 12, gid: 13, ..Identity::default() });
    }

    #[test]
    fn an_unknown_name_is_said() {
        for (user, word) in [
            ("bob", "passwd"),
            ("ann:bobs", "group"),
            ("-1", "passwd"),
            ("+1", "passwd"),
            ("4294967295", "passwd"),
            ("1:4294967295", "group"),
        ] {
            let said = resolve(user, PASSWD, GROUP).unwrap_err();
            assert!(said.contains(word) && said.contains(user), "{user}: {said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_list_makes_the_lookup_panic(user in "[a-z0-9:]{0,8}", passwd in "[a-z0-9:\n,]{0,80}", group in ".{0,60}") {
            let _ = resolve(&user, &passwd, &group);
        }
    }
}
