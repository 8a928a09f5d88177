//! Who an image's processes are: a number, or a name of the image's own list of users.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::super::inside;
use crate::plan::User;

/// Longest list that is read, in bytes.
const LONGEST: u64 = 4 << 20;
/// The largest id that there is: the next one means nobody at all.
const LARGEST: u32 = u32::MAX - 2;

/// The user that an image asks for: `user`, `user:group`, each a name or a number. Nobody in particular is Lambda's.
pub(super) fn find(root: &Path, wanted: &str) -> Result<User, String> {
    if wanted.is_empty() {
        return Ok(User::default());
    }
    let (user, group) = wanted.split_once(':').map_or((wanted, None), |(user, group)| (user, Some(group)));
    let entry = |file: &str, name: &str| {
        let list = read(root, file);
        let found = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
        // By name first, as everybody does: a name may look like a number.
        let found = found.filter(|fields| fields.len() >= 3 && number(fields[2]).is_some());
        let all: Vec<_> =
            found.map(|fields| fields.iter().map(|&field| field.to_owned()).collect::<Vec<_>>()).collect();
        let by_number = || all.iter().find(|fields| number(name).is_some() && number(&fields[2]) == number(name));
        all.iter().find(|fields| fields[0] == name).or_else(by_number).cloned()
    };
    let missing =
        |what: &str, name: &str, file: &str| format!("its {what} {name:.100?} is no number and not in its {file}");
    let known = entry("etc/passwd", user);
    let uid = known.as_ref().and_then(|fields| number(&fields[2])).or_else(|| number(user));
    let uid = uid.ok_or_else(|| missing("user", user, "/etc/passwd"))?;
    let gid = match group.filter(|group| !group.is_empty()) {
        Some(group) => {
            let known = entry("etc/group", group).and_then(|fields| number(&fields[2]));
            known.or_else(|| number(group)).ok_or_else(|| missing("group", group, "/etc/group"))?
        }
        // As Docker has it: the user's own, or else root's.
        None => known.and_then(|fields| number(fields.get(3)?)).unwrap_or(0),
    };
    Ok(User { uid, gid })
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id| digits && id <= LARGEST)
}

/// A list of the image's; links in it lead to places of the image.
fn read(root: &Path, file: &str) -> String {
    let mut bytes = Vec::new();
    if let Some(file) = inside(root, file, rustix::fs::OFlags::RDONLY) {
        let _ = File::from(file).take(LONGEST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
