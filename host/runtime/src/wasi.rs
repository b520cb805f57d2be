//! WASI in name only.
//!
//! Rust's standard library makes every guest import a dozen WASI interfaces, used or not. They
//! are linked to stubs that give nothing away and do nothing: an empty environment, closed
//! standard input, no arguments, output that goes to the log as far as lines are left. Interfaces
//! that reach outside (file system, sockets, HTTP) are not offered: a component that imports
//! them is refused.

use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, Linker, Resource, ResourceAny, ResourceType, Val};
use wasmtime::{Engine, Result, StoreContextMut};

use crate::instance::State;

/// A handle to nothing: a closed stream, an absent terminal.
pub(crate) struct Nothing;

/// Whether stubs stand in for this interface.
pub(crate) fn is_stubbed(import: &str) -> bool {
    const STUBBED: [&str; 4] = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/insecure-seed"];
    STUBBED.iter().any(|prefix| import.starts_with(prefix))
}

/// Defines stubs for the WASI imports that this component has.
pub(crate) fn link(linker: &mut Linker<State>, component: &Component, engine: &Engine) -> Result<()> {
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        if !is_stubbed(name) {
            continue;
        }
        let mut instance = linker.instance(name)?;
        for (function, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let stub = Stub::named(function);
                    // Asynchronous, since a handle can only be given back so.
                    instance.func_new_async(function, move |store, ty, params, results| {
                        Box::new(stub.call(store, ty, params, results))
                    })?;
                }
                ComponentItem::Resource(_) => {
                    instance.resource(function, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// How a stubbed function behaves.
#[derive(Clone, Copy)]
enum Stub {
    /// `exit`: the guest has given up.
    Exit,
    /// `check-write`: there is room.
    Room,
    /// `write` and its like: a line for the log.
    Write,
    /// Everything else answers nothing: 0, "", [], none.
    Empty,
}

impl Stub {
    fn named(function: &str) -> Self {
        match function {
            "exit" | "exit-with-code" => Self::Exit,
            "[method]output-stream.check-write" => Self::Room,
            "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => Self::Write,
            _ => Self::Empty,
        }
    }

    async fn call(
        self,
        mut store: StoreContextMut<'_, State>,
        ty: ComponentFunc,
        params: &[Val],
        results: &mut [Val],
    ) -> Result<()> {
        match self {
            Self::Exit => return Err(wasmtime::Error::msg("the guest called exit")),
            Self::Write => {
                if let Some(Val::List(bytes)) = params.get(1) {
                    let bytes: Vec<u8> = bytes
                        .iter()
                        .map(|byte| if let Val::U8(byte) = byte { *byte } else { b'?' })
                        .collect();
                    store.data_mut().log.output(&String::from_utf8_lossy(&bytes));
                }
            }
            Self::Room | Self::Empty => {}
        }
        // What was lent must be given back, and what was given is not kept.
        for param in params {
            if let Val::Resource(handle) = param {
                handle.resource_drop_async(&mut store).await?;
            }
        }
        for (result, ty) in results.iter_mut().zip(ty.results()) {
            *result = match self {
                Self::Room => Val::Result(Ok(Some(Box::new(Val::U64(4096))))),
                _ => empty(&mut store, &ty)?,
            };
        }
        Ok(())
    }
}

/// The value of a type that says least.
fn empty(store: &mut StoreContextMut<'_, State>, ty: &Type) -> Result<Val> {
    Ok(match ty {
        Type::Bool => Val::Bool(false),
        Type::U8 => Val::U8(0),
        Type::U16 => Val::U16(0),
        Type::U32 => Val::U32(0),
        Type::U64 => Val::U64(0),
        Type::S32 => Val::S32(0),
        Type::S64 => Val::S64(0),
        Type::String => Val::String(String::new()),
        Type::List(_) => Val::List(Vec::new()),
        Type::Option(_) => Val::Option(None),
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|ty| empty(store, &ty)).collect::<Result<_>>()?),
        Type::Record(record) => Val::Record(
            record
                .fields()
                .map(|field| Ok((field.name.to_owned(), empty(store, &field.ty)?)))
                .collect::<Result<_>>()?,
        ),
        Type::Result(result) => {
            Val::Result(Ok(result.ok().map(|ty| empty(store, &ty).map(Box::new)).transpose()?))
        }
        Type::Own(_) => {
            Val::Resource(ResourceAny::try_from_resource(Resource::<Nothing>::new_own(0), store)?)
        }
        other => return Err(wasmtime::Error::msg(format!("a WASI function without a stub for {other:?}"))),
    })
}
