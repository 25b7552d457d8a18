//! The container's environment: what of it PID 1 and the agent run with themselves, and how the whole of it is kept for the
//! agent.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::environment::{is_of_libpq, is_withheld};

pub(super) type Environment = Vec<(OsString, OsString)>;

/// What the kernel may show of us.
pub(super) fn shown(environment: &Environment) -> Environment {
    environment.iter().filter(|(name, _)| !is_withheld(name)).cloned().collect()
}

/// The variables of libpq that are set, by name: they are withheld, and whoever set them is told.
pub(super) fn of_libpq(environment: &Environment) -> Vec<&str> {
    let set = environment.iter().filter(|(name, value)| is_of_libpq(name) && !value.is_empty());
    set.filter_map(|(name, _)| name.to_str()).collect()
}

/// `NAME=VALUE` pieces, each ended by NUL: what `wire::receive_environment` returns.
pub(super) fn pack(environment: &Environment) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, value) in environment {
        packed.extend_from_slice(name.as_bytes());
        packed.push(b'=');
        packed.extend_from_slice(value.as_bytes());
        packed.push(0);
    }
    packed
}

/// The reverse of `pack`. A piece without `=` is left out, as `std::env` does.
pub fn unpack(packed: &[u8]) -> Environment {
    let pieces = packed.split(|byte| *byte == 0).filter(|piece| !piece.is_empty());
    let pairs = pieces.filter_map(|piece| {
        // A name may begin with `=`, hence the search from the second byte.
        let equals = 1 + piece.get(1..)?.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&piece[..equals], &piece[equals + 1..]);
        Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
    });
    pairs.collect()
}

/// The value of a variable; `None` when it is unset or empty.
pub(super) fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    let found = environment.iter().find(|(other, _)| other == name);
    found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_environment_reads_back_byte_for_byte() {
        let odd = OsStr::from_bytes(b"\xff = \n").to_owned();
        let environment = vec![
            ("A".into(), "b=c".into()),
            ("EMPTY".into(), "".into()),
            ("ODD".into(), odd),
            ("=D".into(), "e".into()),
        ];
        assert_eq!(unpack(&pack(&environment)), environment);
    }
}
