//! The system call filter: the standard policy, compiled for an architecture.
//!
//! `table` has the numbers, `policy` says what holds for which name, `emit` makes the program. Nothing here calls the
//! kernel; the program is installed last in a new environment, by native code of ours, before the handler's code runs.

pub mod emit;
#[cfg(test)]
pub(crate) mod interpreter;
pub mod policy;
pub mod table;

use std::collections::BTreeMap;

use crate::spec::Architecture;

pub use emit::Instruction;
use policy::{Rule, Verdict};

/// The filter of an environment, with or without a network.
pub fn program(architecture: Architecture, network: bool) -> Vec<Instruction> {
    compile(architecture, &policy::rules(architecture, network))
}

/// The same for one that writes files that others see.
pub fn program_for_shared_files(architecture: Architecture, network: bool) -> Vec<Instruction> {
    compile(architecture, &policy::rules_for_shared_files(architecture, network))
}

/// A filter that allows the calls of these names, separated by white space; everything else kills.
pub fn nothing_but(names: &str, architecture: Architecture) -> Vec<Instruction> {
    let allowed = names.split_ascii_whitespace().filter_map(|name| table::find(name)?.number(architecture));
    let rules = allowed.map(|number| (number, Rule::Always(Verdict::Allow))).collect();
    emit::assemble(convention(architecture), &policy::ranges(architecture, &rules, Rule::Always(Verdict::Kill)))
}

/// A program as the kernel reads it: an array of little-endian `struct sock_filter`, eight bytes each.
pub fn bytes(program: &[Instruction]) -> Vec<u8> {
    let instruction = |Instruction { code, jt, jf, k }: &Instruction| {
        let ([c0, c1], [k0, k1, k2, k3]) = (code.to_le_bytes(), k.to_le_bytes());
        [c0, c1, *jt, *jf, k0, k1, k2, k3]
    };
    program.iter().flat_map(instruction).collect()
}

fn compile(architecture: Architecture, rules: &BTreeMap<u32, Rule>) -> Vec<Instruction> {
    emit::assemble(convention(architecture), &policy::ranges(architecture, rules, policy::UNKNOWN))
}

/// The kernel's `AUDIT_ARCH` constant: who calls by another convention means other calls by the same numbers.
const fn convention(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X86_64 => 0xC000_003E,
        Architecture::Arm64 => 0xC000_00B7,
    }
}

#[cfg(test)]
mod tests {
    use super::emit::answer;
    use super::interpreter::{Call, check, run};
    use super::policy::{
        EAFNOSUPPORT, EINVAL, ENOPROTOOPT, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, STANDARD, UNKNOWN, X32,
    };
    use super::*;
    use coldframe_sys::testing::headers::{assert_facts, fact};

    const ARCHITECTURES: [Architecture; 2] = [Architecture::X86_64, Architecture::Arm64];
    const ALLOW: Verdict = Verdict::Allow;
    const GARBAGE: u64 = 0xdead_beef_0000_0000;

    /// All four programs there are.
    fn variants() -> impl Iterator<Item = (Architecture, bool)> {
        ARCHITECTURES.into_iter().flat_map(|architecture| [false, true].map(|network| (architecture, network)))
    }

    fn number(name: &str, architecture: Architecture) -> Option<u32> {
        table::find(name).expect("tests name system calls that exist").number(architecture)
    }

    fn call(architecture: Architecture, number: u32, arguments: [u64; 6]) -> Call {
        Call { number, convention: convention(architecture), arguments }
    }

    /// The policy on a number as one would look it up by hand, without ranges, tree or program.
    fn rule(architecture: Architecture, network: bool, number: u32) -> Rule {
        if architecture == Architecture::X86_64 && number >= X32 {
            return Rule::Always(Verdict::Kill);
        }
        let name = table::TABLE.iter().find(|call| call.number(architecture) == Some(number)).map(|call| call.name);
        let socket = policy::socket(network);
        let named = |group: &&policy::Group| group.names.split_ascii_whitespace().any(|word| Some(word) == name);
        STANDARD.iter().chain([&socket]).find(named).map_or(UNKNOWN, |group| group.rule)
    }

    /// What a rule says of arguments.
    fn evaluate(mut rule: Rule, arguments: [u64; 6]) -> Verdict {
        loop {
            match rule {
                Rule::Always(verdict) => return verdict,
                Rule::Switch { argument, mask, cases, otherwise } => {
                    let value = (arguments[usize::from(argument)] % (1 << 32)) as u32 & mask;
                    let case = cases.iter().find(|case| case.values.contains(&value));
                    rule = case.map_or(Rule::Always(otherwise), |case| case.rule);
                }
            }
        }
    }

