//! Classic BPF: the little machine for which libpcap compiles a filter.
//!
//! The instructions are those of the kernel's `<linux/filter.h>`, without its extensions: a program is a list of
//! `(code, jt, jf, k)`, with an accumulator, an index register and sixteen words of scratch memory. A program is checked
//! once, as the kernel checks it; a checked program ends, touches nothing but its packet and its memory, and needs no
//! further look. Jumps only go forward, so its length bounds its run.

use thiserror::Error;

/// Most instructions of a program, as of the kernel (BPF_MAXINSNS).
pub const LONGEST: usize = 4096;

/// Words of scratch memory (BPF_MEMWORDS).
const MEMORY: usize = 16;

/// Bytes of an instruction: code u16, jt u8, jf u8, k u32, in this machine's byte order.
const BYTES: usize = 8;

/// Why a program is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Wrong {
    /// No instruction, more than 4,096, or a piece of one.
    #[error("a filter has 1 to 4,096 instructions of 8 bytes")]
    Length,
    /// There is no such instruction.
    #[error("instruction {0} of the filter is unknown")]
    Unknown(usize),
    /// A jump behind the end.
    #[error("instruction {0} of the filter jumps out of it")]
    Jump(usize),
    /// Memory that is not there.
    #[error("instruction {0} of the filter is outside its memory")]
    Memory(usize),
    /// A division by a constant zero.
    #[error("instruction {0} of the filter divides by zero")]
    Division(usize),
    /// A shift by more bits than there are.
    #[error("instruction {0} of the filter shifts by 32 bits or more")]
    Shift(usize),
    /// The last instruction is no return.
    #[error("the filter does not end with a verdict")]
    NoReturn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Constant(u32),
    Length,
    Memory(usize),
    Word(u32),
    Half(u32),
    Byte(u32),
    WordAt(u32),
    HalfAt(u32),
    ByteAt(u32),
    /// Four times the low half of a byte: an IPv4 header's length.
    Header(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Or,
    And,
    Xor,
    Lsh,
    Rsh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    Greater,
    NotLess,
    Bits,
}

/// The second operand: a constant, or the index register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Constant(u32),
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    LoadA(Load),
    LoadX(Load),
    StoreA(usize),
    StoreX(usize),
    Compute(Alu, Operand),
    Negate,
    Jump(u32),
    Branch(Test, Operand, u8, u8),
    /// What most programs are made of, in one: load from a place of the packet, mask, branch by a constant. It stands where
    /// the load does; mask and branch follow, for those that jump there.
    Look(Look),
    Return(u32),
    ReturnA,
    AToX,
    XToA,
}

/// A load, a mask and a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    at: u32,
    mask: u32,
    other: u32,
    width: Width,
    test: Test,
    /// Steps that it leads on by, counted from itself.
    yes: u16,
    no: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Byte,
    Half,
    Word,
}

/// A checked program.
#[derive(Clone, Debug)]
pub struct Program(Box<[Step]>);

impl Program {
    /// Checks a program, as `struct bpf_insn`s one after the other.
    ///
    /// # Errors
    ///
    /// [`Wrong`], by the same rules as the kernel's `bpf_check_classic()`.
    pub fn new(bytes: &[u8]) -> Result<Self, Wrong> {
        let (instructions, rest) = bytes.as_chunks::<BYTES>();
        let count = instructions.len();
        if !(1..=LONGEST).contains(&count) || !rest.is_empty() {
            return Err(Wrong::Length);
        }
        let steps = instructions.iter().enumerate().map(|(at, bytes)| step(at, bytes, count));
        let mut steps = steps.collect::<Result<Box<[_]>, _>>()?;
        let Some(Step::Return(_) | Step::ReturnA) = steps.last() else { return Err(Wrong::NoReturn) };
        for at in 0..count {
            if let Some(look) = look(&steps[at..]) {
                steps[at] = Step::Look(look);
            }
        }
        Ok(Self(steps))
    }

    /// Runs the program on a packet of `length` bytes of which `bytes` are there. Returns how many bytes of it are
    /// wanted: 0 is none of it. A load from behind the end ends it with 0.
    #[must_use]
    pub fn run(&self, bytes: &[u8], length: u32) -> u32 {
        self.try_run(bytes, length).unwrap_or(0)
    }

