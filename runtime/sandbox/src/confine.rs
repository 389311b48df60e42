//! A subprocess that limits itself before it reads bytes that nobody vouches for, so that it can't take more than itself
//! down.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use landlock::{ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetStatus, Scope};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// The time for which one may see a thread that has ended already, and much more.
const ENDING: Duration = Duration::from_secs(1);

/// The error of a subprocess that could not be limited.
pub type NotConfined = Box<dyn std::error::Error>;

/// Limits of a subprocess of the server.
#[derive(Clone, Copy, Debug)]
pub struct Confinement {
    /// The server's process id: the subprocess ends with it.
    pub server: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Seconds of the CPU's time.
    pub cpu: u64,
    /// Bytes of a file that it may write.
    pub file: u64,
    pub descriptors: u64,
    /// It may start threads.
    pub threads: bool,
    /// The priority: higher is lower.
    pub nice: i32,
    /// It runs only while nobody else wants its processor.
    pub idle: bool,
}

impl Confinement {
    /// Limits this process.
    pub fn limit(&self) -> Result<(), NotConfined> {
        // It ends with the server. A server that has ended already sends no signal.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid().map(Pid::as_raw_nonzero).map(|pid| i64::from(pid.get()))
            != i64::try_from(self.server).ok()
        {
            return Err("the server has ended".into());
        }
        // When memory runs out, the kernel kills this process rather than the server.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        // Data, not address space: the pool reserves much of that and touches none.
        limit(Resource::Data, self.memory, self.memory)?;
        // The signal comes at the first, the end at the second.
        limit(Resource::Cpu, self.cpu, self.cpu + 5)?;
        limit(Resource::Core, 0, 0)?;
        limit(Resource::Fsize, self.file, self.file)?;
        limit(Resource::Nofile, self.descriptors, self.descriptors)?;
        if !self.threads {
            // No thread and no process is started any more.
            limit(Resource::Nproc, 0, 0)?;
        }
        // The server comes first.
        if self.idle {
            stand_back();
        }
        let _ = rustix::process::nice(self.nice);
        Ok(())
    }
}

/// Runs this thread, and those that it starts, behind all others. With a low priority alone it would keep its processor for some
/// milliseconds while somebody wants it. A kernel that refuses leaves it at that priority.
fn stand_back() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
}

/// Sets a limit, unless whoever has started the server has set a lower one: that can't be raised.
fn limit(resource: Resource, current: u64, maximum: u64) -> Result<(), NotConfined> {
    let given = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(current.min(given)), maximum: Some(maximum.min(given)) };
    Ok(setrlimit(resource, limit)?)
}

/// Has the kernel refuse all files and connections from here on to this process, and more privileges for good. An older kernel
/// does as much of it as it can; returns whether this one does it all.
///
/// # Errors
/// There are other threads: the kernel locks in this one, and those that it starts.
pub fn lock_in() -> Result<bool, NotConfined> {
    wait_for_the_last_thread()?;
    let abi = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset == RulesetStatus::FullyEnforced && status.no_new_privs && is_locked_in())
}

/// Ready once there is no other thread.
fn wait_for_the_last_thread() -> Result<(), NotConfined> {
    let begun = Instant::now();
    while std::fs::read_dir("/proc/self/task")?.count() > 1 {
        if begun.elapsed() > ENDING {
            return Err("it has further threads, which would not be locked in".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Tries what the kernel has promised to refuse.
fn is_locked_in() -> bool {
    let is_refused =
        |tried: std::io::Result<()>| tried.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    is_refused(File::open("/proc/self/exe").map(drop))
        && is_refused(TcpStream::connect((Ipv4Addr::LOCALHOST, 1)).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_other_threads_isnt_locked_in_in_part() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || ended.recv().is_ok());
        let error = lock_in().unwrap_err().to_string();
        assert!(error.contains("further threads"), "{error}");
        File::open("/proc/self/exe").unwrap();
        drop(end);
        other.join().unwrap();
    }
}
