//! What can be said on the command line. Parser, help and completions all
//! come from these types.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vm_runtime::{DEFAULT_MEMORY_BYTES, EngineKind, MEMORY_BYTES_MAX};

/// Exit status of hartloom's own errors.
pub(crate) const STATUS_OWN_ERROR: u8 = 125;

/// Exit statuses of what only prints.
macro_rules! statuses {
    () => {
        "\
Exit status:
  0    all was printed, or whoever reads it has seen enough
  125  usage, or output that cannot be written: a full disk, a closed file"
    };
}

macro_rules! program_statuses {
    () => {
        "
  126  the program was found but cannot run: not an RV64GC ELF, a shared library, damaged,
       a directory, unreadable
  127  the program was not found"
    };
}

macro_rules! run_statuses {
    () => {
        concat!(
            "\
Exit status of `run`:
  the program's own, or 128+N when signal N ended it: 139 is a segmentation fault
  125  hartloom itself failed: usage, too little memory or address space, a deadlocked
       program; or the program ended with 0, but what --strace or --stats say was lost",
            program_statuses!()
        )
    };
}

const HELP_AFTER: &str = concat!(
    "\
Examples:
  hartloom run ./hello                     run a static RV64GC program
  hartloom run --memory 64M ./sort in.txt  give it 64 MiB and an argument
  hartloom run --strace ./hello            show its system calls
  hartloom run --stats=json ./hello        what the run cost, as one line
  hartloom dump ./hello                    its instructions
  hartloom syscalls                        what programs can ask the kernel for
  source <(hartloom completions bash)      words complete in this shell

",
    run_statuses!()
);

const RUN_AFTER: &str = concat!(
    "\
Examples:
  hartloom run ./hello                     a static RV64GC program
  hartloom run ./sort --reverse in.txt     what follows the program is its own
  hartloom run --engine interp ./hello     interpret only
  hartloom run --memory 64M ./sort in.txt  with 64 MiB
  hartloom run --env-clear --env LANG=C ./hello
  hartloom run --strace ./hello 2>calls    show its system calls
  hartloom run --stats=json ./hello        what the run cost, as one line

Static programs come from `riscv64-linux-gnu-gcc -O2 -static hello.c -o hello`.
Standard input, output and error are the program's. A program can do what the
user who runs it can: this is no sandbox.

",
    run_statuses!()
);

const DUMP_AFTER: &str = concat!(
    "\
Examples:
  hartloom dump benches/guests/bin/hello.elf                            all instructions
  hartloom dump benches/guests/bin/hello.elf --addr 0x11000 --count 8   some of them
  hartloom dump benches/guests/bin/hello.elf --addr 0x11000 --clif --host
                                              what the compiler makes of them
  hartloom dump ./hello --function main       one function, where the program has
                                              names: a stripped one has none

Addresses are printed as objdump prints them, in hexadecimal without 0x; --addr
wants the 0x.

",
    statuses!(),
    ", or nothing to show there",
    program_statuses!()
);

const SYSCALLS_AFTER: &str = concat!(
    "\
Examples:
  hartloom syscalls                  number, name, class, what differs from Linux
  hartloom syscalls --markdown       the same as a page

",
    statuses!()
);

const COMPLETIONS_AFTER: &str = concat!(
    "\
Examples:
  source <(hartloom completions bash)     for this shell only
  hartloom completions bash > ~/.local/share/bash-completion/completions/hartloom
  hartloom completions zsh > ~/.zfunc/_hartloom
  hartloom completions fish > ~/.config/fish/completions/hartloom.fish
The directories must be there: `mkdir -p` makes them.

",
    statuses!()
);

/// Runs unmodified RV64GC Linux programs on x86-64.
#[derive(Debug, Parser)]
#[command(name = "hartloom", version, after_help = HELP_AFTER)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a program
    #[command(after_help = RUN_AFTER)]
    Run(RunArgs),
    /// Show the instructions of a program
    #[command(after_help = DUMP_AFTER)]
    Dump(DumpArgs),
    /// List the system calls that programs can make
    #[command(after_help = SYSCALLS_AFTER)]
    Syscalls {
        /// As the page docs/syscalls.md
        #[arg(long)]
        markdown: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_AFTER)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What executes the program
    #[arg(long, value_enum, default_value_t = EngineKind::default())]
    pub(crate) engine: EngineKind,

    /// Most memory that the program may map, 4G at most: bytes, or with K, M or G. The stack gets a quarter of it, 8M at most
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT_MEMORY_BYTES), allow_negative_numbers = true)]
    pub(crate) memory: Size,

    /// Show every system call on standard error
    #[arg(long)]
    pub(crate) strace: bool,

    /// Show time, system calls and engine counters on standard error at the end
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text"
    )]
    pub(crate) stats: Option<StatsFormat>,

    /// Set an environment variable for the program; others are passed on
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) env: Vec<OsString>,

    /// Pass on no environment variables but those of --env
    #[arg(long)]
    pub(crate) env_clear: bool,

    /// The program, a path, and its arguments: everything after it is its own
    #[arg(value_name = "PROG [ARGS]", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The program, a path
    pub(crate) program: PathBuf,

    /// Only this function
    #[arg(long, value_name = "NAME", conflicts_with = "addr")]
    pub(crate) function: Option<String>,

    /// Only from this address on: hexadecimal with 0x, decimal without
    #[arg(long, value_name = "ADDRESS", allow_negative_numbers = true)]
    pub(crate) addr: Option<Address>,

    /// Only so many instructions; 16 from an address on, unless said otherwise
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) count: Option<u64>,

    /// Also the compiler's intermediate code for the function or address
    #[arg(long)]
    pub(crate) clif: bool,

    /// Also the host code for the function or address
    #[arg(long)]
    pub(crate) host: bool,
}