    /// `None` where the program reads behind the packet's end, or divides by zero.
    #[inline]
    fn try_run(&self, bytes: &[u8], length: u32) -> Option<u32> {
        // Looks are how most packets are told apart, and most programs begin; they need no memory and no index.
        let (mut at, mut a) = (0, 0);
        loop {
            match self.0.get(at)? {
                Step::Look(look) => (at, a) = look.take(at, bytes)?,
                Step::Return(count) => return Some(*count),
                _ => return self.go_on(at, a, bytes, length),
            }
        }
    }

    fn go_on(&self, mut at: usize, mut a: u32, bytes: &[u8], length: u32) -> Option<u32> {
        let mut x = 0u32;
        let mut memory = [0u32; MEMORY];
        loop {
            let step = self.0.get(at)?;
            if let Step::Look(look) = step {
                (at, a) = look.take(at, bytes)?;
                continue;
            }
            at += 1;
            match *step {
                Step::Look(_) => {}
                Step::LoadA(load) => a = fetch(load, bytes, length, x, &memory)?,
                Step::LoadX(load) => x = fetch(load, bytes, length, x, &memory)?,
                Step::StoreA(slot) => memory[slot] = a,
                Step::StoreX(slot) => memory[slot] = x,
                Step::Compute(alu, operand) => a = compute(alu, a, value(operand, x))?,
                Step::Negate => a = a.wrapping_neg(),
                Step::Jump(by) => at += by as usize,
                Step::Branch(test, operand, yes, no) => {
                    at += usize::from(if holds(test, a, value(operand, x)) { yes } else { no });
                }
                Step::Return(count) => return Some(count),
                Step::ReturnA => return Some(a),
                Step::AToX => x = a,
                Step::XToA => a = x,
            }
        }
    }
}

impl Look {
    /// Where it leads from `at`, and what it has loaded.
    #[inline(always)]
    fn take(&self, at: usize, bytes: &[u8]) -> Option<(usize, u32)> {
        let loaded = match self.width {
            Width::Byte => byte(bytes, self.at)?,
            Width::Half => half(bytes, self.at)?,
            Width::Word => word(bytes, self.at)?,
        };
        let a = loaded & self.mask;
        Some((at + usize::from(if holds(self.test, a, self.other) { self.yes } else { self.no }), a))
    }
}

/// The look that steps begin with, if they do.
fn look(steps: &[Step]) -> Option<Look> {
    let (at, width) = match *steps.first()? {
        Step::LoadA(Load::Byte(at)) => (at, Width::Byte),
        Step::LoadA(Load::Half(at)) => (at, Width::Half),
        Step::LoadA(Load::Word(at)) => (at, Width::Word),
        _ => return None,
    };
    let (mask, behind) = match *steps.get(1)? {
        Step::Compute(Alu::And, Operand::Constant(mask)) => (mask, 2),
        _ => (u32::MAX, 1),
    };
    let Step::Branch(test, Operand::Constant(other), yes, no) = *steps.get(behind)? else { return None };
    let by = |steps: u8| u16::from(steps) + behind as u16 + 1;
    Some(Look { at, mask, other, width, test, yes: by(yes), no: by(no) })
}

#[inline(always)]
fn holds(test: Test, a: u32, other: u32) -> bool {
    match test {
        Test::Equal => a == other,
        Test::Greater => a > other,
        Test::NotLess => a >= other,
        Test::Bits => a & other != 0,
    }
}

#[inline(always)]
fn word(bytes: &[u8], at: u32) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at as usize..)?.first_chunk()?))
}

#[inline(always)]
fn half(bytes: &[u8], at: u32) -> Option<u32> {
    Some(u32::from(u16::from_be_bytes(*bytes.get(at as usize..)?.first_chunk()?)))
}

#[inline(always)]
fn byte(bytes: &[u8], at: u32) -> Option<u32> {
    bytes.get(at as usize).map(|byte| u32::from(*byte))
}

#[inline(always)]
fn value(operand: Operand, x: u32) -> u32 {
    match operand {
        Operand::Constant(k) => k,
        Operand::Index => x,
    }
}