    /// Every value that some rule knows, its neighbours, single bits, and all of them under garbage.
    fn samples() -> Vec<u64> {
        fn values(rule: Rule, found: &mut Vec<u64>) {
            let Rule::Switch { mask, cases, .. } = rule else { return };
            found.push(u64::from(mask));
            for case in cases {
                found.extend(case.values.iter().map(|value| u64::from(*value)));
                values(case.rule, found);
            }
        }
        let mut found: Vec<u64> = (0..32).map(|bit| 1 << bit).collect();
        for group in STANDARD.iter().chain([&policy::socket(true)]) {
            values(group.rule, &mut found);
        }
        found.extend([0, u64::from(u32::MAX), 0x0008_0001, 0x0008_0802, 0x003D_0F00, 0x1234_5678]);
        let mut samples: Vec<u64> =
            found.iter().flat_map(|value| [value.saturating_sub(1), *value, value + 1]).collect();
        samples.sort_unstable();
        samples.dedup();
        samples.extend(samples.clone().iter().map(|value| value | GARBAGE));
        samples
    }

    /// Arguments to try with a rule: each sample in each place alone and in all at once; sockets in all combinations.
    fn argument_sets(is_socket: bool) -> Vec<[u64; 6]> {
        if is_socket {
            let kinds = [0, 1, 2, 3, 5, 6, 10, 16, 17, 38, 40, 262, 0x0008_0001, 0x0008_0802, GARBAGE | 1, GARBAGE | 2];
            let pairs = kinds.into_iter().flat_map(|domain| kinds.map(|kind| (domain, kind)));
            return pairs.flat_map(|(domain, kind)| kinds.map(|protocol| [domain, kind, protocol, 0, 0, 0])).collect();
        }
        let mut sets = vec![[0; 6]];
        for sample in samples() {
            sets.push([sample; 6]);
            sets.extend((0..6).map(|place| {
                let mut arguments = [0; 6];
                arguments[place] = sample;
                arguments
            }));
        }
        sets
    }

    /// Whatever the arguments are by which it is judged, with garbage where nobody should look.
    fn judge(name: &str, network: bool, arguments: &[u64]) -> Verdict {
        let mut all = [GARBAGE; 6];
        for (slot, value) in all.iter_mut().zip(arguments) {
            *slot = GARBAGE | value;
        }
        let answers = ARCHITECTURES.into_iter().filter_map(|architecture| {
            let call = call(architecture, number(name, architecture)?, all);
            Some(run(&program(architecture, network), call).answer)
        });
        let answers: Vec<u32> = answers.collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{name} differs by architecture");
        match answers[0] {
            0x7fff_0000 => Verdict::Allow,
            0x8000_0000 => Verdict::Kill,
            answer => Verdict::Refuse(u16::try_from(answer ^ 0x0005_0000).expect("a refusal has an error number")),
        }
    }

    /// Judges calls of one name, without a network.
    fn assert_judged(name: &str, calls: &[(&[u64], Verdict)]) {
        for (arguments, expected) in calls {
            assert_eq!(judge(name, false, arguments), *expected, "{name}{arguments:x?}");
        }
    }

    fn assert_refused(names: &str, error: u16) {
        for name in names.split_ascii_whitespace() {
            assert_eq!(judge(name, true, &[]), Verdict::Refuse(error), "{name}");
        }
    }

