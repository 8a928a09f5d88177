//! Turns rules by number into a program of the classic Berkeley packet filter, which is what seccomp runs.
//!
//! The program is a balanced binary tree over ranges of numbers with one rule. The kernel runs a new filter once for
//! every number that exists, to learn which are always allowed, so installing it costs by its length and by the depth
//! of this tree: a list of the allowed numbers alone takes four times as long. Only leaves load arguments, so that all
//! other numbers stay on the kernel's bitmap and cost nothing per call.
//!
//! Jumps only go forward, so the program is written backwards: what a jump leads to is there already, can be shared,
//! and its distance is known.

use super::policy::{Case, Rule, Verdict};

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The constant that the instruction works with.
    pub k: u32,
}

/// Load a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// Keep only the bits of the constant.
pub(super) const AND: u16 = 0x54;
/// Skip as many instructions as the constant says.
pub(super) const JUMP: u16 = 0x05;
/// Compare for equality.
pub(super) const JUMP_EQUAL: u16 = 0x15;
/// Compare, unsigned, for greater or equal.
pub(super) const JUMP_AT_LEAST: u16 = 0x35;
/// Answer the constant.
pub(super) const RETURN: u16 = 0x06;

/// Offsets into `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const CONVENTION: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
/// Fails the call with the error in its lower half.
pub(crate) const ERRNO: u32 = 0x0005_0000;
/// Ends the whole process, not the calling thread alone.
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;

/// What seccomp calls an answer.
pub(super) const fn answer(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow => ALLOW,
        Verdict::Refuse(error) => ERRNO | error as u32,
        Verdict::Kill => KILL_PROCESS,
    }
}

/// The program that decides on calls by the given convention (an `AUDIT_ARCH` constant) by ranges of numbers: the first
/// number of each, from 0 upwards, and its rule. Calls by all other conventions kill.
pub fn assemble(convention: u32, ranges: &[(u32, Rule)]) -> Vec<Instruction> {
    let mut program = Backwards::default();
    let root = program.tree(&leaves(ranges));
    program.lead_to(root);
    let native = program.push(LOAD, NUMBER);
    let foreign = program.place(Rule::Always(Verdict::Kill));
    program.branch(JUMP_EQUAL, convention, native, foreign);
    program.push(LOAD, CONVENTION);
    program.instructions.reverse();
    program.instructions
}

/// The numbers from `first` to the next leaf, under one rule but for at most one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaf {
    first: u32,
    rule: Rule,
    exception: Option<(u32, Rule)>,
}

/// Joins a range, the single number after it and the range after that where the two ranges have one rule: to tell one
/// number from its surroundings takes one comparison, and three ranges would take two.
fn leaves(mut ranges: &[(u32, Rule)]) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    while let [(first, rule), rest @ ..] = ranges {
        let (exception, rest) = match rest {
            [single, (end, after), rest @ ..] if after == rule && *end == single.0 + 1 => (Some(*single), rest),
            _ => (None, rest),
        };
        leaves.push(Leaf { first: *first, rule: *rule, exception });
        ranges = rest;
    }
    leaves
}

/// Where an instruction is, counted from the end of the program.
type Label = usize;

/// How far a comparison may skip. One less than its eight bits hold, since a detour for its other branch may come
/// between.
const REACH: usize = u8::MAX as usize - 1;

/// A program under construction, its last instruction first.
#[derive(Default)]
struct Backwards {
    instructions: Vec<Instruction>,
    /// Where each rule was last placed.
    placed: Vec<(Rule, Label)>,
}

impl Backwards {
    /// Decides between leaves: a comparison that halves them, and both halves.
    fn tree(&mut self, leaves: &[Leaf]) -> Label {
        if let [Leaf { rule, exception, .. }] = leaves {
            let Some((number, other)) = exception else { return self.place(*rule) };
            let (equal, unequal) = (self.place(*other), self.place(*rule));
            return self.branch(JUMP_EQUAL, *number, equal, unequal);
        }
        let (low, high) = leaves.split_at(leaves.len() / 2);
        let (at_least, below) = (self.tree(high), self.tree(low));
        self.branch(JUMP_AT_LEAST, high[0].first, at_least, below)
    }