fn compute(alu: Alu, a: u32, other: u32) -> Option<u32> {
    Some(match alu {
        Alu::Add => a.wrapping_add(other),
        Alu::Sub => a.wrapping_sub(other),
        Alu::Mul => a.wrapping_mul(other),
        Alu::Div => a.checked_div(other)?,
        Alu::Mod => a.checked_rem(other)?,
        Alu::Or => a | other,
        Alu::And => a & other,
        Alu::Xor => a ^ other,
        // A shift by 32 and more, which only the index register can ask for, leaves nothing, as in libpcap.
        Alu::Lsh => a.checked_shl(other).unwrap_or(0),
        Alu::Rsh => a.checked_shr(other).unwrap_or(0),
    })
}

fn fetch(load: Load, bytes: &[u8], length: u32, x: u32, memory: &[u32; MEMORY]) -> Option<u32> {
    let word = |at| word(bytes, at);
    let half = |at| half(bytes, at);
    let byte = |at| byte(bytes, at);
    match load {
        Load::Constant(k) => Some(k),
        Load::Length => Some(length),
        Load::Memory(slot) => Some(memory[slot]),
        Load::Word(at) => word(at),
        Load::Half(at) => half(at),
        Load::Byte(at) => byte(at),
        Load::WordAt(at) => word(x.checked_add(at)?),
        Load::HalfAt(at) => half(x.checked_add(at)?),
        Load::ByteAt(at) => byte(x.checked_add(at)?),
        Load::Header(at) => byte(at).map(|byte| (byte & 15) * 4),
    }
}