    #[test]
    fn the_programs_are_what_the_policy_says() {
        let boundaries = [X32 - 1, X32, X32 + 1, X32 + 300, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
        let (sockets, others) = (argument_sets(true), argument_sets(false));
        for (architecture, network) in variants() {
            let program = program(architecture, network);
            check(&program);
            for number in (0..1024).chain(boundaries) {
                let rule = rule(architecture, network, number);
                let sets = if Some(number) == self::number("socket", architecture) { &sockets } else { &others };
                let by_number = matches!(rule, Rule::Always(_));
                for arguments in &sets[..if by_number { 1 } else { sets.len() }] {
                    let outcome = run(&program, call(architecture, number, *arguments));
                    let expected = answer(evaluate(rule, *arguments));
                    assert_eq!(outcome.answer, expected, "{number} {arguments:x?} on {architecture:?}, {network}");
                    assert_eq!(outcome.looked_at_arguments, !by_number, "{number} on {architecture:?}");
                }
            }
        }
    }

    #[test]
    fn a_foreign_convention_kills_whatever_the_number() {
        let (i386, arm, without_64_bits) = (0x4000_0003, 0x4000_0028, 0x4000_003E);
        for (architecture, network) in variants() {
            let program = program(architecture, network);
            let other = ARCHITECTURES.into_iter().find(|other| *other != architecture).map_or(0, convention);
            for convention in [0, i386, arm, without_64_bits, other] {
                for number in 0..512 {
                    let outcome = run(&program, Call { number, convention, arguments: [0; 6] });
                    assert_eq!(outcome.answer, answer(Verdict::Kill), "{number} by {convention:#x}");
                }
            }
        }
    }

    #[test]
    fn calls_not_yet_invented_are_unknown() {
        for (architecture, network) in variants() {
            let program = program(architecture, network);
            for number in (467..1000).chain([9999, X32 - 1]) {
                let outcome = run(&program, call(architecture, number, [0; 6]));
                assert_eq!(outcome.answer, answer(Verdict::Refuse(ENOSYS)), "{number} on {architecture:?}");
            }
        }
    }

    #[test]
    fn programs_are_short_and_flat() {
        for (architecture, network) in variants() {
            let program = program(architecture, network);
            // A third of them for the options of sockets, a comparison each.
            assert!(program.len() <= 320, "{} instructions on {architecture:?}", program.len());
            let steps = (0..470).map(|number| run(&program, call(architecture, number, [0; 6])).steps);
            let mean = steps.clone().sum::<usize>() as f64 / 470.0;
            assert!(mean < 12.0, "{mean} steps per number on {architecture:?}");
        }
    }

    #[test]
    fn conventions_are_those_of_the_kernels_header() {
        for (architecture, name) in
            [(Architecture::X86_64, "AUDIT_ARCH_X86_64"), (Architecture::Arm64, "AUDIT_ARCH_AARCH64")]
        {
            assert_facts("linux/audit.h", &[fact(name, convention(architecture))]);
        }
    }

    #[test]
    fn nothing_but_what_is_named_lives() {
        for architecture in ARCHITECTURES {
            let program = nothing_but("read exit_group open", architecture);
            check(&program);
            let allowed: Vec<u32> =
                ["read", "exit_group", "open"].into_iter().filter_map(|name| number(name, architecture)).collect();
            for number in (0..1024).chain([X32, X32 + allowed[0], u32::MAX]) {
                let expected = if allowed.contains(&number) { ALLOW } else { Verdict::Kill };
                let outcome = run(&program, call(architecture, number, [GARBAGE; 6]));
                assert_eq!((outcome.answer, outcome.looked_at_arguments), (answer(expected), false), "{number}");
            }
        }
    }

    #[test]
    fn bytes_are_the_kernels_structures() {
        let program = [Instruction { code: 0x1234, jt: 5, jf: 6, k: 0x789A_BCDE }];
        assert_eq!(bytes(&program), [0x34, 0x12, 5, 6, 0xDE, 0xBC, 0x9A, 0x78]);
        assert_eq!(bytes(&super::program(Architecture::X86_64, false)).len() % 8, 0);
    }

    #[test]
    fn no_rule_is_redundant() {
        for (architecture, network) in variants() {
            let rules = policy::rules(architecture, network);
            for (number, rule) in &rules {
                let mut fewer = rules.clone();
                fewer.remove(number);
                let without = compile(architecture, &fewer);
                let answered = run(&without, call(architecture, *number, [0; 6])).answer;
                assert_ne!(answered, answer(evaluate(*rule, [0; 6])), "{number} on {architecture:?} needs no rule");
            }
        }
    }

    #[test]
    fn clone_makes_no_namespaces() {
        let (fork, thread) = (0x0120_0011, 0x003D_0F00);
        assert_judged("clone", &[(&[fork], ALLOW), (&[thread], ALLOW), (&[0x4111], ALLOW)]);
        for namespace in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_judged(
                "clone",
                &[(&[namespace], Verdict::Refuse(EPERM)), (&[namespace | fork], Verdict::Refuse(EPERM))],
            );
        }
        assert_refused("clone3", ENOSYS);
    }

