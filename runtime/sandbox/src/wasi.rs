//! The WASI baseline: what every toolchain imports without asking. Time stands still, random numbers
//! come from a key, there are no files, no sockets, no environment and no input, and what is printed
//! goes to the app's log.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtx, WasiCliCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::p2::{DynOutputStream, DynPollable, Pollable, subscribe};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtx, WasiSocketsCtxView};
use wasmtime_wasi::{I32Exit, async_trait};
use wasmtime_wasi_io::bindings::wasi::io;

use super::app_log::{AppLog, LogSource, Printer};
use super::host::Host;
use ironloom_types::clock::{SECOND, Timestamp};

/// The most random bytes of one call.
const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// An app tried to wait.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("an app can't sleep: set a timer")]
pub(crate) struct Sleep;

/// An app asked for too many random bytes at once.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} random bytes were requested at once; at most {MAX_RANDOM_BYTES} are allowed")]
pub(crate) struct TooManyRandomBytes(u64);

/// The baseline's part of the store's data.
pub(crate) struct Context {
    now: Timestamp,
    random: ChaCha20Rng,
    insecure: ChaCha20Rng,
    /// Seeds hash maps. It comes from the key, so that nobody can choose names that collide in them.
    insecure_seed: (u64, u64),
    cli: WasiCliCtx,
    filesystem: WasiFilesystemCtx,
    /// Made when first asked for, which few apps do.
    sockets: Option<WasiSocketsCtx>,
}

impl Context {
    /// At this time, with the random numbers of this key.
    pub(crate) fn new(now: Timestamp, seed: [u8; 32]) -> Self {
        let random = ChaCha20Rng::from_seed(seed);
        let mut insecure = random.clone();
        insecure.set_stream(1);
        let mut seeds = random.clone();
        seeds.set_stream(2);
        let insecure_seed = (seeds.next_u64(), seeds.next_u64());
        // The default is empty: no arguments, no environment, stdin at its end.
        Self {
            now,
            random,
            insecure,
            insecure_seed,
            cli: WasiCliCtx::default(),
            filesystem: WasiFilesystemCtx::default(),
            sockets: None,
        }
    }
}

/// Offers all of the baseline, [`BASELINE`](ironloom_types::interfaces::BASELINE).
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<_, Io>(linker, io_view)?;
    io::poll::add_to_linker::<_, Io>(linker, io_view)?;
    io::streams::add_to_linker::<_, Io>(linker, io_view)?;

    clocks::wall_clock::add_to_linker::<_, Time<'static>>(linker, time_view)?;
    clocks::monotonic_clock::add_to_linker::<_, Time<'static>>(linker, time_view)?;
    random::random::add_to_linker::<_, Random<'static>>(linker, random_view)?;
    random::insecure::add_to_linker::<_, Random<'static>>(linker, random_view)?;
    random::insecure_seed::add_to_linker::<_, Random<'static>>(linker, random_view)?;
    cli::exit::add_to_linker::<_, Print<'static>>(linker, print_view)?;
    cli::stdout::add_to_linker::<_, Print<'static>>(linker, print_view)?;
    cli::stderr::add_to_linker::<_, Print<'static>>(linker, print_view)?;

    cli::environment::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, filesystem_view)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, filesystem_view)?;
    let network = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<_, WasiSockets>(linker, &network, sockets_view)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, sockets_view)?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, sockets_view)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(linker, sockets_view)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, sockets_view)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(linker, sockets_view)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(linker, sockets_view)?;
    Ok(())
}

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

fn io_view(host: &mut Host) -> &mut ResourceTable {
    &mut host.called().table
}

fn cli_view(host: &mut Host) -> WasiCliCtxView<'_> {
    let host = host.called();
    WasiCliCtxView { ctx: &mut host.wasi.cli, table: &mut host.table }
}

fn filesystem_view(host: &mut Host) -> WasiFilesystemCtxView<'_> {
    let host = host.called();
    WasiFilesystemCtxView { ctx: &mut host.wasi.filesystem, table: &mut host.table }
}

fn sockets_view(host: &mut Host) -> WasiSocketsCtxView<'_> {
    let host = host.called();
    WasiSocketsCtxView { ctx: host.wasi.sockets.get_or_insert_default(), table: &mut host.table }
}

struct Time<'a> {
    now: Timestamp,
    table: &'a mut ResourceTable,
}

impl HasData for Time<'static> {
    type Data<'a> = Time<'a>;
}

fn time_view(host: &mut Host) -> Time<'_> {
    let host = host.called();
    Time { now: host.wasi.now, table: &mut host.table }
}

impl clocks::wall_clock::Host for Time<'_> {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let Timestamp(now) = self.now;
        let nanoseconds = (now % SECOND) as u32;
        Ok(clocks::wall_clock::Datetime { seconds: now / SECOND, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 1 })
    }
}

/// Always ready: time stands still, so that only what is due now can be waited for.
struct Due;

#[async_trait]
impl Pollable for Due {
    async fn ready(&mut self) {}
}

impl clocks::monotonic_clock::Host for Time<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.now.0)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_duration(when.saturating_sub(self.now.0))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        if duration > 0 {
            return Err(Sleep.into());
        }
        let due = self.table.push(Due)?;
        subscribe(self.table, due)
    }
}

struct Random<'a> {
    secure: &'a mut ChaCha20Rng,
    insecure: &'a mut ChaCha20Rng,
    seed: (u64, u64),
}

impl HasData for Random<'static> {
    type Data<'a> = Random<'a>;
}

fn random_view(host: &mut Host) -> Random<'_> {
    let host = host.called();
    let seed = host.wasi.insecure_seed;
    Random { secure: &mut host.wasi.random, insecure: &mut host.wasi.insecure, seed }
}

fn bytes(random: &mut ChaCha20Rng, length: u64) -> wasmtime::Result<Vec<u8>> {
    if length > MAX_RANDOM_BYTES {
        return Err(TooManyRandomBytes(length).into());
    }
    let mut bytes = vec![0; usize::try_from(length)?];
    random.fill_bytes(&mut bytes);
    Ok(bytes)
}

impl random::random::Host for Random<'_> {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(self.secure, length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.secure.next_u64())
    }
}

impl random::insecure::Host for Random<'_> {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(self.insecure, length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.insecure.next_u64())
    }
}

impl random::insecure_seed::Host for Random<'_> {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(self.seed)
    }
}

struct Print<'a> {
    log: &'a Arc<Mutex<AppLog>>,
    table: &'a mut ResourceTable,
}

impl HasData for Print<'static> {
    type Data<'a> = Print<'a>;
}

fn print_view(host: &mut Host) -> Print<'_> {
    let host = host.called();
    Print { log: &host.log, table: &mut host.table }
}

impl Print<'_> {
    fn stream(&mut self, source: LogSource) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Printer { log: Arc::clone(self.log), source });
        Ok(self.table.push(stream)?)
    }
}

impl cli::stdout::Host for Print<'_> {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.stream(LogSource::Stdout)
    }
}

impl cli::stderr::Host for Print<'_> {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.stream(LogSource::Stderr)
    }
}

impl cli::exit::Host for Print<'_> {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(I32Exit(i32::from(status.is_err()))))
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(I32Exit(i32::from(code))))
    }
}
