//! Components of any world: inspected first, compiled when they are loaded or first used, proved by their own test.
//!
//! What differs is what a world offers, and what a component of it may use: [`World`]. The rest is here once.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::{Component, Instance, InstancePre, Linker};
use wasmtime::{Result as Wasm, Store};

use crate::bindings::common::ConfigProblem;
use crate::engine::{Runtime, RuntimeConfig};
use crate::error::{Fault, LoadError, PluginError};
use crate::export::{CheckConfig, Export, Signature, describe_and_test};
use crate::instance::{CallContext, Pace, Session, State, guarded, instantiate};
use crate::lazy::Lazy;
use crate::limits::Limits;
use crate::load::{Inspection, compile, inspect, linker, world_error};
use crate::manifest::Kind;

/// Where a world's functions are in one component.
pub(crate) trait World: Sized + Send + Sync + 'static {
    /// The role of its components.
    const KIND: Kind;

    /// What one call may use.
    fn limits(config: &RuntimeConfig) -> Limits;

    /// Offers what the world imports beside capabilities.
    fn link(linker: &mut Linker<State>) -> Wasm<()>;

    /// Finds the world's functions, and checks their types in an instance like those that calls get.
    ///
    /// # Errors
    /// One isn't there, or has another type.
    fn find(
        component: &Component,
        pre: &InstancePre<State>,
        instance: &Instance,
        store: &mut Store<State>,
    ) -> Wasm<Self>;
}

/// A component of a world.
pub(crate) struct Loaded<W> {
    pub(crate) inspection: Inspection,
    pub(crate) label: Arc<str>,
    runtime: Runtime,
    ready: Lazy<Arc<Ready<W>>>,
}

/// One that can be instantiated.
pub(crate) struct Ready<W> {
    pub(crate) pre: InstancePre<State>,
    pub(crate) pace: Pace,
    /// What it can do: the JSON of `describe`.
    pub(crate) description: serde_json::Value,
    check_config: Export<CheckConfig>,
    pub(crate) world: W,
}

impl<W: World> Loaded<W> {
    /// Compiles a component and runs its self-test.
    ///
    /// # Errors
    /// Why it can't be loaded.
    pub(crate) async fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut loaded = Self::later(runtime, Bytes::new(), inspect(bytes)?)?;
        loaded.ready = Lazy::done(make(runtime, bytes, &loaded.inspection).await?);
        Ok(loaded)
    }

    /// Compiled and tested when it is first used.
    ///
    /// # Errors
    /// It is of another world.
    pub(crate) fn later(runtime: &Runtime, bytes: Bytes, inspection: Inspection) -> Result<Self, LoadError> {
        let manifest = &inspection.manifest;
        if manifest.kind != W::KIND {
            let (label, found, wanted) = (manifest.label(), manifest.kind.world(), W::KIND.world());
            return Err(LoadError::Manifest(format!("{label} is a {found}, not a {wanted}")));
        }
        let label = manifest.label().into();
        Ok(Self { label, runtime: runtime.clone(), ready: Lazy::later(bytes), inspection })
    }

    /// What was made of it, if it was used before.
    pub(crate) fn known(&self) -> Option<&Arc<Ready<W>>> {
        self.ready.get()
    }

    /// What is made of it, now unless that was done.
    ///
    /// # Errors
    /// It can't be used, and why.
    pub(crate) async fn ready(&self) -> Result<&Arc<Ready<W>>, PluginError> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let (runtime, inspection) = (self.runtime.clone(), self.inspection.clone());
        let make = |bytes: Bytes| async move { make(&runtime, &bytes, &inspection).await };
        Box::pin(self.ready.ready(&self.label, make)).await
    }

    /// A fresh instance.
    ///
    /// # Errors
    /// No slot is free, or the instance can't be made.
    pub(crate) async fn open(
        &self,
        context: CallContext,
    ) -> Result<(Session, Instance, &Arc<Ready<W>>), PluginError> {
        let ready = self.ready().await?;
        let limits = W::limits(&self.runtime.config);
        let mut session = Session::open(&self.runtime, &self.label, limits, context)?;
        let instance = instantiate(&mut session, &ready.pre, &ready.pace).await?;
        Ok((session, instance, ready))
    }

    /// The same with the bindings that are generated for the world.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) async fn bind<B>(
        &self,
        context: CallContext,
        bind: impl FnOnce(&W, &mut Store<State>, &Instance) -> Wasm<B>,
    ) -> Result<(Session, B), PluginError> {
        let (mut session, instance, ready) = self.open(context).await?;
        let bound = bind(&ready.world, &mut session.store, &instance);
        let bound = bound.map_err(|error| PluginError {
            plugin: self.label.clone(),
            export: "instantiate",
            fault: Fault::Instantiate(format!("{error:#}")),
        })?;
        Ok((session, bound))
    }

    /// What a fresh instance says of a configuration.
    ///
    /// # Errors
    /// The plugin failed.
    pub(crate) async fn check_config(&self, config: &[u8]) -> Result<Vec<ConfigProblem>, PluginError> {
        let context = CallContext { config: config.into(), ..CallContext::default() };
        let (mut session, instance, ready) = self.open(context).await?;
        let check = &ready.check_config;
        let (checked,) =
            guarded!(session, "check-config", check.call(&instance, &mut session.store, (config,)))?;
        Ok(checked.err().unwrap_or_default())
    }
}