/// How `--stats` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatsFormat {
    /// For people
    Text,
    /// One line of JSON
    Json,
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (shift, suffix) in [(30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let upper = text.to_ascii_uppercase();
        let (digits, shift) = match upper.as_bytes().last() {
            Some(b'K') => (&text[..text.len() - 1], 10),
            Some(b'M') => (&text[..text.len() - 1], 20),
            Some(b'G') => (&text[..text.len() - 1], 30),
            // Always too much, which is then what the message says.
            Some(b'T') => (&text[..text.len() - 1], 40),
            _ => (text, 0),
        };
        let digits_only = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|_| digits_only);
        let bytes = number.and_then(|number| number.checked_mul(1 << shift));
        let most = Size(MEMORY_BYTES_MAX);
        match bytes {
            None => Err(format!(
                "a size is a number of bytes, or one with K, M or G, such as 64M; {most} at most"
            )),
            Some(0) => Err(format!(
                "a program needs memory; the default is {}",
                Size(DEFAULT_MEMORY_BYTES)
            )),
            Some(bytes) if bytes > MEMORY_BYTES_MAX => Err(format!(
                "a program's address space has {most}, so give it {most} at most"
            )),
            Some(bytes) => Ok(Size(bytes)),
        }
    }
}

fn assignment(text: &str) -> Result<OsString, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.into()),
        _ => Err("an environment variable is set by NAME=VALUE".to_owned()),
    }
}

fn count(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|&number| number >= 1);
    let most = u64::MAX;
    number.ok_or_else(|| format!("--count is how many instructions to show, from 1 to {most}"))
}

/// An address, and what else it may have been meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) value: u64,
    /// A number without 0x, read in the way in which addresses are printed.
    pub(crate) as_printed: Option<u64>,
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let prefixed = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let hexadecimal = u64::from_str_radix(prefixed.unwrap_or(text), 16).ok();
        let value = match prefixed {
            Some(_) => hexadecimal,
            None => text.parse().ok(),
        };
        let as_printed = hexadecimal.filter(|_| prefixed.is_none());
        match (value, as_printed) {
            (Some(value), _) => Ok(Address { value, as_printed }),
            (None, Some(meant)) => Err(format!("without 0x it would be decimal: write {meant:#x}")),
            (None, None) => Err("an address is a number such as 0x11000".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_examples_and_statuses() {
        for verb in Flags::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let example = format!("hartloom {} ", verb.get_name());
            assert!(help.contains(&example), "{}: {help}", verb.get_name());
            assert!(help.contains("Exit status"), "{}: {help}", verb.get_name());
        }
    }

    #[test]
    fn sizes_parse_and_print() {
        let check = |text: &str, bytes| assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        check("4096", 4096);
        check("512M", 512 << 20);
        check("64k", 64 << 10);
        check("4G", 1 << 32);
        for bad in [
            "",
            "0",
            "0G",
            "M",
            "-1",
            "+5M",
            "5T",
            "1.5G",
            "5G",
            "99999999999999999999G",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        assert_eq!(Size(1 << 30).to_string(), "1G");
        assert_eq!(Size(4097).to_string(), "4097");
    }

    /// `1T` was told what a size looks like, but not that it is too much.
    #[test]
    fn sizes_that_are_too_large_say_what_is_not() {
        for large in ["5G", "1T", "4097M", "99999999999999999999G"] {
            let error = large.parse::<Size>().unwrap_err();
            assert!(error.contains("4G at most"), "{large}: {error}");
        }
    }

    #[test]
    fn addresses_are_hexadecimal_with_a_prefix_only() {
        let check = |text: &str, value, as_printed| {
            assert_eq!(text.parse(), Ok(Address { value, as_printed }), "{text}");
        };
        check("0x11000", 0x11000, None);
        check("0X1101c", 0x1101c, None);
        check("11000", 11000, Some(0x11000));
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert!(error("1101c").contains("write 0x1101c"));
        for bad in ["", "0x", "-1", "main", "0x1_0"] {
            assert!(error(bad).contains("such as 0x11000"), "{bad}");
        }
    }

    #[test]
    fn what_follows_the_program_is_its_own() {
        let flags = Flags::try_parse_from(["hartloom", "run", "--strace", "prog", "--stats", "-x"]);
        let Verb::Run(args) = flags.unwrap().verb else {
            panic!("not run")
        };
        assert_eq!(args.command, ["prog", "--stats", "-x"]);
        assert!(args.strace && args.stats.is_none());
        assert!(Flags::try_parse_from(["hartloom", "run", "--bogus", "prog"]).is_err());
        assert!(Flags::try_parse_from(["hartloom", "run"]).is_err());
        let flags = Flags::try_parse_from(["hartloom", "run", "--stats=json", "prog"]).unwrap();
        let Verb::Run(args) = flags.verb else {
            panic!("not run")
        };
        assert_eq!(args.stats, Some(StatsFormat::Json));
    }
}