/// One instruction, checked. The numbers are those of `<linux/bpf_common.h>`.
fn step(at: usize, bytes: &[u8; BYTES], count: usize) -> Result<Step, Wrong> {
    let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
    let (yes, no) = (bytes[2], bytes[3]);
    let k = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let unknown = Wrong::Unknown(at);
    let slot = || if (k as usize) < MEMORY { Ok(k as usize) } else { Err(Wrong::Memory(at)) };
    // The last instruction has none behind it to jump to.
    let behind = count - at - 1;
    Ok(match code {
        // BPF_LD: | BPF_W, BPF_H, BPF_B | BPF_IMM, BPF_ABS, BPF_IND, BPF_MEM, BPF_LEN
        0x00 => Step::LoadA(Load::Constant(k)),
        0x20 => Step::LoadA(Load::Word(k)),
        0x28 => Step::LoadA(Load::Half(k)),
        0x30 => Step::LoadA(Load::Byte(k)),
        0x40 => Step::LoadA(Load::WordAt(k)),
        0x48 => Step::LoadA(Load::HalfAt(k)),
        0x50 => Step::LoadA(Load::ByteAt(k)),
        0x60 => Step::LoadA(Load::Memory(slot()?)),
        0x80 => Step::LoadA(Load::Length),
        // BPF_LDX: the same, and BPF_MSH
        0x01 => Step::LoadX(Load::Constant(k)),
        0x61 => Step::LoadX(Load::Memory(slot()?)),
        0x81 => Step::LoadX(Load::Length),
        0xb1 => Step::LoadX(Load::Header(k)),
        // BPF_ST, BPF_STX
        0x02 => Step::StoreA(slot()?),
        0x03 => Step::StoreX(slot()?),
        // BPF_ALU
        0x84 => Step::Negate,
        _ if code & 0x07 == 0x04 && code <= 0xff => {
            let operand = if code & 0x08 == 0 { Operand::Constant(k) } else { Operand::Index };
            let alu = match code & 0xf0 {
                0x00 => Alu::Add,
                0x10 => Alu::Sub,
                0x20 => Alu::Mul,
                0x30 => Alu::Div,
                0x40 => Alu::Or,
                0x50 => Alu::And,
                0x60 => Alu::Lsh,
                0x70 => Alu::Rsh,
                0x90 => Alu::Mod,
                0xa0 => Alu::Xor,
                _ => return Err(unknown),
            };
            match (alu, operand) {
                (Alu::Div | Alu::Mod, Operand::Constant(0)) => return Err(Wrong::Division(at)),
                (Alu::Lsh | Alu::Rsh, Operand::Constant(32..)) => return Err(Wrong::Shift(at)),
                _ => Step::Compute(alu, operand),
            }
        }
        // BPF_JMP
        0x05 if (k as usize) < behind => Step::Jump(k),
        0x05 => return Err(Wrong::Jump(at)),
        _ if code & 0x07 == 0x05 && code <= 0xff => {
            let operand = if code & 0x08 == 0 { Operand::Constant(k) } else { Operand::Index };
            let test = match code & 0xf0 {
                0x10 => Test::Equal,
                0x20 => Test::Greater,
                0x30 => Test::NotLess,
                0x40 => Test::Bits,
                _ => return Err(unknown),
            };
            if usize::from(yes.max(no)) >= behind {
                return Err(Wrong::Jump(at));
            }
            Step::Branch(test, operand, yes, no)
        }
        // BPF_RET, BPF_MISC
        0x06 => Step::Return(k),
        0x16 => Step::ReturnA,
        0x07 => Step::AToX,
        0x87 => Step::XToA,
        _ => return Err(unknown),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(steps: &[(u16, u8, u8, u32)]) -> Result<Program, Wrong> {
        let mut bytes = Vec::new();
        for (code, yes, no, k) in steps {
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes.extend_from_slice(&[*yes, *no]);
            bytes.extend_from_slice(&k.to_ne_bytes());
        }
        Program::new(&bytes)
    }

    const RETURN: (u16, u8, u8, u32) = (0x06, 0, 0, 9);

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        assert_eq!(Program::new(&[]).unwrap_err(), Wrong::Length);
        assert_eq!(Program::new(&[0; 12]).unwrap_err(), Wrong::Length);
        assert_eq!(program(&[RETURN; LONGEST + 1]).unwrap_err(), Wrong::Length);
        assert!(program(&[RETURN; LONGEST]).is_ok());
        for code in [0xffff, 0x0104, 0x85, 0xb4, 0x17, 0x0e, 0x62] {
            assert_eq!(program(&[(code, 0, 0, 1), RETURN]).unwrap_err(), Wrong::Unknown(0), "{code:#x}");
        }
        assert_eq!(program(&[(0x05, 0, 0, 1), RETURN]).unwrap_err(), Wrong::Jump(0));
        assert_eq!(program(&[(0x05, 0, 0, u32::MAX), RETURN]).unwrap_err(), Wrong::Jump(0));
        assert_eq!(program(&[(0x15, 0, 1, 0), RETURN]).unwrap_err(), Wrong::Jump(0));
        assert_eq!(program(&[(0x60, 0, 0, 16), RETURN]).unwrap_err(), Wrong::Memory(0));
        assert_eq!(program(&[(0x34, 0, 0, 0), RETURN]).unwrap_err(), Wrong::Division(0));
        assert_eq!(program(&[(0x64, 0, 0, 32), RETURN]).unwrap_err(), Wrong::Shift(0));
        assert_eq!(program(&[(0x00, 0, 0, 0)]).unwrap_err(), Wrong::NoReturn);
    }

    #[test]
    fn loads_from_behind_the_end_and_divisions_by_zero_end_with_nothing() {
        for load in [0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xb1] {
            for k in [4, 100, u32::MAX, u32::MAX - 1] {
                let found = program(&[(load, 0, 0, k), RETURN]).unwrap();
                assert_eq!(found.run(&[1, 2, 3, 4], 4), 0, "{load:#x} {k}");
            }
        }
        assert_eq!(program(&[(0x3c, 0, 0, 0), RETURN]).unwrap().run(&[], 0), 0);
        assert_eq!(program(&[(0x20, 0, 0, 0), (0x16, 0, 0, 0)]).unwrap().run(&[1, 2, 3, 4], 4), 0x0102_0304);
    }

    #[test]
    fn any_bytes_are_refused_or_run_to_an_end() {
        // A small generator: the point is many programs, most of them nearly sound.
        let mut state = 0x9e37_79b9_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        let codes = [
            0x00, 0x20, 0x28, 0x30, 0x40, 0x50, 0x60, 0x80, 0x61, 0xb1, 0x02, 0x04, 0x34, 0x6c, 0x84, 0x05, 0x15, 0x2d,
            0x07, 0x87,
        ];
        let mut sound = 0;
        for _ in 0..20_000 {
            let length = next() % 12;
            let mut steps: Vec<_> = (0..length)
                .map(|_| (codes[next() as usize % codes.len()], (next() % 4) as u8, (next() % 4) as u8, next() % 20))
                .collect();
            steps.push((0x16, 0, 0, 0));
            if let Ok(found) = program(&steps) {
                sound += 1;
                let _ = found.run(&[0x45, 0, 0, 20, 1, 2, 3, 4], 8);
            }
        }
        assert!(sound > 1000);
    }
}
