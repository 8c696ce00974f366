//! The globals that a pickle names, seen before anything reads it.
//!
//! The reader of [`super::torch`] runs nothing that a pickle asks for, but passes over what it does not know. A call that hides beside
//! good tensors, its result thrown away, would so go unnoticed. What `torch.save` makes of tensors is a row of few opcodes, whose
//! arguments have fixed sizes: going through them is enough to see each name.

use super::torch::TorchError;

/// Refuses a pickle that names anything but what tensors are made of.
///
/// # Errors
/// [`TorchError::Foreign`] is the first such name, [`TorchError::Opcode`] an instruction that tensors have no need of.
pub(super) fn refuse_foreign(pickle: &[u8]) -> Result<(), TorchError> {
    let mut rest = pickle;
    loop {
        let opcode = take(&mut rest, 1)?[0];
        match opcode {
            // PROTO. Later protocols have other opcodes for the same, which torch.save writes for nobody who did not ask for them.
            0x80 => match take(&mut rest, 1)?[0] {
                2 => {}
                protocol => return Err(TorchError::Protocol(protocol)),
            },
            // GLOBAL
            b'c' => {
                let (module, name) = (line(&mut rest)?, line(&mut rest)?);
                if !is_of_tensors(module, name) {
                    let name = [module, name].map(String::from_utf8_lossy).join(".");
                    return Err(TorchError::Foreign(name));
                }
            }
            // STOP
            b'.' => return Ok(()),
            // NONE, NEWTRUE, NEWFALSE, MARK, EMPTY_TUPLE, TUPLE, TUPLE1 to TUPLE3, EMPTY_LIST, APPEND, APPENDS, EMPTY_DICT, SETITEM,
            // SETITEMS, REDUCE, BUILD, BINPERSID
            b'N'
            | 0x88
            | 0x89
            | b'('
            | b')'
            | b't'
            | 0x85..=0x87
            | b']'
            | b'a'
            | b'e'
            | b'}'
            | b's'
            | b'u'
            | b'R'
            | b'b'
            | b'Q' => {}
            // BININT1, BINPUT, BINGET
            b'K' | b'q' | b'h' => drop(take(&mut rest, 1)?),
            // BININT2
            b'M' => drop(take(&mut rest, 2)?),
            // BININT, LONG_BINPUT, LONG_BINGET
            b'J' | b'r' | b'j' => drop(take(&mut rest, 4)?),
            // BINFLOAT
            b'G' => drop(take(&mut rest, 8)?),
            // LONG1
            0x8a => {
                let length = take(&mut rest, 1)?[0];
                take(&mut rest, length.into())?;
            }
            // BINUNICODE
            b'X' => {
                let length = take(&mut rest, 4)?.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
                take(&mut rest, length)?;
            }
            _ => return Err(TorchError::Opcode(opcode)),
        }
    }
}

/// Whether a global is one that `torch.save` names for a dict of tensors.
fn is_of_tensors(module: &[u8], name: &[u8]) -> bool {
    match module {
        b"collections" => name == b"OrderedDict",
        b"torch._utils" => matches!(name, b"_rebuild_tensor_v2" | b"_rebuild_parameter"),
        b"torch" => name.ends_with(b"Storage") && name.iter().all(u8::is_ascii_alphanumeric),
        _ => false,
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], TorchError> {
    rest.split_off(..length).ok_or(TorchError::Truncated)
}

fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], TorchError> {
    let end = rest.iter().position(|&byte| byte == b'\n').ok_or(TorchError::Truncated)?;
    let line = take(rest, end)?;
    take(rest, 1)?;
    Ok(line)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refusal(pickle: &[u8]) -> String {
        refuse_foreign(pickle).unwrap_err().to_string()
    }

    #[test]
    fn dicts_of_tensors_pass() {
        let pickle =
            b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0wctorch\nFloatStorage\n\x8a\x01\x02G\0\0\0\0\0\0\0\0u.";
        assert!(refuse_foreign(pickle).is_ok());
    }

    #[test]
    fn each_foreign_name_is_told_wherever_it_stands() {
        // Called and forgotten, called for a value, and only named.
        for pickle in
            [&b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R0}."[..], b"}cposix\nsystem\nR.", b"cposix\nsystem\n."]
        {
            assert!(refusal(pickle).contains("posix.system"));
        }
        for (pickle, name) in [
            (&b"ctorch\nload\n."[..], "torch.load"),
            (b"ctorch\nhub.load\nStorage\n.", "torch.hub.load"),
            (b"ctorch._utils\n_rebuild_sparse_tensor\n.", "torch._utils._rebuild_sparse_tensor"),
            (b"ccollections\ndefaultdict\n.", "collections.defaultdict"),
        ] {
            assert!(refusal(pickle).contains(name), "{name}");
        }
    }

    #[test]
    fn names_cannot_hide_in_what_is_not_followed() {
        // STACK_GLOBAL, INST, OBJ, EXT1, NEWOBJ
        for opcode in [0x93, b'i', b'o', 0x82, 0x81] {
            assert!(matches!(refuse_foreign(&[0x80, 2, opcode]), Err(TorchError::Opcode(found)) if found == opcode));
        }
        assert!(matches!(refuse_foreign(b"\x80\x04}."), Err(TorchError::Protocol(4))));
        for pickle in [&b""[..], b"\x80", b"\x80\x02", b"X\xff\xff\xff\xff", b"cposix", b"cposix\nsystem"] {
            assert!(matches!(refuse_foreign(pickle), Err(TorchError::Truncated)));
        }
    }
}
