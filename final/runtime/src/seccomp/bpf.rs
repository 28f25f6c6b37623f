//! A program for the kernel's packet filter machine, which decides on each system call.
//!
//! The machine (classic BPF) has one register and jumps forward only, so each program ends. It sees `struct seccomp_data`: the
//! call's number, the calling convention, six arguments of 64 bits, and no memory: what a pointer points to cannot be judged.
//!
//! The decision is a binary search over ranges of numbers that are decided alike. A chain of comparisons would be simpler, but
//! the kernel runs the program once for every number when it is loaded, to remember which are always allowed: 10 steps
//! instead of 350 for each of 900.
//!
//! See seccomp(2), the kernel's `Documentation/userspace-api/seccomp_filter.rst`, `linux/bpf_common.h`.

use std::collections::BTreeMap;

use libc::sock_filter;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Something that must hold for an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Which argument, 0 to 5.
    pub(crate) index: u32,
    pub(crate) test: Test,
}

/// How an argument is compared, as an unsigned number of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// `argument & mask == value`
    Masked {
        mask: u64,
        value: u64,
    },
}

/// What happens (`SECCOMP_RET_*`) where all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) action: u32,
}

/// The decisions for one calling convention.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// By the call's number; the first rule that holds counts.
    pub(crate) rules: BTreeMap<u32, Vec<Rule>>,
    /// For a number up to `newest` for which no rule holds.
    pub(crate) default: u32,
    /// The highest number that was known when the rules were written.
    pub(crate) newest: u32,
    /// For numbers above it.
    pub(crate) unknown: u32,
}

/// The program: `decisions` by convention, `foreign` for any other. What stands with a convention is for numbers from the second
/// one's first number on.
pub(crate) fn program(decisions: &[(u32, Vec<(u32, Decisions)>)], foreign: u32) -> Vec<sock_filter> {
    let mut code = vec![plain(LOAD, ARCH)];
    for (arch, parts) in decisions {
        let shifted = |(first, part): &(u32, Decisions)| {
            let first = *first;
            ranges(part).into_iter().map(move |(number, code)| (first + number, code))
        };
        let search = search(&parts.iter().flat_map(shifted).collect::<Vec<_>>());
        let skip = u32::try_from(search.len() + 1).unwrap_or(u32::MAX);
        code.extend([branch(EQUAL, *arch, 1, 0), plain(JUMP, skip), plain(LOAD, NUMBER)]);
        code.extend(search);
    }
    code.push(plain(RETURN, foreign));
    code
}

/// From this number on, up to the next range, the same code decides.
type Range = (u32, Vec<sock_filter>);

fn ranges(decisions: &Decisions) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut add = |number, code: Vec<sock_filter>| {
        if ranges.last().is_none_or(|(_, last)| *last != code) {
            ranges.push((number, code));
        }
    };
    // Numbers without a rule: up to the newest that was known, and those above it.
    let gap = |add: &mut dyn FnMut(u32, Vec<sock_filter>), from: u32, to: u32| {
        let above = decisions.newest + 1;
        if from < to.min(above) {
            add(from, vec![plain(RETURN, decisions.default)]);
        }
        if from.max(above) < to {
            add(from.max(above), vec![plain(RETURN, decisions.unknown)]);
        }
    };
    let mut next = 0;
    for (&number, rules) in &decisions.rules {
        gap(&mut add, next, number);
        add(number, decide(rules, decisions.default));
        next = number + 1;
    }
    gap(&mut add, next, u32::MAX);
    ranges
}

