//! A process whose clocks are wrong.
//!
//! Programs ask the kernel for the time through code that it maps into each of them, the vDSO. In one
//! process alone that code is replaced: by a system call and an addition. So its clocks jump, also those
//! that nobody can set, and nothing else of the machine notices. A process that is started anew has the
//! right time again.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::process::Signal;

use super::process::PodProcess;
use super::{FaultError, Undo};

/// The function that the time is read with.
const FUNCTION: &str = "__vdso_clock_gettime";
/// How often is tried to find no thread in that code.
const TRIES: usize = 200;

/// Which clocks are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clocks {
    /// The time of day, as where somebody set it. Undone it goes back.
    Wall,
    /// All that count since the machine started, as after a pause of the whole machine. They never go
    /// back: undone, the process is killed.
    SinceStart,
}

/// Puts clocks of a process forward by so many seconds, until undone or until it ends.
///
/// # Errors
/// The process has ended, the machine is of another architecture, or its kernel allows no such thing.
pub fn forward(
    process: PodProcess,
    clocks: Clocks,
    seconds: u32,
) -> Result<Undo<'static>, FaultError> {
    if !cfg!(target_arch = "x86_64") {
        let why = "the clock of a process is changed on x86-64 only";
        return Err(FaultError::Nothing(why.to_owned()));
    }
    let code = shifted(clocks, seconds);
    let before = replace(&process, &code)?;
    let what = format!("clocks of process {} are {seconds} s fast", process.pid);
    Ok(Undo::new(what, move || {
        Box::pin(async move {
            let undone = match clocks {
                Clocks::Wall => replace(&process, &before).map(drop),
                Clocks::SinceStart => process.kill(),
            };
            match undone {
                // It has ended, and with it the fault.
                Err(_) if process.signal(Signal::CONT).is_err() => Ok(()),
                undone => undone,
            }
        })
    }))
}

/// `clock_gettime` by a system call, with clocks so many seconds fast.
fn shifted(clocks: Clocks, seconds: u32) -> Vec<u8> {
    // The time of day is clock 0: jump over the addition unless it is that, or if it is.
    let over = match clocks {
        Clocks::Wall => 0x75,
        Clocks::SinceStart => 0x74,
    };
    let mut code = vec![
        0xb8, 228, 0, 0, 0, // mov eax, 228: the call's number
        0x0f, 0x05, // syscall
        0x85, 0xc0, // test eax, eax
        0x75, 0x0b, // jnz to the end
        0x85, 0xff, // test edi, edi: which clock
        over, 0x07, // jnz or jz to the end
        0x48, 0x81, 0x06, // add qword [rsi], …
    ];
    // The instruction takes a signed number.
    code.extend(seconds.min(i32::MAX.unsigned_abs()).to_le_bytes());
    code.push(0xc3); // ret
    code
}

/// Writes code where the function begins, while no thread is in it; returns what was there.
fn replace(process: &PodProcess, code: &[u8]) -> Result<Vec<u8>, FaultError> {
    let pid = process.pid;
    let failed = |what: &str| {
        let what = format!("{what} of process {pid}");
        move |source| FaultError::Process { what, source }
    };
    let (from, to) = mapped(pid)?;
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"));
    let mut memory = memory.map_err(failed("memory"))?;
    let mut image = vec![0; usize::try_from(to - from).unwrap_or(0)];
    memory
        .read_exact_at(&mut image, from)
        .map_err(failed("vDSO"))?;
    let offset = elf::function(&image, FUNCTION)
        .ok_or_else(|| FaultError::Nothing(format!("the vDSO has no {FUNCTION}")))?;
    let at = from + offset;
    let mut before = vec![0; code.len()];
    memory
        .read_exact_at(&mut before, at)
        .map_err(failed("vDSO"))?;
    for _ in 0..TRIES {
        process.signal(Signal::STOP)?;
        let outcome = stopped_outside(pid, from..to).and_then(|outside| {
            if outside {
                memory.seek(SeekFrom::Start(at)).map_err(failed("memory"))?;
                memory.write_all(code).map_err(failed("vDSO"))?;
            }
            Ok(outside)
        });
        process.signal(Signal::CONT)?;
        if outcome? {
            return Ok(before);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    Err(FaultError::Nothing(format!(
        "a thread of process {pid} reads the clock all the time"
    )))
}

/// Where the vDSO is.
fn mapped(pid: i32) -> Result<(u64, u64), FaultError> {
    let mut text = String::new();
    let path = format!("/proc/{pid}/maps");
    let read = File::open(&path).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|source| FaultError::Process { what: path, source })?;
    let found = text
        .lines()
        .find(|line| line.ends_with("[vdso]"))
        .and_then(|line| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            Some((
                u64::from_str_radix(from, 16).ok()?,
                u64::from_str_radix(to, 16).ok()?,
            ))
        });
    found.ok_or_else(|| FaultError::Nothing(format!("process {pid} has no vDSO")))
}

