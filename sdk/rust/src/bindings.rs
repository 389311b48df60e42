//! What wit-bindgen makes of the interfaces: one module for what an app may call, one for each role.
//!
//! The roles' modules take their types from `platform`, so that a batch is the same type everywhere, and
//! their export macros are called by [`app!`](crate::app) in the crate of the app.
#![allow(missing_docs, unsafe_code, clippy::all)]

pub mod state {
    // Borrowed parameters: keys and values then go out of one buffer, without a string for each.
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package ironloom:sdk;
            world state {
                import ironloom:state/state@0.1.0;
            }
        ",
        world: "ironloom:sdk/state",
        ownership: Borrowing { duplicate_if_necessary: true },
        generate_all,
    });
}

pub mod platform {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "ironloom:platform/platform",
        with: { "ironloom:state/state@0.1.0": crate::bindings::state::ironloom::state::state },
        generate_all,
        generate_unused_types: true,
    });
}

pub mod readings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "ironloom:platform/readings",
        with: { "ironloom:types/types@0.1.0": crate::bindings::platform::ironloom::types::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_readings",
        default_bindings_module: "::ironloom_sdk::__bindings::readings",
        runtime_path: "::ironloom_sdk::__wit_bindgen::rt",
    });
}

pub mod timers {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "ironloom:platform/timers",
        with: { "ironloom:types/types@0.1.0": crate::bindings::platform::ironloom::types::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_timers",
        default_bindings_module: "::ironloom_sdk::__bindings::timers",
        runtime_path: "::ironloom_sdk::__wit_bindgen::rt",
    });
}

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "ironloom:platform/lifecycle",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        default_bindings_module: "::ironloom_sdk::__bindings::lifecycle",
        runtime_path: "::ironloom_sdk::__wit_bindgen::rt",
    });
}