/// Halves the ranges until one is left. Both halves end in returns, so no jump leads out of them.
fn search(ranges: &[Range]) -> Vec<sock_filter> {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let [first, ..] = high else { return Vec::new() };
    if low.is_empty() {
        return first.1.clone();
    }
    let (low, high) = (search(low), search(high));
    let mut code = match u8::try_from(low.len()) {
        Ok(skip) => vec![branch(AT_LEAST, first.0, skip, 0)],
        // A conditional jump reaches 255 instructions, an unconditional one all of them.
        Err(_) => {
            let skip = u32::try_from(low.len()).unwrap_or(u32::MAX);
            vec![branch(AT_LEAST, first.0, 0, 1), plain(JUMP, skip)]
        }
    };
    code.extend(low);
    code.extend(high);
    code
}

/// The rules for one call, one after another.
fn decide(rules: &[Rule], default: u32) -> Vec<sock_filter> {
    let mut code = Vec::new();
    for rule in rules {
        let mut block = vec![plain(RETURN, rule.action)];
        for condition in rule.conditions.iter().rev() {
            let mut test = compare(*condition, u8::try_from(block.len()).unwrap_or(u8::MAX));
            test.append(&mut block);
            block = test;
        }
        code.append(&mut block);
        if rule.conditions.is_empty() {
            return code;
        }
    }
    code.push(plain(RETURN, default));
    code
}

/// Falls through where the condition holds, and skips `rest` instructions behind it where not. The register has 32 bits, so
/// the high half of the argument is judged first.
fn compare(Condition { index, test }: Condition, rest: u8) -> Vec<sock_filter> {
    let low = plain(LOAD, ARGUMENTS + 8 * index);
    let high = plain(LOAD, ARGUMENTS + 8 * index + 4);
    let halves = |value: u64| {
        (
            u32::try_from(value >> 32).unwrap_or(u32::MAX),
            u32::try_from(value & 0xffff_ffff).unwrap_or(u32::MAX),
        )
    };
    // Offsets count from the instruction after the jump.
    match test {
        Test::Equal(value) => {
            let (h, l) = halves(value);
            vec![high, branch(EQUAL, h, 0, rest + 2), low, branch(EQUAL, l, 0, rest)]
        }
        Test::NotEqual(value) => {
            let (h, l) = halves(value);
            vec![high, branch(EQUAL, h, 0, 2), low, branch(EQUAL, l, rest, 0)]
        }
        Test::Greater(value) | Test::GreaterOrEqual(value) => {
            let (h, l) = halves(value);
            let last = if matches!(test, Test::Greater(_)) { GREATER } else { AT_LEAST };
            vec![high, branch(GREATER, h, 3, 0), branch(EQUAL, h, 0, rest + 2), low, branch(last, l, 0, rest)]
        }
        Test::Less(value) | Test::LessOrEqual(value) => {
            let (h, l) = halves(value);
            let last = if matches!(test, Test::Less(_)) { AT_LEAST } else { GREATER };
            vec![high, branch(GREATER, h, rest + 3, 0), branch(EQUAL, h, 0, 2), low, branch(last, l, rest, 0)]
        }
        Test::Masked { mask, value } => {
            let ((mh, ml), (h, l)) = (halves(mask), halves(value));
            vec![
                high,
                plain(AND, mh),
                branch(EQUAL, h, 0, rest + 3),
                low,
                plain(AND, ml),
                branch(EQUAL, l, 0, rest),
            ]
        }
    }
}

