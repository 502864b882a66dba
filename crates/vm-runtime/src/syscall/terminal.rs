//! Terminals, and the other questions that `ioctl` asks.

use std::sync::Arc;

use rustix::io::Errno;
use rustix::termios::{self, SpecialCodeIndex as Code};

use super::uptr::{Record, UserPtr, half};
use super::{Call, Next, Reply};
use crate::kernel::Kernel;

/// `struct termios` of the kernel: four words of modes, the line discipline,
/// and 19 special codes, of which 17 have a meaning.
const TERMIOS_BYTES: usize = 36;
const SPECIAL_CODES: [Code; 17] = [
    Code::VINTR,
    Code::VQUIT,
    Code::VERASE,
    Code::VKILL,
    Code::VEOF,
    Code::VTIME,
    Code::VMIN,
    Code::VSWTC,
    Code::VSTART,
    Code::VSTOP,
    Code::VSUSP,
    Code::VEOL,
    Code::VREPRINT,
    Code::VDISCARD,
    Code::VWERASE,
    Code::VLNEXT,
    Code::VEOL2,
];

pub(super) fn ioctl(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const TCGETS: u32 = 0x5401;
    const TCSETS: u32 = 0x5402;
    const TCSETSW: u32 = 0x5403;
    const TCSETSF: u32 = 0x5404;
    const TIOCGPGRP: u32 = 0x540f;
    const TIOCGWINSZ: u32 = 0x5413;
    const FIONREAD: u32 = 0x541b;
    const FIONBIO: u32 = 0x5421;
    const FIONCLEX: u32 = 0x5450;
    const FIOCLEX: u32 = 0x5451;

    let [fd, request, arg, ..] = *call.args;
    let file = Arc::clone(p.files.get(fd)?);
    let arg = UserPtr(arg);
    match request as u32 {
        TCGETS => {
            let modes = termios::tcgetattr(&file)?;
            let mut record = Record::<TERMIOS_BYTES>::new()
                .u32(0, modes.input_modes.bits())
                .u32(4, modes.output_modes.bits())
                .u32(8, modes.control_modes.bits())
                .u32(12, modes.local_modes.bits())
                .bytes(16, &[modes.line_discipline]);
            for (i, code) in SPECIAL_CODES.into_iter().enumerate() {
                record = record.bytes(17 + i, &[modes.special_codes[code]]);
            }
            arg.write(&p.memory, &record.0)?;
        }
        request @ (TCSETS | TCSETSW | TCSETSF) => {
            use rustix::termios::{
                ControlModes, InputModes, LocalModes, OptionalActions, OutputModes,
            };
            let wanted = arg.read::<TERMIOS_BYTES>(&p.memory)?;
            let mut modes = termios::tcgetattr(&file)?;
            modes.input_modes = InputModes::from_bits_retain(half(&wanted, 0));
            modes.output_modes = OutputModes::from_bits_retain(half(&wanted, 4));
            modes.control_modes = ControlModes::from_bits_retain(half(&wanted, 8));
            modes.local_modes = LocalModes::from_bits_retain(half(&wanted, 12));
            for (i, code) in SPECIAL_CODES.into_iter().enumerate() {
                modes.special_codes[code] = wanted[17 + i];
            }
            let when = match request {
                TCSETS => OptionalActions::Now,
                TCSETSW => OptionalActions::Drain,
                _ => OptionalActions::Flush,
            };
            termios::tcsetattr(&file, when, &modes)?;
        }
        TIOCGWINSZ => {
            let size = termios::tcgetwinsize(&file)?;
            let record = Record::<8>::new()
                .u16(0, size.ws_row)
                .u16(2, size.ws_col)
                .u16(4, size.ws_xpixel)
                .u16(6, size.ws_ypixel);
            arg.write(&p.memory, &record.0)?;
        }
        TIOCGPGRP => {
            let group = termios::tcgetpgrp(&file)?;
            arg.store::<u32>(&p.memory, group.as_raw_nonzero().get().cast_unsigned())?;
        }
        FIONREAD => {
            let bytes = rustix::io::ioctl_fionread(&file)?;
            arg.store::<u32>(&p.memory, u32::try_from(bytes).unwrap_or(i32::MAX as u32))?;
        }
        FIONBIO => {
            let on = arg.load::<u32>(&p.memory)? != 0;
            rustix::io::ioctl_fionbio(&file, on)?;
            file.set_nonblocking(on);
        }
        request @ (FIOCLEX | FIONCLEX) => p.files.set_close_on_exec(fd, request == FIOCLEX)?,
        _ => return Err(Errno::NOTTY),
    }
    Ok(Next::Done(0))
}