    #[test]
    fn sockets_are_unix_tcp_and_udp() {
        let (family, protocol) = (Verdict::Refuse(EAFNOSUPPORT), Verdict::Refuse(EPROTONOSUPPORT));
        assert_judged("socket", &[(&[1, 1, 0], ALLOW), (&[1, 0x0008_0002, 0], ALLOW), (&[1, 5, 0], ALLOW)]);
        assert_judged("socket", &[(&[1, 3, 0], protocol), (&[1, 4, 0], protocol)]);
        for internet in [2, 10] {
            assert_judged("socket", &[(&[internet, 1, 0], ALLOW), (&[internet, 0x0008_0801, 6], ALLOW)]);
            assert_judged("socket", &[(&[internet, 2, 0], ALLOW), (&[internet, 0x0008_0802, 17], ALLOW)]);
            assert_judged("socket", &[(&[internet, 1, 17], protocol), (&[internet, 1, 262], protocol)]);
            assert_judged("socket", &[(&[internet, 2, 1], protocol), (&[internet, 3, 1], protocol)]);
            assert_judged("socket", &[(&[internet, 5, 132], protocol), (&[internet, 0, 0], protocol)]);
        }
        for other in (0..64).filter(|family| ![1, 2, 10].contains(family)) {
            assert_judged("socket", &[(&[other, 1, 0], family), (&[other, 3, 0], family)]);
        }
        assert_judged("socketpair", &[(&[1, 1, 0], ALLOW), (&[2, 1, 0], family), (&[16, 3, 0], family)]);
    }

    #[test]
    fn a_network_adds_routing_messages_alone() {
        assert_eq!(judge("socket", true, &[16, 0x0008_0003, 0]), ALLOW);
        assert_eq!(judge("socket", true, &[16, 3, 12]), Verdict::Refuse(EPROTONOSUPPORT));
        assert_eq!(judge("socket", true, &[17, 3, 0]), Verdict::Refuse(EAFNOSUPPORT));
        assert_eq!(judge("socket", true, &[2, 1, 6]), ALLOW);
    }

    #[test]
    fn options_of_sockets_are_those_that_cost_nothing() {
        let (usual, refused) = (|level, option| ([0, level, option], ALLOW), Verdict::Refuse(ENOPROTOOPT));
        for (arguments, verdict) in [usual(1, 2), usual(1, 9), usual(6, 1), usual(0, 2), usual(41, 26), usual(17, 103)]
        {
            assert_judged("setsockopt", &[(&arguments, verdict)]);
        }
        let costly = [
            (1, 26),
            (1, 37),
            (1, 50),
            (1, 51),
            (1, 60),
            (1, 65),
            (6, 14),
            (6, 31),
            (6, 32),
            (6, 38),
            (0, 42),
            (41, 20),
        ];
        for (level, option) in costly.into_iter().chain((0..64).map(|option| (270, option))) {
            assert_judged("setsockopt", &[(&[0, level, option], refused)]);
        }
        assert_judged("setsockopt", &[(&[0, 1, 13], Verdict::Refuse(EPERM))]);
        // They are set, and nothing comes of it.
        assert_judged("setsockopt", &[(&[0, 0, 11], Verdict::Refuse(0)), (&[0, 41, 25], Verdict::Refuse(0))]);
    }

    #[test]
    fn messages_are_never_out_of_band() {
        let refused = Verdict::Refuse(EOPNOTSUPP);
        for name in ["sendto", "recvfrom", "sendmmsg", "recvmmsg"] {
            assert_judged(
                name,
                &[(&[1, 1, 1, 0x4040], ALLOW), (&[0, 0, 0, 1], refused), (&[0, 0, 0, 0x4041], refused)],
            );
        }
        for name in ["sendmsg", "recvmsg"] {
            assert_judged(name, &[(&[1, 1, 0x4000_0000, 1], ALLOW), (&[0, 0, 1], refused), (&[0, 0, 0x4041], refused)]);
        }
    }

    #[test]
    fn nobody_else_gets_a_program_that_makes_them_its_owner() {
        const O_TMPFILE: u64 = 0o20_200_000;
        let (refused, unknown) = (Verdict::Refuse(EPERM), Verdict::Refuse(ENOSYS));
        let modes = [(0o644, ALLOW), (0o1777, ALLOW), (0o4755, refused), (0o2755, refused), (0o6000, refused)];
        for architecture in ARCHITECTURES {
            let program = program_for_shared_files(architecture, true);
            check(&program);
            let judge = |name: &str, arguments: &[u64]| {
                let mut all = [GARBAGE; 6];
                all.iter_mut().zip(arguments).for_each(|(slot, value)| *slot |= value);
                Some(run(&program, call(architecture, number(name, architecture)?, all)).answer)
            };
            for (mode, expected) in modes {
                let said = |name: &str, arguments: &[u64], verdict| {
                    let found = judge(name, arguments);
                    assert!(found.is_none_or(|found| found == answer(verdict)), "{name}{arguments:x?}");
                };
                for name in ["chmod", "fchmod", "creat"] {
                    said(name, &[0, mode], expected);
                }
                for name in ["fchmodat", "fchmodat2"] {
                    said(name, &[0, 0, mode, 0], expected);
                }
                for flags in [0o101, 0o1101, O_TMPFILE | 1] {
                    said("open", &[0, flags, mode], expected);
                    said("openat", &[0, 0, flags, mode], expected);
                }
                // What opens without making has no mode, but whatever is in the register.
                said("open", &[0, 0o1002, mode], ALLOW);
                said("openat", &[0, 0, 0o200_000, mode], ALLOW);
                said("openat2", &[0, 0, 0, 24], unknown);
                said("mkdirat", &[0, 0, mode], ALLOW);
            }
            assert!(program.len() <= 360, "{} instructions", program.len());
        }
    }