fn plain(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// What the kernel's machine would answer: the tests run programs through this.
#[cfg(test)]
pub(crate) fn evaluate(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = vec![number, arch, 0, 0];
    data.extend(arguments.iter().flat_map(|argument| {
        [u32::try_from(argument & 0xffff_ffff).unwrap(), u32::try_from(argument >> 32).unwrap()]
    }));
    let (mut register, mut at) = (0, 0);
    loop {
        let instruction = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { instruction.jt } else { instruction.jf });
        match instruction.code {
            LOAD => register = data[usize::try_from(instruction.k / 4).unwrap()],
            AND => register &= instruction.k,
            JUMP => at += usize::try_from(instruction.k).unwrap(),
            EQUAL => at += jump(register == instruction.k),
            GREATER => at += jump(register > instruction.k),
            AT_LEAST => at += jump(register >= instruction.k),
            RETURN => return instruction.k,
            other => panic!("no instruction {other:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decisions(number: u32, rules: Vec<Rule>) -> Vec<(u32, Vec<(u32, Decisions)>)> {
        let rules = BTreeMap::from([(number, rules)]);
        vec![(7, vec![(0, Decisions { rules, default: 1, newest: 400, unknown: 38 })])]
    }

    #[test]
    fn numbers_are_decided_at_the_edges_of_their_ranges() {
        let program = program(&decisions(10, vec![Rule { conditions: vec![], action: 9 }]), 5);
        let answers = [0, 9, 10, 11, 400, 401, u32::MAX].map(|number| evaluate(&program, 7, number, [0; 6]));
        assert_eq!(answers, [1, 1, 9, 1, 1, 38, 38]);
        assert_eq!(evaluate(&program, 8, 10, [0; 6]), 5);
    }

    #[test]
    fn numbers_far_above_have_rules_of_their_own() {
        let rule = |action| vec![Rule { conditions: vec![], action }];
        let part = |number, action, newest| Decisions {
            rules: BTreeMap::from([(number, rule(action))]),
            default: 1,
            newest,
            unknown: 38,
        };
        let program = program(&[(7, vec![(0, part(500, 9, 400)), (1 << 30, part(3, 8, 4))])], 5);
        let numbers =
            [400, 401, 499, 500, 501, (1 << 30) - 1, 1 << 30, (1 << 30) + 3, (1 << 30) + 5, u32::MAX];
        let answers = numbers.map(|number| evaluate(&program, 7, number, [0; 6]));
        assert_eq!(answers, [1, 38, 38, 9, 38, 38, 1, 8, 38, 38]);
    }

    #[test]
    fn a_long_program_jumps_as_far_as_it_must() {
        let rules = (0..400).map(|n| (n, vec![Rule { conditions: vec![], action: n + 1000 }])).collect();
        let program =
            program(&[(7, vec![(0, Decisions { rules, default: 1, newest: 399, unknown: 38 })])], 5);
        for number in 0..400 {
            assert_eq!(evaluate(&program, 7, number, [0; 6]), number + 1000);
        }
    }

    type Expected = fn(u64) -> bool;

    #[test]
    fn arguments_are_compared_with_all_their_bits() {
        const BIG: u64 = (3 << 32) + 5;
        let values = [0, 4, 5, 6, 2 << 32, BIG - 1, BIG, BIG + 1, 4 << 32, u64::MAX];
        let tests: [(Test, Expected); 7] = [
            (Test::Equal(BIG), |v| v == BIG),
            (Test::NotEqual(BIG), |v| v != BIG),
            (Test::Less(BIG), |v| v < BIG),
            (Test::LessOrEqual(BIG), |v| v <= BIG),
            (Test::Greater(BIG), |v| v > BIG),
            (Test::GreaterOrEqual(BIG), |v| v >= BIG),
            (Test::Masked { mask: 0x1_0000_0001, value: 0x1_0000_0001 }, |v| {
                v & 0x1_0000_0001 == 0x1_0000_0001
            }),
        ];
        for (test, expected) in tests {
            // A second condition, so that failing the first must skip it, and a second rule behind.
            let conditions = vec![Condition { index: 2, test }, Condition { index: 0, test: Test::Equal(0) }];
            let second = Rule { conditions: vec![Condition { index: 0, test: Test::Equal(1) }], action: 7 };
            let program = program(&decisions(3, vec![Rule { conditions, action: 9 }, second]), 5);
            for value in values {
                let answer = evaluate(&program, 7, 3, [0, 0, value, 0, 0, 0]);
                assert_eq!(answer, if expected(value) { 9 } else { 1 }, "{test:?} {value:#x}");
                assert_eq!(evaluate(&program, 7, 3, [1, 0, value, 0, 0, 0]), 7);
            }
        }
    }
}