    /// A place near enough to branch to where a rule is carried out.
    fn place(&mut self, rule: Rule) -> Label {
        let known = self.placed.iter().position(|(placed, _)| *placed == rule);
        let label = match (known.map(|index| self.placed[index].1), rule) {
            (Some(label), _) if self.distance(label) <= REACH => return label,
            (_, Rule::Always(verdict)) => self.push(RETURN, answer(verdict)),
            (Some(label), Rule::Switch { .. }) => self.detour(label),
            (None, Rule::Switch { argument, mask, cases, otherwise }) => {
                let first = self.comparisons(cases, otherwise);
                self.lead_to(first);
                if mask != u32::MAX {
                    self.push(AND, mask);
                }
                self.push(LOAD, ARGUMENTS + 8 * u32::from(argument))
            }
        };
        match known {
            Some(index) => self.placed[index].1 = label,
            None => self.placed.push((rule, label)),
        }
        label
    }

    /// Compares a loaded argument with each value of each case.
    fn comparisons(&mut self, cases: &[Case], otherwise: Verdict) -> Label {
        let mut rules: Vec<Label> = cases.iter().map(|case| self.place(case.rule)).collect();
        let mut next = self.place(Rule::Always(otherwise));
        for (case, rule) in cases.iter().zip(&mut rules).rev() {
            for value in case.values.iter().rev() {
                *rule = self.near(*rule);
                next = self.branch(JUMP_EQUAL, *value, *rule, next);
            }
        }
        next
    }

    /// Compares, and goes on at one of two places.
    fn branch(&mut self, code: u16, k: u32, holds: Label, fails: Label) -> Label {
        let (holds, fails) = (self.near(holds), self.near(fails));
        let [jt, jf] = [holds, fails].map(|label| u8::try_from(self.distance(label)).expect("`near` sees to it"));
        self.add(Instruction { code, jt, jf, k })
    }

    /// The label itself, or a jump to it if the next instruction could not branch that far.
    fn near(&mut self, label: Label) -> Label {
        if self.distance(label) <= REACH { label } else { self.detour(label) }
    }

    /// Sees to it that the next instruction is followed by what is at the label.
    fn lead_to(&mut self, label: Label) {
        if self.distance(label) > 0 {
            self.detour(label);
        }
    }

    fn detour(&mut self, label: Label) -> Label {
        self.push(JUMP, self.distance(label) as u32)
    }

    /// How many instructions the next one would have to skip.
    fn distance(&self, label: Label) -> usize {
        self.instructions.len() - label - 1
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        self.add(Instruction { code, jt: 0, jf: 0, k })
    }