    #[test]
    fn ioctl_asks_and_never_types() {
        let [tcgets, fionread, fionbio, fioclex, siocgifaddr] = [0x5401, 0x541B, 0x5421, 0x5451, 0x8915];
        for request in [tcgets, fionread, fionbio, fioclex, siocgifaddr] {
            assert_judged("ioctl", &[(&[0, request], ALLOW)]);
        }
        let [tiocsti, tioclinux, tiocsctty, ficlone, rndaddentropy] =
            [0x5412, 0x541C, 0x540E, 0x4004_9409, 0x4008_5203];
        for request in [tiocsti, tioclinux, tiocsctty, ficlone, rndaddentropy] {
            assert_judged("ioctl", &[(&[0, request], Verdict::Refuse(ENOTTY))]);
        }
    }

    #[test]
    fn prctl_touches_the_caller_alone() {
        for option in [1, 2, 3, 15, 16, 21, 23, 29, 36, 38, 39, 41, 65, 0x5356_4D41] {
            assert_judged("prctl", &[(&[option], ALLOW)]);
        }
        // DUMPABLE, KEEPCAPS, SECCOMP, SECUREBITS, MM, CAP_AMBIENT, SPECULATION_CTRL, SYSCALL_USER_DISPATCH,
        // SCHED_CORE, MEMORY_MERGE, PTRACER
        for option in [4, 8, 22, 28, 35, 47, 53, 59, 62, 67, 0x5961_6D61] {
            assert_judged("prctl", &[(&[option], Verdict::Refuse(EPERM))]);
        }
    }

    #[test]
    fn personality_can_be_asked_and_left() {
        let refused = Verdict::Refuse(EPERM);
        assert_judged(
            "personality",
            &[(&[0], ALLOW), (&[0xffff_ffff], ALLOW), (&[0x0004_0000], refused), (&[8], refused)],
        );
    }

    #[test]
    fn fcntl_takes_no_leases() {
        assert_judged("fcntl", &[(&[0, 0], ALLOW), (&[0, 6], ALLOW), (&[0, 1025], ALLOW), (&[0, 1030], ALLOW)]);
        for lease in [1024, 1026, 1040] {
            assert_judged("fcntl", &[(&[0, lease], Verdict::Refuse(EPERM))]);
        }
    }

    #[test]
    fn memory_files_have_small_pages() {
        assert_judged("memfd_create", &[(&[0, 3], ALLOW), (&[0, 4], Verdict::Refuse(EINVAL)), (&[4, 0], ALLOW)]);
    }

    #[test]
    fn refusals_have_the_error_that_callers_understand() {
        assert_refused("splice tee vmsplice", EINVAL);
        assert_refused("setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr", EOPNOTSUPP);
        assert_refused("get_mempolicy mbind set_mempolicy open_tree_attr modify_ldt", ENOSYS);
        let privileged = "ptrace process_vm_readv process_vm_writev bpf perf_event_open userfaultfd io_uring_setup \
            io_uring_enter io_uring_register keyctl add_key request_key mount umount2 open_tree move_mount \
            fsopen fsmount mount_setattr unshare setns pivot_root chroot kexec_load kexec_file_load init_module \
            finit_module delete_module reboot swapon swapoff open_by_handle_at name_to_handle_at kcmp \
            pidfd_getfd process_madvise quotactl quotactl_fd acct settimeofday clock_settime setuid setgid \
            setgroups setresuid capset chown fchownat mknod mknodat seccomp shmget semget msgget mq_open \
            io_setup memfd_secret syslog";
        assert_refused(privileged, EPERM);
    }
}
