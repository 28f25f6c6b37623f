//! The program, run by a small machine of the test's own; and given to the kernel where that is allowed.

use super::*;

/// Runs the program as the kernel would: does it allow this access to this device?
fn allows(rules: &[DeviceRule], kind: DeviceKind, major: u32, minor: u32, access: Access) -> bool {
    let kind = if kind == DeviceKind::Block { 1 } else { 2 };
    let context = [u32::from(access.0) << 16 | kind, major, minor];
    let program = program(rules);
    let (mut registers, mut at) = ([0_u32; 11], 0_usize);
    loop {
        let Instruction { code, registers: pair, offset, immediate } = program[at];
        let (dst, src) = (usize::from(pair & 15), usize::from(pair >> 4));
        at += 1;
        let number = immediate.cast_unsigned();
        let jump = match code {
            0x61 => {
                registers[dst] = context[usize::try_from(offset).unwrap() / 4];
                false
            }
            0xb4 => {
                registers[dst] = number;
                false
            }
            0xbc => {
                registers[dst] = registers[src];
                false
            }
            0x54 => {
                registers[dst] &= number;
                false
            }
            0x74 => {
                registers[dst] >>= number;
                false
            }
            0x55 => registers[dst] != number,
            0x15 => registers[dst] == number,
            0x95 => return registers[0] == 1,
            other => panic!("no instruction {other:#x}"),
        };
        if jump {
            at += usize::try_from(offset).unwrap();
        }
    }
}

fn rule(
    allow: bool,
    kind: Option<DeviceKind>,
    numbers: (Option<u32>, Option<u32>),
    access: &str,
) -> DeviceRule {
    DeviceRule { allow, kind, major: numbers.0, minor: numbers.1, access: Access::parse(access).unwrap() }
}

const CHAR: Option<DeviceKind> = Some(DeviceKind::Char);
const READ_WRITE: Access = Access(6);

#[test]
fn what_fits_no_rule_is_denied() {
    for rules in [vec![], vec![rule(false, None, (None, None), "rwm")]] {
        assert!(!allows(&rules, DeviceKind::Char, 1, 3, Access::READ));
    }
    assert!(allows(&[rule(true, None, (None, None), "rwm")], DeviceKind::Block, 8, 0, Access::ALL));
}

#[test]
fn kind_and_numbers_must_fit() {
    let rules = [rule(false, None, (None, None), "rwm"), rule(true, CHAR, (Some(1), Some(3)), "rw")];
    assert!(allows(&rules, DeviceKind::Char, 1, 3, READ_WRITE));
    assert!(!allows(&rules, DeviceKind::Char, 1, 3, Access::MKNOD));
    assert!(!allows(&rules, DeviceKind::Char, 1, 5, Access::READ));
    assert!(!allows(&rules, DeviceKind::Char, 2, 3, Access::READ));
    assert!(!allows(&rules, DeviceKind::Block, 1, 3, Access::READ));
    let terminals = [rule(true, CHAR, (Some(136), None), "rwm")];
    assert!(allows(&terminals, DeviceKind::Char, 136, 77, Access::ALL));
}

#[test]
fn the_last_rule_that_fits_decides_for_each_access() {
    let rules = [rule(true, CHAR, (None, None), "rwm"), rule(false, CHAR, (Some(5), Some(1)), "w")];
    assert!(allows(&rules, DeviceKind::Char, 5, 1, Access::READ));
    assert!(!allows(&rules, DeviceKind::Char, 5, 1, READ_WRITE), "a hole, which version 1 cannot have");
    assert!(allows(&rules, DeviceKind::Char, 5, 2, READ_WRITE));
    let again = [rules[0], rules[1], rule(true, CHAR, (Some(5), Some(1)), "w")];
    assert!(allows(&again, DeviceKind::Char, 5, 1, READ_WRITE));
    let halves = [rule(true, CHAR, (Some(1), Some(3)), "r"), rule(true, None, (Some(1), None), "w")];
    assert!(allows(&halves, DeviceKind::Char, 1, 3, READ_WRITE), "two rules may allow a half each");
    assert!(!allows(&halves, DeviceKind::Char, 1, 5, READ_WRITE));
}

#[test]
fn rules_before_the_last_one_for_everything_cost_nothing() {
    let everything = rule(false, None, (None, None), "rwm");
    let long =
        [rule(true, CHAR, (Some(1), Some(3)), "rw"), everything, rule(true, CHAR, (Some(1), Some(5)), "r")];
    assert_eq!(program(&long), program(&long[1..]));
}

#[test]
fn the_kernel_takes_every_program() {
    if load(&[Instruction::set(0, 1), Instruction::EXIT]).is_err() {
        // An ordinary user may not.
        return;
    }
    let numbers = [None, Some(0), Some(5)];
    let every = [true, false].into_iter().flat_map(|allow| {
        [None, CHAR].into_iter().flat_map(move |kind| {
            numbers.into_iter().flat_map(move |major| {
                ["rwm", "r", "wm"]
                    .into_iter()
                    .map(move |access| rule(allow, kind, (major, numbers[1]), access))
            })
        })
    });
    let rules: Vec<_> = every.collect();
    load(&program(&rules)).unwrap();
    for rule in &rules {
        load(&program(&[*rule])).unwrap();
    }
}
