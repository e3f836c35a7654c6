//! The system calls that a fenced command is refused: those that reach other processes, the kernel itself or the network.
//!
//! A list of what is refused: what ordinary programs call is too much to list, and the files are landlock's. Programs of
//! another architecture than this one (32 bit) are killed: their calls have other numbers.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::{collections::BTreeMap, fmt::Display};

/// What makes namespaces and mounts: another view of the files, or rights that only count in there, on code of the kernel
/// that only root was meant to reach. Bubblewrap needs them; what it starts has no right to them.
const VIEWS: &[i64] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Refused whatever their arguments are.
const NEVER: &[i64] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Files by other ways than their paths.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // The kernel and the machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_syslog,
    // Keys of this user's session.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Makes sockets and opens files past this filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Flags of `clone` that make namespaces.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Requests that type into a terminal.
const TYPING: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];
/// `SOCK_STREAM` and its like are the low bits; flags stand above them.
const SOCKET_TYPE: u64 = 0xf;
/// Families of sockets that are known to be kept in: this machine, IPv4, IPv6, and the questions about interfaces.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Calls by their numbers, with the rules of which one has to hold; none is always.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Restricts the calling thread, and all that it starts: a command, or the program that is to put it into namespaces.
pub(super) fn refuse(network: bool, bubblewrap: bool) -> Result<(), String> {
    // As if the kernel were an older one: libraries then fall back to `clone`, whose flags can be seen.
    let unknown = Rules::from([(libc::SYS_clone3, Vec::new())]);
    for (rules, errno) in [(rules(network, bubblewrap)?, libc::EPERM), (unknown, libc::ENOSYS)] {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(said)?;
        let action = SeccompAction::Errno(errno.cast_unsigned());
        let filter = SeccompFilter::new(with_aliases(rules), SeccompAction::Allow, action, arch).map_err(said)?;
        let program: BpfProgram = filter.try_into().map_err(said)?;
        seccompiler::apply_filter(&program).map_err(said)?;
    }
    Ok(())
}

fn rules(network: bool, bubblewrap: bool) -> Result<Rules, String> {
    let mut rules: Rules = NEVER.iter().map(|call| (*call, Vec::new())).collect();
    if !bubblewrap {
        rules.extend(VIEWS.iter().map(|call| (*call, Vec::new())));
        let flags = NAMESPACES.map(|flag| {
            let flag = u64::from(flag.cast_unsigned());
            rule([(0, Len::Qword, Op::MaskedEq(flag), flag)])
        });
        rules.insert(libc::SYS_clone, flags.into_iter().collect::<Result<_, _>>()?);
    }
    let typing = TYPING.map(|request| rule([(1, Len::Dword, Op::Eq, request)]));
    rules.insert(libc::SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    let others = rule(FAMILIES.map(|family| (0, Len::Dword, Op::Ne, u64::from(family.cast_unsigned()))))?;
    if network {
        rules.insert(libc::SYS_socket, vec![others]);
    } else if bubblewrap {
        // In a network of its own sockets reach nobody, but those of files that it is given. Daemons talk in streams;
        // bubblewrap looks up its interface by a socket for datagrams.
        let streams = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET].map(|kind| {
            let (local, kind) = (u64::from(libc::AF_UNIX.cast_unsigned()), u64::from(kind.cast_unsigned()));
            rule([(0, Len::Dword, Op::Eq, local), (1, Len::Dword, Op::MaskedEq(SOCKET_TYPE), kind)])
        });
        let streams = streams.into_iter().collect::<Result<Vec<_>, _>>()?;
        rules.insert(libc::SYS_socket, streams.into_iter().chain([others]).collect());
    } else {
        // No socket at all: one of this machine alone reaches its daemons, and some of those (containers, desktops) do
        // whatever they are told. Pairs stay, they reach nobody, but for those that can be told where to send.
        rules.insert(libc::SYS_socket, Vec::new());
        let datagrams = u64::from(libc::SOCK_DGRAM.cast_unsigned());
        rules.insert(libc::SYS_socketpair, vec![rule([(1, Len::Dword, Op::MaskedEq(SOCKET_TYPE), datagrams)])?]);
    }
    Ok(rules)
}

fn rule<const N: usize>(conditions: [(u8, Len, Op, u64); N]) -> Result<SeccompRule, String> {
    let condition = |(argument, len, op, value)| SeccompCondition::new(argument, len, op, value);
    let conditions = conditions.into_iter().map(condition).collect::<Result<_, _>>().map_err(said)?;
    SeccompRule::new(conditions).map_err(said)
}

/// On x86-64 some kernels know each call by a second number, and a few by a third.
#[cfg(target_arch = "x86_64")]
fn with_aliases(rules: Rules) -> Rules {
    const X32: i64 = 0x4000_0000;
    const RENUMBERED: [(i64, i64); 5] = [
        (libc::SYS_ioctl, 514),
        (libc::SYS_ptrace, 521),
        (libc::SYS_kexec_load, 528),
        (libc::SYS_process_vm_readv, 539),
        (libc::SYS_process_vm_writev, 540),
    ];
    let third = RENUMBERED.iter().filter_map(|(call, again)| Some((X32 | again, rules.get(call)?.clone())));
    let more: Rules = rules.iter().map(|(call, rules)| (X32 | call, rules.clone())).chain(third).collect();
    rules.into_iter().chain(more).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn with_aliases(rules: Rules) -> Rules {
    rules
}

fn said(e: impl Display) -> String {
    e.to_string()
}