impl<W: World> Ready<W> {
    /// Calls an export. The first call of an instance is tried at once, where that may be; what an earlier one left in it would be
    /// gone if this one were ended and made anew.
    ///
    /// # Errors
    /// The plugin failed.
    pub(crate) async fn call<'a, S: Signature>(
        &self,
        export: &Export<S>,
        session: &mut Session,
        instance: &mut Instance,
        params: impl Fn(&mut Session) -> S::Params<'a>,
    ) -> Result<S::Return, PluginError> {
        if session.spent.calls == 0 && session.is_quick && self.pace.is_quick() {
            let (started, given) = (Instant::now(), params(session));
            if let Some(outcome) = session.at_once(|store| export.call_now(instance, store, given)) {
                return session.end(S::NAME, started, Ok(outcome));
            }
            self.pace.slow();
            session.renew();
            session.spent.time += started.elapsed();
            *instance = instantiate(session, &self.pre, &self.pace).await?;
        }
        let given = params(session);
        guarded!(session, S::NAME, export.call(instance, &mut session.store, given))
    }
}

async fn make<W: World>(
    runtime: &Runtime,
    bytes: &[u8],
    inspection: &Inspection,
) -> Result<Arc<Ready<W>>, LoadError> {
    let manifest = &inspection.manifest;
    let world = |error| world_error(manifest, &error);
    let failed = |detail: String| LoadError::SelfTest { plugin: manifest.label(), detail };
    let component = compile(runtime, bytes, inspection)?;
    let mut linker = linker(runtime, &component, manifest)?;
    W::link(&mut linker).map_err(world)?;
    let pre = linker.instantiate_pre(&component).map_err(world)?;
    let (label, limits) = (manifest.label().into(), W::limits(&runtime.config));
    let mut session = Session::open(runtime, &label, limits, CallContext::default())
        .map_err(|error| failed(error.to_string()))?;
    let instance = pre.instantiate_async(&mut session.store).await.map_err(world)?;
    let found = W::find(&component, &pre, &instance, &mut session.store).map_err(world)?;
    let (described, check_config) = describe_and_test(&mut session, &component, &instance, manifest).await?;
    let description = serde_json::from_slice(&described)
        .map_err(|error| failed(format!("its description isn't JSON: {error}")))?;
    Ok(Arc::new(Ready { pre, pace: Pace::default(), description, check_config, world: found }))
}

/// What every plugin offers, whatever its world.
macro_rules! plugin {
    ($plugin:ident) => {
        impl std::fmt::Debug for $plugin {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($plugin)).field(&self.0.label).finish()
            }
        }

        impl $plugin {
            /// Loads a component and runs its self-test.
            ///
            /// # Errors
            /// Why it can't be loaded.
            pub async fn load(
                runtime: &$crate::engine::Runtime,
                bytes: &[u8],
            ) -> Result<Self, $crate::error::LoadError> {
                $crate::loaded::Loaded::load(runtime, bytes).await.map(Self)
            }

            /// One of the server's own: compiled and tested when it is first used.
            ///
            /// # Errors
            /// It is of another world.
            pub fn later(
                runtime: &$crate::engine::Runtime,
                bytes: bytes::Bytes,
                inspection: $crate::load::Inspection,
            ) -> Result<Self, $crate::error::LoadError> {
                $crate::loaded::Loaded::later(runtime, bytes, inspection).map(Self)
            }

            /// Compiles it now, unless that was done.
            ///
            /// # Errors
            /// It can't be used, and why.
            pub async fn warm(&self) -> Result<(), $crate::error::PluginError> {
                self.0.ready().await.map(|_| ())
            }

            /// What is known of it without running it.
            pub fn inspection(&self) -> &$crate::load::Inspection {
                &self.0.inspection
            }

            /// What it says of itself.
            pub fn manifest(&self) -> &$crate::manifest::Manifest {
                &self.0.inspection.manifest
            }

            /// `id version`.
            pub fn label(&self) -> &std::sync::Arc<str> {
                &self.0.label
            }

            /// What a fresh instance says of a configuration that its schema has accepted: nothing when it is good, else
            /// what is wrong, each with a pointer to the key.
            ///
            /// # Errors
            /// The plugin failed.
            pub async fn check_config(
                &self,
                config: &[u8],
            ) -> Result<Vec<$crate::bindings::common::ConfigProblem>, $crate::error::PluginError> {
                self.0.check_config(config).await
            }
        }
    };
}
pub(crate) use plugin;

/// A world whose functions are called through its generated bindings, and whose components have the limits of this name.
macro_rules! bound_world {
    ($world:ident, $indices:ident, $limits:ident) => {
        impl $crate::loaded::World for $indices {
            const KIND: $crate::manifest::Kind = $crate::manifest::Kind::$world;

            fn limits(config: &$crate::engine::RuntimeConfig) -> $crate::limits::Limits {
                config.$limits
            }

            fn link(linker: &mut wasmtime::component::Linker<State>) -> wasmtime::Result<()> {
                $world::add_to_linker::<_, wasmtime::component::HasSelf<State>>(linker, |state| state)
            }

            fn find(
                _: &wasmtime::component::Component,
                pre: &wasmtime::component::InstancePre<State>,
                instance: &wasmtime::component::Instance,
                store: &mut wasmtime::Store<State>,
            ) -> wasmtime::Result<Self> {
                let indices = Self::new(pre)?;
                indices.load(store, instance)?;
                Ok(indices)
            }
        }
    };
}
pub(crate) use bound_world;
