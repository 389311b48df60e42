//! The host's own cache of compiled code.
//!
//! A file is named by its source; the digest of its contents is in the store, never beside it.
//! So a file that was changed or half written is only a miss.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use wasmtime::Engine;
use wasmtime::component::Component;

use ironloom_types::CompiledRef;
use ironloom_types::ids::Digest;

/// The folder of compiled code.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder, and makes it where it isn't there.
    pub(crate) fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, compiled: &CompiledRef) -> PathBuf {
        self.folder.join(format!("{}-{}.cwasm", compiled.wasm.hex(), &compiled.engine.hex()[..16]))
    }

    /// Makes a file for code that is about to be compiled.
    pub(crate) fn draft(&self) -> std::io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.folder)
    }

    /// Keeps compiled code: reads what the worker has written into the file, and names it. It need not be synced:
    /// code that is lost is compiled again.
    pub(crate) fn keep(
        &self,
        mut draft: NamedTempFile,
        wasm: Digest,
        engine: Digest,
        bytes: u64,
    ) -> std::io::Result<CompiledRef> {
        let (mut hash, mut copied, mut part) = (Sha256::new(), 0, vec![0; 1 << 20]);
        loop {
            let read = draft.as_file_mut().read(&mut part)?;
            if read == 0 {
                break;
            }
            hash.update(&part[..read]);
            copied += read as u64;
        }
        if copied != bytes {
            return Err(std::io::Error::other(format!("the worker wrote {copied} of {bytes} bytes")));
        }
        let compiled = CompiledRef { wasm, engine, code: Digest(hash.finalize().into()) };
        draft.persist(self.path(&compiled)).map_err(|error| error.error)?;
        Ok(compiled)
    }

    /// Removes all code but this.
    pub(crate) fn retain(&self, keep: &[CompiledRef]) -> std::io::Result<()> {
        let keep: Vec<PathBuf> = keep.iter().map(|compiled| self.path(compiled)).collect();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !keep.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Loads compiled code, or finds that it isn't there, was changed, or is for another engine. Where it can't be read
    /// now, such as for want of file descriptors, it may be there all the same.
    pub(crate) fn get(
        &self,
        engine: &Engine,
        key: Digest,
        compiled: &CompiledRef,
    ) -> std::io::Result<Option<Component>> {
        if compiled.engine != key {
            return Ok(None);
        }
        let code = match std::fs::read(self.path(compiled)) {
            Ok(code) => code,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if Digest::of(&code) != compiled.code {
            tracing::warn!(file = %self.path(compiled).display(), "compiled code was changed; compiling again");
            return Ok(None);
        }
        Ok(match deserialize(engine, &code) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(file = %self.path(compiled).display(), %error, "compiled code doesn't load; compiling again");
                None
            }
        })
    }
}

/// Turns compiled code back into a component.
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` is sound for bytes that `Component::serialize` made, unchanged. That they are
    // unchanged was just checked: their SHA-256 digest is one that the caller has from the store, where it
    // was put when this host's own worker had handed over the code, and the same bytes that were digested are
    // used (not the file, which might change in between). That the worker made them with `serialize` is
    // trusted, not checked: whoever takes over the worker through a fault of the compiler chooses them.
    #[allow(unsafe_code, reason = "nothing else reads compiled code; its proof is above")]
    unsafe {
        Component::deserialize(engine, code)
    }
}
