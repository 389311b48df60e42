//! The host's side of the interfaces in `wit/`, generated.
//!
//! The platform world has all imports; each role is a world of its own with one export, since an
//! app has any of them and the host looks each up by itself.

/// The interfaces that apps may call.
pub(crate) mod platform {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ironloom:platform/platform",
        imports: {
            // A miss in the state cache waits for the store; nothing else ever waits.
            "ironloom:state/state": async | trappable,
            default: trappable,
        },
    });
}

/// The role that takes readings.
pub(crate) mod readings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ironloom:platform/readings",
        with: { "ironloom:types/types@0.1.0": super::platform::ironloom::types::types },
        exports: { default: async },
    });
}

/// The role that has timers.
pub(crate) mod timers {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ironloom:platform/timers",
        with: { "ironloom:types/types@0.1.0": super::platform::ironloom::types::types },
        exports: { default: async },
    });
}

/// The role that brings state from one version's form into the next one's.
pub(crate) mod lifecycle {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ironloom:platform/lifecycle",
        exports: { default: async },
    });
}

pub(crate) use platform::ironloom::types::types;