    fn add(&mut self, instruction: Instruction) -> Label {
        self.instructions.push(instruction);
        self.instructions.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{Call, check, run};
    use super::super::policy::EPERM;
    use super::*;
    use coldframe_sys::testing::headers::{assert_facts, fact};

    #[test]
    fn codes_and_answers_are_those_of_the_kernels_headers() {
        let facts = [
            fact("BPF_LD | BPF_W | BPF_ABS", LOAD),
            fact("BPF_ALU | BPF_AND | BPF_K", AND),
            fact("BPF_JMP | BPF_JA", JUMP),
            fact("BPF_JMP | BPF_JEQ | BPF_K", JUMP_EQUAL),
            fact("BPF_JMP | BPF_JGE | BPF_K", JUMP_AT_LEAST),
            fact("BPF_RET | BPF_K", RETURN),
            fact("SECCOMP_RET_ALLOW", ALLOW),
            fact("SECCOMP_RET_ERRNO", ERRNO),
            fact("SECCOMP_RET_KILL_PROCESS", KILL_PROCESS),
            fact("__builtin_offsetof(struct seccomp_data, nr)", NUMBER),
            fact("__builtin_offsetof(struct seccomp_data, arch)", CONVENTION),
            fact("__builtin_offsetof(struct seccomp_data, args)", ARGUMENTS),
            fact("sizeof(struct sock_filter)", size_of::<Instruction>() as u64),
            fact("__builtin_offsetof(struct sock_filter, jt)", 2),
            fact("__builtin_offsetof(struct sock_filter, jf)", 3),
            fact("__builtin_offsetof(struct sock_filter, k)", 4),
        ];
        assert_facts("linux/filter.h linux/seccomp.h", &facts);
    }

    const CONVENTION_HERE: u32 = 7;
    const LIVE: Rule = Rule::Always(Verdict::Allow);

    fn verdict(program: &[Instruction], number: u32, arguments: [u64; 6]) -> u32 {
        run(program, Call { number, convention: CONVENTION_HERE, arguments }).answer
    }

    #[test]
    fn one_number_amid_another_rule_shares_its_leaf() {
        const OTHER: Rule = Rule::Always(Verdict::Kill);
        let leaf = |first, rule, exception| Leaf { first, rule, exception };
        let joined = [leaf(0, LIVE, Some((5, OTHER))), leaf(8, OTHER, None)];
        assert_eq!(leaves(&[(0, LIVE), (5, OTHER), (6, LIVE), (8, OTHER)]), joined);
        let two_numbers = [(0, LIVE), (5, OTHER), (7, LIVE)];
        assert_eq!(leaves(&two_numbers), two_numbers.map(|(first, rule)| leaf(first, rule, None)));
    }

    #[test]
    fn a_foreign_convention_kills_even_where_nothing_else_is_ruled() {
        let program = assemble(CONVENTION_HERE, &[(0, LIVE)]);
        assert_eq!(verdict(&program, 1, [0; 6]), answer(Verdict::Allow));
        let foreign = Call { number: 1, convention: CONVENTION_HERE + 1, arguments: [0; 6] };
        assert_eq!(run(&program, foreign).answer, answer(Verdict::Kill));
    }

    /// A program many times longer than a comparison can skip, so that every kind of detour is taken.
    #[test]
    fn long_programs_reach_all_of_their_parts() {
        const VALUES: [u32; 300] = {
            let mut values = [0; 300];
            let mut index = 0;
            while index < values.len() {
                values[index] = 2 * index as u32 + 1;
                index += 1;
            }
            values
        };
        static CASES: [Case; 2] =
            [Case { values: &VALUES, rule: LIVE }, Case { values: &[2], rule: Rule::Always(Verdict::Kill) }];
        let long = |argument| Rule::Switch { argument, mask: 0xffff, cases: &CASES, otherwise: Verdict::Refuse(EPERM) };
        let rule = |number: u32| match number % 7 {
            0 => long(0),
            1 => long(5),
            rest => Rule::Always(Verdict::Refuse(rest as u16)),
        };
        let ranges: Vec<(u32, Rule)> = (0..1200).map(|number| (number, rule(number))).collect();
        let program = assemble(CONVENTION_HERE, &ranges);
        check(&program);
        for number in 0..1200 {
            for (value, by_value) in
                [(1, Verdict::Allow), (2, Verdict::Kill), (599, Verdict::Allow), (4, Verdict::Refuse(EPERM))]
            {
                let expected = if let Rule::Always(verdict) = rule(number) { verdict } else { by_value };
                let arguments = [if number % 7 == 0 { value } else { 0 }, 0, 0, 0, 0, 0xdead_0000 | value];
                assert_eq!(verdict(&program, number, arguments), answer(expected), "{number} with {value}");
            }
        }
        let Rule::Always(last) = rule(1199) else { panic!("the last range is ruled by its numbers alone") };
        assert_eq!(verdict(&program, u32::MAX, [0; 6]), answer(last));
    }
}
