//! How large a guest's own stack is, read from its file.

use wasmparser::{Operator, Parser, Payload};

/// The bytes of the first core module's stack: where its linker put the stack first, global 0 starts at its top. `None` for
/// a guest that was linked otherwise, or that can't be read.
///
/// A fresh instance pays for what it touches: with 64 or 128 KiB a whole small memory is reset by copying it, with the
/// linker's default of 1 MiB by page faults, which costs several times as much (`docs/adr/0002`).
#[must_use]
pub fn guest_stack(component: &[u8]) -> Option<u32> {
    for payload in Parser::new(0).parse_all(component) {
        let Payload::GlobalSection(section) = payload.ok()? else { continue };
        let global = section.into_iter().next()?.ok()?;
        if !global.ty.mutable {
            return None;
        }
        return match global.init_expr.get_operators_reader().read().ok()? {
            Operator::I32Const { value } => u32::try_from(value).ok(),
            _ => None,
        };
    }
    None
}
