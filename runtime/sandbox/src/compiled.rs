//! The host's own cache of compiled code.
//!
//! A file is named by what it was made from; what it must hold stands in the store, never beside it.
//! So a file that was changed or half written is no more than a miss.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use ironloom_types::CompiledRef;
use ironloom_types::ids::Digest;

/// The folder of compiled code.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder, and makes it where it isn't there.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, compiled: &CompiledRef) -> PathBuf {
        self.folder.join(format!("{}-{}.cwasm", compiled.wasm.hex(), &compiled.engine.hex()[..16]))
    }

    /// Keeps compiled code. It need not be synced: code that is lost is compiled again.
    pub fn put(&self, compiled: &CompiledRef, code: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(code)?;
        file.persist(self.path(compiled)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes all code but this.
    pub fn retain(&self, keep: &[CompiledRef]) -> std::io::Result<()> {
        let keep: Vec<PathBuf> = keep.iter().map(|compiled| self.path(compiled)).collect();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !keep.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Loads compiled code, or finds that it isn't there, was changed, or is for another engine.
    pub fn get(&self, engine: &Engine, key: Digest, compiled: &CompiledRef) -> Option<Component> {
        if compiled.engine != key {
            return None;
        }
        let code = std::fs::read(self.path(compiled)).ok()?;
        if Digest::of(&code) != compiled.code {
            tracing::warn!(file = %self.path(compiled).display(), "compiled code was changed; compiling again");
            return None;
        }
        match deserialize(engine, &code) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(file = %self.path(compiled).display(), %error, "compiled code doesn't load; compiling again");
                None
            }
        }
    }
}

/// Turns compiled code back into a component.
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` is sound for bytes that `Component::serialize` made, unchanged. These
    // are such bytes: their SHA-256 digest was just found equal to one that the caller has from the
    // store, where it was put when this host's own worker had handed over the code, and the same
    // bytes that were digested are used (not the file, which might change in between).
    #[allow(unsafe_code)]
    unsafe {
        Component::deserialize(engine, code)
    }
}
