//! A small interpreter of classic BPF, as strict as the kernel's checker, to test programs without installing them.

use super::emit::{AND, ARGUMENTS, CONVENTION, Instruction, JUMP, JUMP_AT_LEAST, JUMP_EQUAL, LOAD, NUMBER, RETURN};

/// The kernel's limit on the length of a filter (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// A system call as the kernel shows it to a filter (`struct seccomp_data`, without the instruction pointer).
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub number: u32,
    /// The calling convention, an `AUDIT_ARCH` constant.
    pub convention: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a program makes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The constant it answers.
    pub answer: u32,
    /// Instructions it took.
    pub steps: usize,
    /// Whether it looked at an argument, which keeps the number off the kernel's bitmap.
    pub looked_at_arguments: bool,
}

/// Runs a program to its answer, and panics where the kernel would refuse the program.
pub fn run(program: &[Instruction], call: Call) -> Outcome {
    let (mut accumulator, mut next, mut looked_at_arguments) = (0_u32, 0_usize, false);
    for steps in 1..=program.len() {
        let Instruction { code, jt, jf, k } = program[next];
        next += 1;
        match code {
            LOAD if k == NUMBER => accumulator = call.number,
            LOAD if k == CONVENTION => accumulator = call.convention,
            LOAD => {
                let index = k.checked_sub(ARGUMENTS).expect("the instruction pointer says nothing") / 8;
                assert_eq!(k % 8, 0, "the low half of a little-endian argument comes first");
                accumulator = call.arguments[index as usize] as u32;
                looked_at_arguments = true;
            }
            AND => accumulator &= k,
            JUMP => next += k as usize,
            JUMP_EQUAL => next += usize::from(if accumulator == k { jt } else { jf }),
            JUMP_AT_LEAST => next += usize::from(if accumulator >= k { jt } else { jf }),
            RETURN => return Outcome { answer: k, steps, looked_at_arguments },
            other => panic!("code {other:#x} is none of the emitter's"),
        }
    }
    panic!("the program does not end");
}

/// Checks what the kernel checks before it takes a program: its length, every jump, its last instruction.
pub fn check(program: &[Instruction]) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()), "{} instructions", program.len());
    for (index, Instruction { code, jt, jf, k }) in program.iter().enumerate() {
        let furthest = match *code {
            JUMP => *k as usize,
            JUMP_EQUAL | JUMP_AT_LEAST => usize::from(*jt.max(jf)),
            _ => 0,
        };
        assert!(index + furthest + 1 < program.len() || *code == RETURN, "instruction {index} leaves the program");
    }
    assert_eq!(program.last().map(|last| last.code), Some(RETURN));
}
