//! Work that takes long, or may wait for a disk, beside the threads that others wait for. All rooms use the function
//! that the sandbox has for it.

pub(crate) use ironloom_sandbox::aside;
