//! The table of known ways out of a container: what each is, its page in the book, and the tests that try it.
//!
//! A test of the house's rules holds it: each page and each test is there, and the book's own table says the same.

/// A way out that was found in some runtime, or in the kernel, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// As it is called in public: CVE numbers where it has any.
    pub id: &'static [&'static str],
    /// What it does, in a few words.
    pub title: &'static str,
    /// The page below `book/src/attacks/`, without `.md`.
    pub page: &'static str,
    /// The tests that run it for real, without `runtime::attacks::`.
    pub tests: &'static [&'static str],
}

/// All of them, in the order of the book.
pub const KNOWN: &[Known] = &[
    Known {
        id: &["CVE-2019-5736"],
        title: "overwrite the runtime through /proc/self/exe",
        page: "own-exe",
        tests: &["own_exe_is_not_writable", "user_own_exe_is_not_writable", "an_image_runs_the_runtime"],
    },
    Known {
        id: &["CVE-2024-21626"],
        title: "a descriptor that the runtime left open, as the working directory",
        page: "leaked-descriptors",
        tests: &[
            "cwd_by_a_descriptor",
            "exec_in_a_cwd_by_a_descriptor",
            "no_descriptor_is_left_open",
            "the_hosts_null_is_not_handed_in",
        ],
    },
    Known {
        id: &["CVE-2021-30465", "CVE-2018-15664"],
        title: "swap a directory for a link while it is mounted on",
        page: "mount-races",
        tests: &["links_swapped_below_a_mount", "links_swapped_at_a_mount", "links_swapped_at_the_cwd"],
    },
    Known {
        id: &["CVE-2019-16884", "CVE-2019-19921", "CVE-2023-27561"],
        title: "a /proc that is a link, or is covered through one",
        page: "crafted-proc",
        tests: &["a_volume_over_proc_by_a_link", "proc_is_a_link", "proc_swapped_while_it_is_masked"],
    },
    Known {
        id: &["CVE-2022-0492"],
        title: "a program of the container's as the host's release agent",
        page: "release-agent",
        tests: &["the_release_agent"],
    },
    Known {
        id: &["CVE-2020-15257"],
        title: "the host's daemons by an abstract socket",
        page: "abstract-sockets",
        tests: &["abstract_sockets_of_the_host"],
    },
    Known {
        id: &["CVE-2025-31133"],
        title: "another file in the place of /dev/null, with which others are masked",
        page: "masked-paths",
        tests: &["dev_null_is_a_link", "dev_null_swapped_while_it_masks"],
    },
    Known {
        id: &["CVE-2025-52565"],
        title: "another file in the place of the terminal that becomes /dev/console",
        page: "console",
        tests: &["the_console_is_the_terminal", "a_crafted_devpts"],
    },
    Known {
        id: &["CVE-2025-52881"],
        title: "turn the runtime's own writes to /proc to another file",
        page: "procfs-writes",
        tests: &["settings_go_to_proc_alone", "settings_while_proc_is_swapped"],
    },
    Known {
        id: &["CVE-2022-29162"],
        title: "capabilities that a program inherits unasked",
        page: "inheritable-capabilities",
        tests: &["nothing_is_inheritable"],
    },
    Known {
        id: &["CVE-2016-9962"],
        title: "trace the runtime while it enters the container",
        page: "ptrace",
        tests: &["the_init_process_cannot_be_traced", "exec_is_hunted"],
    },
    Known {
        id: &["keyring"],
        title: "keys of the caller's session",
        page: "keyring",
        tests: &["the_callers_keys"],
    },
    Known {
        id: &["core_pattern"],
        title: "a program of the container's, run by the host's kernel when something crashes",
        page: "core-pattern",
        tests: &["core_pattern"],
    },
    Known {
        id: &["mknod"],
        title: "a device node for the host's disk",
        page: "device-nodes",
        tests: &[
            "a_made_node_opens_nothing",
            "a_node_of_the_image_opens_nothing",
            "a_node_where_a_device_is_asked_for",
        ],
    },
    Known {
        id: &["setuid"],
        title: "a set-user-id program under no_new_privs",
        page: "setuid",
        tests: &["setuid_gives_nothing"],
    },
    Known {
        id: &["links in config.json"],
        title: "an image with a link in every place that the configuration names",
        page: "links",
        tests: &["links_in_every_path", "the_root_is_a_link"],
    },
    Known {
        id: &["pid reuse"],
        title: "a process that has the number of one that ended",
        page: "pid-reuse",
        tests: &["a_forged_state", "a_number_used_again"],
    },
];
