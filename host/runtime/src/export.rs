//! A world's functions, found and type-checked once for each version of a plugin.
//!
//! The generated bindings look up and check every export of a world in each new instance, which is a tenth of what an
//! instance costs; a request calls one or two of them. Here an export is found in the component when the plugin is
//! loaded, its type is held against the contract in the probe's instance, and later instances of that same component
//! call it without asking again.

use std::marker::PhantomData;

use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc,
};
use wasmtime::{Result as Wasm, Store};

use crate::bindings::common::{ConfigProblem, Problem};
use crate::error::LoadError;
use crate::instance::{Session, State, guarded};
use crate::load::world_error;
use crate::manifest::Manifest;

/// A function of the contract: where it is, what it takes and gives.
pub(crate) trait Signature {
    /// The exported interface that it is in, with its version; none for one of the world's own.
    const INTERFACE: Option<&str>;
    /// Its name, as component encoding writes it: `[method]decoder.push`.
    const NAME: &str;
    /// What it takes.
    type Params<'a>: ComponentNamedList + Lower + Send + Sync;
    /// What it gives.
    type Return: ComponentNamedList + Lift + Send + Sync + 'static;
}

/// An export whose type was checked.
pub(crate) struct Export<S> {
    index: ComponentExportIndex,
    signature: PhantomData<fn() -> S>,
}

impl<S: Signature> Export<S> {
    /// Finds the export, and checks its type in an instance of the component.
    ///
    /// # Errors
    /// It isn't there, or has another type.
    pub(crate) fn check(component: &Component, instance: &Instance, store: &mut Store<State>) -> Wasm<Self> {
        let missing = || wasmtime::Error::msg(format!("the component exports no function '{}'", S::NAME));
        let interface = match S::INTERFACE {
            Some(name) => Some(component.get_export_index(None, name).ok_or_else(missing)?),
            None => None,
        };
        let index = component.get_export_index(interface.as_ref(), S::NAME).ok_or_else(missing)?;
        let function = instance.get_func(&mut *store, index).ok_or_else(missing)?;
        function.typed::<S::Params<'static>, S::Return>(&*store)?;
        Ok(Self { index, signature: PhantomData })
    }

    /// Calls it in another instance of the same component.
    pub(crate) async fn call(
        &self,
        instance: &Instance,
        store: &mut Store<State>,
        params: S::Params<'_>,
    ) -> Wasm<S::Return> {
        self.function(instance, store)?.call_async(store, params).await
    }

    /// The same on the caller's stack: only within [`Session::at_once`].
    pub(crate) fn call_now(
        &self,
        instance: &Instance,
        store: &mut Store<State>,
        params: S::Params<'_>,
    ) -> Wasm<S::Return> {
        self.function(instance, store)?.call(store, params)
    }

    fn function<'a>(
        &self,
        instance: &Instance,
        store: &mut Store<State>,
    ) -> Wasm<TypedFunc<S::Params<'a>, S::Return>> {
        let function = instance
            .get_func(&mut *store, self.index)
            .ok_or_else(|| wasmtime::Error::msg("an instance of another component"))?;
        #[expect(
            unsafe_code,
            reason = "the type belongs to the component, not to the instance, and `check` has checked it"
        )]
        Ok(unsafe { TypedFunc::new_unchecked(function) })
    }
}

/// Names a function of the contract.
macro_rules! signature {
    ($(#[$doc:meta])* $name:ident, $interface:expr, $export:literal, ($($param:ty),* $(,)?) -> $return:ty) => {
        $(#[$doc])*
        pub(crate) struct $name;
        impl $crate::export::Signature for $name {
            const INTERFACE: Option<&str> = $interface;
            const NAME: &str = $export;
            type Params<'a> = ($($param,)*);
            type Return = ($return,);
        }
    };
}
pub(crate) use signature;

signature!(
    /// What it can do, in JSON.
    Describe, None, "describe", () -> Vec<u8>
);
signature!(
    /// Is this configuration one that it can work with?
    CheckConfig, None, "check-config", (&'a [u8],) -> Result<(), Vec<ConfigProblem>>
);
signature!(
    /// The plugin's own proof that it works.
    SelfTest, None, "self-test", () -> Result<(), Problem>
);

/// Asks what the plugin can do, and has it prove that it works here. Gives the description, and the check of
/// configurations for later.
///
/// # Errors
/// It lacks an export of the life cycle, or failed its own test.
pub(crate) async fn describe_and_test(
    session: &mut Session,
    component: &Component,
    instance: &Instance,
    manifest: &Manifest,
) -> Result<(Vec<u8>, Export<CheckConfig>), LoadError> {
    let world = |error| world_error(manifest, &error);
    let failed = |detail: String| LoadError::SelfTest { plugin: manifest.label(), detail };
    let describe = Export::<Describe>::check(component, instance, &mut session.store).map_err(world)?;
    let check_config = Export::check(component, instance, &mut session.store).map_err(world)?;
    let test = Export::<SelfTest>::check(component, instance, &mut session.store).map_err(world)?;
    let described = guarded!(session, "describe", describe.call(instance, &mut session.store, ()));
    let (described,) = described.map_err(|error| failed(error.to_string()))?;
    let tested = guarded!(session, "self-test", test.call(instance, &mut session.store, ()));
    let (tested,) = tested.map_err(|error| failed(error.to_string()))?;
    tested.map_err(|problem| failed(problem.message))?;
    Ok((described, check_config))
}