/// Whether all threads stand still, none of them there.
fn stopped_outside(pid: i32, range: std::ops::Range<u64>) -> Result<bool, FaultError> {
    let failed = |source| FaultError::Process {
        what: format!("threads of process {pid}"),
        source,
    };
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
        let path = thread.map_err(failed)?.path().join("syscall");
        let text = std::fs::read_to_string(path).map_err(failed)?;
        // Its last word is where it is; `running` where that is not known.
        let at = text
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        if at.is_none_or(|at| range.contains(&at)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// As much of ELF as finds a function in a small image.
mod elf {
    fn number<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
        image.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn word(image: &[u8], at: usize) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(number(image, at)?)).ok()
    }

    fn short(image: &[u8], at: usize) -> Option<usize> {
        Some(u16::from_le_bytes(number(image, at)?).into())
    }

    fn half(image: &[u8], at: usize) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(number(image, at)?)).ok()
    }

    /// Offset of a function, by the table of dynamic symbols.
    pub fn function(image: &[u8], name: &str) -> Option<u64> {
        let (sections, size, count) =
            (word(image, 0x28)?, short(image, 0x3a)?, short(image, 0x3c)?);
        let section = |index: usize| Some(sections + size * (index < count).then_some(index)?);
        (0..count).find_map(|index| {
            let table = section(index)?;
            // SHT_DYNSYM.
            if half(image, table + 4)? != 11 {
                return None;
            }
            let (symbols, length) = (word(image, table + 0x18)?, word(image, table + 0x20)?);
            let names = word(image, section(half(image, table + 0x28)?)? + 0x18)?;
            (0..length / 24).find_map(|index| {
                let symbol = symbols + index * 24;
                let at = names + half(image, symbol)?;
                let bytes = image.get(at..at + name.len() + 1)?;
                let found = bytes.strip_suffix(&[0]) == Some(name.as_bytes());
                found.then(|| word(image, symbol + 8))?.map(|v| v as u64)
            })
        })
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::faults::process::by_id;

    /// A program that tells both times again and again.
    const SCRIPT: &str = "import time\nwhile True:\n print(int(time.clock_gettime(time.CLOCK_BOOTTIME)), int(time.time()), flush=True)\n time.sleep(0.01)";

    #[tokio::test]
    async fn only_that_process_sees_another_time_and_only_until_it_is_undone() {
        use rustix::time::{ClockId, clock_gettime};
        use std::io::BufRead as _;
        let child = std::process::Command::new("python3")
            .args(["-c", SCRIPT])
            .stdout(std::process::Stdio::piped())
            .spawn();
        // Where there is none, the scenario on a cluster shows it.
        let Ok(mut child) = child else { return };
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let own = [ClockId::Boottime, ClockId::Realtime];
        // Which of the two is ahead, at the next look after a change; none at the end.
        let mut ahead = || -> Option<[bool; 2]> {
            let line = lines.next()?.unwrap();
            let mut told = line.split(' ').map(|word| word.parse::<i64>().unwrap());
            Some(own.map(|clock| told.next().unwrap() - clock_gettime(clock).tv_sec > 3500))
        };
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(ahead(), Some([false, false]));
        let wall = forward(by_id(pid).unwrap(), Clocks::Wall, 3600).unwrap();
        while ahead() != Some([false, true]) {}
        wall.undo().await.unwrap();
        while ahead() != Some([false, false]) {}
        let others = forward(by_id(pid).unwrap(), Clocks::SinceStart, 3600).unwrap();
        while ahead() != Some([true, false]) {}
        others.undo().await.unwrap();
        while ahead().is_some() {}
        assert!(!child.wait().unwrap().success());
    }
}
