//! The macro that makes an app of a type.

const VERSION_LENGTH: usize = env!("CARGO_PKG_VERSION").len();

/// This SDK's version, as `app!` stamps it into each component.
#[doc(hidden)]
pub const __VERSION: [u8; VERSION_LENGTH] = {
    let text = env!("CARGO_PKG_VERSION").as_bytes();
    let mut version = [0; VERSION_LENGTH];
    let mut i = 0;
    while i < VERSION_LENGTH {
        version[i] = text[i];
        i += 1;
    }
    version
};

/// Makes an app of a type that implements the traits of the roles it names: `readings` ([`Readings`]), `timers`
/// ([`Timers`]), `lifecycle` ([`Lifecycle`]).
///
/// Only the named roles are exported, so name those that the manifest uses, no more and no less. One crate is one
/// app: use it once.
///
/// [`Readings`]: crate::Readings
/// [`Timers`]: crate::Timers
/// [`Lifecycle`]: crate::Lifecycle
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// struct Pigs;
/// ironloom_sdk::app!(Pigs: readings, timers);
///
/// impl Readings for Pigs {
///     fn consume(batch: &Batch) -> Result<(), Failure> {
///         log::info!("{} readings", batch.len());
///         Ok(())
///     }
/// }
///
/// impl Timers for Pigs {
///     fn fire(timer: &str, _due: Timestamp) -> Result<(), Failure> {
///         log::info!("time for {timer}");
///         Ok(())
///     }
/// }
/// ```
///
/// A role without its trait doesn't compile:
///
/// ```compile_fail
/// struct Pigs;
/// ironloom_sdk::app!(Pigs: readings);
/// ```
#[macro_export]
macro_rules! app {
    ($app:ty: $($role:ident),+ $(,)?) => {
        const _: () = {
            struct Exported;
            $($crate::__export!($role, $app, Exported);)+

            #[cfg(target_family = "wasm")]
            #[used]
            #[allow(unsafe_code, reason = "a section of its own in the component, which nothing links against")]
            #[unsafe(link_section = "ironloom-sdk")]
            static VERSION: [u8; $crate::__VERSION.len()] = $crate::__VERSION;
        };
    };
}

/// Exports one role: a local type forwards to the app's trait. Natively there is nobody to export to, and the
/// names of the exports are none that a native linker takes: there the forwarding is only named, so that what the
/// app keeps private counts as used.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (readings, $app:ty, $exported:ident) => {
        impl $crate::__bindings::readings::exports::ironloom::feeds::readings::Guest for $exported {
            fn consume(
                batch: $crate::__bindings::platform::ironloom::types::types::Batch,
            ) -> $crate::__exports::Consumed {
                $crate::__exports::consume::<$app>(batch)
            }
        }
        #[cfg(target_family = "wasm")]
        $crate::__bindings::readings::export_readings!(
            $exported with_types_in $crate::__bindings::readings
        );
        #[cfg(not(target_family = "wasm"))]
        const _: fn($crate::__bindings::platform::ironloom::types::types::Batch) -> $crate::__exports::Consumed =
            <$exported as $crate::__bindings::readings::exports::ironloom::feeds::readings::Guest>::consume;
    };
    (timers, $app:ty, $exported:ident) => {
        impl $crate::__bindings::timers::exports::ironloom::timers::timers::Guest for $exported {
            fn fire(timer: ::std::string::String, due: u64) -> $crate::__exports::Fired {
                $crate::__exports::fire::<$app>(timer, due)
            }
        }
        #[cfg(target_family = "wasm")]
        $crate::__bindings::timers::export_timers!($exported with_types_in $crate::__bindings::timers);
        #[cfg(not(target_family = "wasm"))]
        const _: fn(::std::string::String, u64) -> $crate::__exports::Fired =
            <$exported as $crate::__bindings::timers::exports::ironloom::timers::timers::Guest>::fire;
    };
    (lifecycle, $app:ty, $exported:ident) => {
        impl $crate::__bindings::lifecycle::exports::ironloom::lifecycle::migration::Guest for $exported {
            fn migrate(
                previous: ::std::string::String,
                resume: ::std::option::Option<::std::vec::Vec<u8>>,
            ) -> $crate::__exports::Migrated {
                $crate::__exports::migrate::<$app>(previous, resume)
            }
        }
        #[cfg(target_family = "wasm")]
        $crate::__bindings::lifecycle::export_lifecycle!($exported with_types_in $crate::__bindings::lifecycle);
        #[cfg(not(target_family = "wasm"))]
        const _: fn(
            ::std::string::String,
            ::std::option::Option<::std::vec::Vec<u8>>,
        ) -> $crate::__exports::Migrated =
            <$exported as $crate::__bindings::lifecycle::exports::ironloom::lifecycle::migration::Guest>::migrate;
    };
    ($role:ident, $app:ty, $exported:ident) => {
        ::std::compile_error!(::std::concat!(
            "there is no role `", ::std::stringify!($role), "`: an app has `readings`, `timers` or `lifecycle`"
        ));
    };
}
